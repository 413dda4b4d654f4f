"""What the report reads out of a run record: every value checked once, here, and missing ones None.

A record may come from a killed run, an older version or someone else, so nothing in it is taken on trust.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.record import RunRecord
from unvanish.report.wording import part_order

Series = list[float | None]


def number(value: Any) -> float | None:
    """Take a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        taken = float(value)
    except OverflowError:
        return None
    return taken if math.isfinite(taken) else None


def series(value: Any) -> Series:
    """Take a list of numbers."""
    return [number(inner) for inner in value] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """Take a mapping with names as keys."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def text(value: Any) -> str:
    """Take a value as text; None is empty, and so is a number too long to be written."""
    try:
        return "" if value is None else str(value)
    except ValueError:
        return ""


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
        own = self.norms.get(state, [])
        nearest = self.lags.index(min(self.lags)) if self.lags else 0
        for norms in (own, self.norms.get("all", [])):
            start = norms[nearest] if nearest < len(norms) else None
            if start:
                return [_quotient(norm, start) for norm in own]
        return [None] * len(own)


@dataclass(frozen=True)
class Moment:
    """One measurement of the gradient along time."""

    step: int
    profiles: dict[str, Profile]
    loss_norms: dict[str, dict[str, Series]]


@dataclass(frozen=True)
class Penalty:
    """What a `step` line says of one penalty."""

    value: float | None
    acted: float
    spread: float | None


@dataclass(frozen=True)
class Remedy:
    """What one `remedy` line says: the profiles with and without it.

    `depth` is the share of the gradient that is left at the first layer, without and with a connection.
    """

    step: int
    name: str
    asked: str
    profiles: dict[str, Profile]
    without: dict[str, Profile]
    depth: tuple[float | None, float | None]


@dataclass(frozen=True)
class Step:
    """What one `step` line says."""

    step: int
    loss: float | None
    gradient_norm: float | None
    parameter_norm: float | None
    learning_rate: float | None
    clipped: float
    steps: float
    factor: float | None
    adjoints: tuple[float, float]
    penalties: dict[str, Penalty]


@dataclass(frozen=True)
class Valid:
    """What one `valid` line says."""

    step: int
    epoch: float | None
    loss: float | None
    bits: float | None
    perplexity: float | None
    tokens_per_second: float | None
    reach: dict[str, Reach]


@dataclass(frozen=True)
class Event:
    """What one `event` line says."""

    step: int | None
    seconds: float | None
    what: str
    text: str


@dataclass(frozen=True)
class Sample:
    """What the network wrote at one moment."""

    step: int | None
    prompt: str
    text: str


@dataclass(frozen=True)
class Run:
    """One run, read and checked."""

    config: dict[str, Any]
    steps: list[Step]
    valids: list[Valid]
    moments: list[Moment]
    remedies: list[Remedy]
    events: list[Event]
    samples: list[Sample]
    seconds: float | None

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read the record in a run's folder."""
        record = RunRecord.open(folder)
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in record.read():
            lines.setdefault(text(line.get("kind")), []).append(line)
        spans = [number(line.get("seconds")) for kind in lines.values() for line in kind]
        return cls(
            config=mapping(record.config),
            steps=[_step(line, at) for line, at in _dated(lines.get("step", []))],
            valids=[_valid(line, at) for line, at in _dated(lines.get("valid", []))],
            moments=[_moment(line, at) for line, at in _dated(lines.get("flow", []))],
            remedies=[_remedy(line, at) for line, at in _dated(lines.get("remedy", []))],
            events=[_event(line) for line in lines.get("event", [])],
            samples=[_sample(line) for line in lines.get("sample", [])],
            seconds=max((span for span in spans if span is not None), default=None),
        )

    @property
    def parts(self) -> list[str]:
        """The parts that any measurement names, in the order of the layers."""
        named = {part for moment in self.moments for part in (*moment.profiles, *moment.loss_norms)}
        named.update(part for valid in self.valids for part in valid.reach)
        return sorted(named, key=part_order)

    @property
    def reaches(self) -> list[Reach]:
        """The latest reach of each part; at the same step a flow line wins over a valid line."""
        latest: dict[str, Reach] = {}
        for valid in self.valids:
            latest.update(valid.reach)
        for moment in self.moments:
            for part, profile in moment.profiles.items():
                if part not in latest or latest[part].at <= moment.step:
                    latest[part] = Reach(part, profile.reach, profile.censored, profile.rate, moment.step)
        return [latest[part] for part in sorted(latest, key=part_order)]

    @property
    def status(self) -> str:
        """What the last event says: finished, stopped, non-finite, or unfinished where none says so."""
        last = self.events[-1].what if self.events else ""
        return last if last in {"finished", "stopped", "non-finite"} else "unfinished"

    @property
    def last_step(self) -> int | None:
        """The last optimiser step that any line names."""
        named = [line.step for lines in (self.steps, self.valids, self.moments) for line in lines]
        return max(named, default=None)

    @property
    def clipped_share(self) -> float | None:
        """The share of optimiser steps that were clipped."""
        total = sum(step.steps for step in self.steps)
        return sum(step.clipped for step in self.steps) / total if total else None


