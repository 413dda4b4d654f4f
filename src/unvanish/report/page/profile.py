"""How far back a gradient reaches, as both pages read it and show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from unvanish.record import schema
from unvanish.record.schema import number
from unvanish.report.page.axes import Series
from unvanish.report.page.blocks import tile
from unvanish.report.page.markup import Child, Html, element
from unvanish.report.page.wording import CENSORED, count, halving, inside, prose, steps


@dataclass(frozen=True)
class Reach:
    """How far back the gradient of one part reached."""

    part: str
    steps: int | None
    censored: bool
    rate: float | None
    at: int

    @property
    def shown(self) -> str:
        """The figure as it stands on the page."""
        return "—" if self.steps is None else f"{'≥ ' if self.censored else ''}{self.steps:,}"


@dataclass(frozen=True)
class Profile:
    """Gradient norm against lag at one moment of training."""

    lags: list[float]
    norms: dict[str, Series]
    rate: float | None
    level: float | None
    reach: int | None
    censored: bool

    def relative(self, state: str) -> Series:
        """Divide a state's norms by its norm at lag 0, or by the full state's where its own is zero there."""
        if state not in self._relative:
            self._relative[state] = self._divided(state)
        return self._relative[state]

    @cached_property
    def _relative(self) -> dict[str, Series]:
        return {}

    def _divided(self, state: str) -> Series:
        own = self.norms.get(state, [])
        nearest = self.lags.index(min(self.lags)) if self.lags else 0
        for norms in (own, self.norms.get("all", [])):
            start = norms[nearest] if nearest < len(norms) else None
            if start:
                return [_quotient(norm, start) for norm in own]
        return [None] * len(own)


def profile_of(one: schema.Profile) -> Profile:
    """Take a profile; where its lags have a gap, one without lags."""
    # A gap would shift every norm after it: better no picture than a wrong one.
    lags = [] if None in one.lags else [lag for lag in one.lags if lag is not None]
    return Profile(
        lags=lags,
        norms={state: (known + [None] * len(lags))[: len(lags)] for state, known in one.norms.items()},
        rate=one.rate,
        level=one.level,
        reach=one.reach,
        censored=one.censored,
    )


def _quotient(norm: float | None, start: float) -> float | None:
    return None if norm is None else number(norm / start)


def far(reach: Reach) -> str:
    """Write a reach in words."""
    return f"{'at least ' if reach.censored else ''}{count(reach.steps)}"


def reach_tile(reach: Reach) -> Html:
    """Show how far the gradient of one part reaches."""
    explained = CENSORED if reach.censored else halving(reach.rate)
    if reach.steps is None:
        explained = "could not be measured"
    return tile(
        reach.shown,
        f"reach of {inside(reach.part)}",
        f"{steps(reach.steps)} back in time" if reach.steps is not None else explained,
        class_="reach",
        title=explained[:1].upper() + explained[1:],
        data_part=reach.part,
        data_reach="" if reach.steps is None else reach.steps,
        data_censored="true" if reach.censored else "false",
    )


def censored_note(reaches: Sequence[Reach]) -> Child:
    """Explain the sign of a reach that is a lower bound."""
    if not any(reach.censored and reach.steps is not None for reach in reaches):
        return None
    return element("p", prose(f"“≥” means that {CENSORED}."), class_="note")
