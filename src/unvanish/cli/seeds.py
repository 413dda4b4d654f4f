"""`unvanish train --seeds 5`: the same training from several seeds in turn, and their mean and range."""

from __future__ import annotations

import dataclasses
import datetime
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from unvanish.cli.show import console, note, plain
from unvanish.errors import RunError
from unvanish.record import CONFIG, RunRecord

if TYPE_CHECKING:
    from unvanish.train import Training, TrainSettings

PREFIX, PAGE = "seed-", "compare.html"


def runs_in(folder: Path) -> list[Path]:
    """The runs of a folder of seeds, in their order; none where it is not one."""
    if (folder / CONFIG).exists():
        return []
    found = [path.parent for path in folder.glob(f"{PREFIX}*/{CONFIG}")]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def train_seeds(
    settings: TrainSettings, count: int, out: Path | None, prepare: Callable[..., Training], lr_find: bool
) -> None:
    """Prepare all of them, so that a folder that is broken off says what is missing; then train them."""
    base = out or Path("runs") / f"{settings.cell}-{datetime.datetime.now():%Y%m%d-%H%M%S}-seeds"
    first = settings.seed
    for seed in range(first, first + count):
        training = prepare(
            dataclasses.replace(settings, seed=seed),
            base / f"{PREFIX}{seed}",
            lr_find=lr_find and seed == first,
            say=plain if seed == first else lambda _: None,
        )
        settings = dataclasses.replace(settings, lr=training.session.settings.lr)
        training.claim.release()
    go_on(base, {})


def go_on(base: Path, changes: dict[str, Any]) -> None:
    """Train what is not finished, and show mean and range of all."""
    from unvanish import report
    from unvanish.train import prepare_resume

    folders = runs_in(base)
    for folder in folders:
        if not changes and _finished(folder):
            continue
        plain(f"\n{folder.name.replace('-', ' ')}, {folders.index(folder) + 1} of {len(folders)}")
        outcome = prepare_resume(folder, **changes, say=note).run(plain)
        report.write_report(folder)
        if outcome.interrupted:
            plain(f"stopped and saved; go on with  unvanish train --resume {base}")
            raise typer.Exit(128 + outcome.interrupted)
        if outcome.stopped:
            plain(f"stopped and saved: {outcome.stopped}; go on with  unvanish train --resume {base}")
    console.print(_table(folders))
    if len(folders) > 1:
        found = report.compare(folders)
        plain(report.finding(found))
        plain(f"page    {report.write_comparison(found, base / PAGE)}")


def _finished(folder: Path) -> bool:
    events = [line.get("what") for line in RunRecord.open(folder).read("event")]
    return events[-1:] == ["finished"]


def _table(folders: list[Path]) -> Table:
    """Mean and range over the seeds of what the last validation found."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("", *(folder.name.removeprefix(PREFIX) for folder in folders), "mean", "least", "greatest"):
        table.add_column(head, justify="right" if head else "left")
    found = [_last(folder) for folder in folders]
    for name in found[0]:
        values = [one[name] for one in found if name in one]
        summed = statistics.fmean(values), min(values), max(values)
        table.add_row(name, *(_text(one.get(name)) for one in found), *map(_text, summed))
    return table


def _last(folder: Path) -> dict[str, float]:
    from unvanish.record.schema import Valid  # pydantic takes longer than all of --help

    valid = [line for line in map(Valid.read, RunRecord.open(folder).read("valid")) if line.loss is not None]
    if not valid:
        raise RunError(f"{folder} was never validated: go on with  unvanish train --resume {folder}")
    shown = {name: value for name, value in valid[-1].metrics.items() if value is not None}
    return shown | {f"reach of {part}": one.steps for part, one in valid[-1].reach.items() if one.steps is not None}


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