def _quotient(norm: float | None, start: float) -> float | None:
    return None if norm is None else number(norm / start)


def _dated(lines: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    for line in lines:
        at = number(line.get("step"))
        if at is not None:
            yield line, round(at)


def whole(value: Any) -> int | None:
    """Take a finite number, rounded."""
    taken = number(value)
    return None if taken is None else round(taken)


def _amount(value: Any) -> float:
    """Take a count that may be summed over a run: no sign, nothing absurd."""
    taken = number(value)
    return taken if taken is not None and 0 <= taken < 1e15 else 0.0


def _step(line: dict[str, Any], at: int) -> Step:
    return Step(
        step=at,
        loss=number(line.get("loss")),
        gradient_norm=number(line.get("gradient_norm")),
        parameter_norm=number(line.get("parameter_norm")),
        learning_rate=number(line.get("learning_rate")),
        clipped=_amount(line.get("clipped")),
        steps=_amount(line.get("steps")),
        factor=number(line.get("factor")),
        adjoints=_pair(line.get("adjoints")),
        penalties={word: _penalty(mapping(one)) for word, one in mapping(line.get("penalties")).items()},
    )


def _pair(value: Any) -> tuple[float, float]:
    given = value if isinstance(value, list) and len(value) == 2 else [0, 0]
    return _amount(given[0]), _amount(given[1])


def _penalty(one: dict[str, Any]) -> Penalty:
    spreads = [number(spread) for spread in mapping(one.get("spread")).values()]
    known = [spread for spread in spreads if spread is not None]
    return Penalty(
        number(one.get("value")), _amount(one.get("acted")), number(sum(known) / len(known)) if known else None
    )


def _remedy(line: dict[str, Any], at: int) -> Remedy:
    depth = mapping(line.get("depth"))
    return Remedy(
        at,
        text(line.get("name")),
        text(line.get("asked")),
        _profiles(line.get("profiles")),
        _profiles(line.get("without")),
        (_deepest(depth.get("without")), _deepest(depth.get("with"))),
    )


def _deepest(value: Any) -> float | None:
    """Take what is left at the first layer."""
    norms = series(mapping(value).get("norms"))
    return norms[-1] if norms else None


def _profiles(value: Any) -> dict[str, Profile]:
    return {part: read_profile(mapping(one)) for part, one in mapping(value).items()}


def _valid(line: dict[str, Any], at: int) -> Valid:
    loss = number(line.get("loss"))
    bits, perplexity = number(line.get("bits")), number(line.get("perplexity"))
    return Valid(
        step=at,
        epoch=number(line.get("epoch")),
        loss=loss,
        bits=loss / math.log(2) if bits is None and loss is not None else bits,
        perplexity=math.exp(loss) if perplexity is None and loss is not None and loss < 700 else perplexity,
        tokens_per_second=number(line.get("tokens_per_second")),
        reach={part: _reach(part, mapping(one), at) for part, one in mapping(line.get("reach")).items()},
    )


def _reach(part: str, one: dict[str, Any], at: int) -> Reach:
    return Reach(part, whole(one.get("steps")), one.get("censored") is True, number(one.get("rate")), at)


def _moment(line: dict[str, Any], at: int) -> Moment:
    loss_norms = {
        part: {state: series(norms) for state, norms in mapping(states).items()}
        for part, states in mapping(line.get("loss_norms")).items()
    }
    return Moment(at, _profiles(line.get("profiles")), loss_norms)


def read_profile(one: dict[str, Any]) -> Profile:
    """Take a profile; where its lags have a gap, one without lags."""
    lags = series(one.get("lags"))
    if None in lags:  # a gap would shift every norm after it: better no picture than a wrong one
        lags = []
    norms = {state: series(norms) for state, norms in mapping(one.get("norms")).items()}
    return Profile(
        lags=[lag for lag in lags if lag is not None],
        norms={state: (known + [None] * len(lags))[: len(lags)] for state, known in norms.items()},
        rate=number(one.get("rate")),
        level=number(one.get("level")),
        reach=whole(one.get("reach")),
        censored=one.get("censored") is True,
    )


def _event(line: dict[str, Any]) -> Event:
    return Event(
        whole(line.get("step")), number(line.get("seconds")), text(line.get("what")), text(line.get("text"))
    )


def _sample(line: dict[str, Any]) -> Sample:
    return Sample(whole(line.get("step")), text(line.get("prompt")), text(line.get("text")))
