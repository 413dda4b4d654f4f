"""What would help where the gradient does not come as far back as the data need: options, each measured.

A remedy changes what a network is when it is made, so it is measured on a fresh one, from the seed of the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from unvanish import flow
from unvanish.cells import find
from unvanish.equations import Cell
from unvanish.errors import UnvanishError
from unvanish.record.reaching import LOST, held_back
from unvanish.record.schema import Need, Valid
from unvanish.train.measure import measure, probe_seed
from unvanish.train.remedies import made
from unvanish.train.session import Session

GATED = "lstm"
MOST = 3  # options that are told


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the command line, and how far the gradient comes with it at the start."""

    flag: str
    reach: int
    censored: bool

    def __str__(self) -> str:
        return f"{self.flag} ({'≥ ' if self.censored else ''}{self.reach:,})"


def advise(session: Session) -> list[Option]:
    """Return the options that reach furthest, if the gradient is lost on the way; the best first."""
    need = next((line for line in map(Need.read, session.record.read("need")) if line.lag), None)
    valid = [line for line in map(Valid.read, session.record.read("valid")) if line.reach]
    if need is None or not valid:
        return []
    reach = max((one.steps or 0 for one in valid[-1].reach.values()), default=0)
    if held_back(reach, session.settings.length, need.lag) != LOST:
        return []
    x = session.material.probe()
    found = [one for one in _measured(session, x, int(need.lag or 0)) if one.reach > reach]
    return sorted(found, key=lambda one: -one.reach)[:MOST]


def _measured(session: Session, x: Any, need: int) -> Iterator[Option]:
    settings, own = session.settings, session.module.model.recurrent.cell
    options: list[tuple[str, dict[str, Any], Cell]] = [
        (f"--init {word}", {"init": [*settings.init, word]}, own)
        for word in ("orthogonal", f"chrono:{max(need, 2)}")
        if word not in settings.init
    ]
    if need >= 4 and not settings.skips:
        options.append((f"--skips {need // 2}", {"skips": [need // 2]}, own))
    if own.name != GATED and not settings.cell_options:
        options.append(
            (f"--cell {GATED} --init chrono:{max(need, 2)}", {"init": [f"chrono:{max(need, 2)}"]}, find(GATED))
        )
    for flag, changes, cell in options:
        try:
            network = made(session.module, dataclasses.replace(settings, **changes), cell)
            profiles = measure(network, x, probe_seed(settings.seed, 0))
        except UnvanishError:  # the cell has nothing that this could change
            continue
        best: flow.Profile = max(profiles.values(), key=lambda one: one.reach)
        yield Option(flag, best.reach, best.censored)


def say_advice(session: Session, step: int, seconds: float) -> str:
    """Keep what would help, and say it in a line; empty where nothing is to be said."""
    options = advise(session)
    if not options:
        return ""
    listed = [dataclasses.asdict(one) for one in options]
    session.record.append("advice", step, seconds, options=listed)
    return f"would reach further, measured at the start of training: {', '.join(map(str, options))}"
