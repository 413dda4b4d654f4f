"""What the report reads out of a run record: every value checked once, here, and missing ones None.

A record may come from a killed run, an older version or someone else, so nothing in it is taken on trust.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unvanish.record import RunRecord, schema
from unvanish.record.schema import Event, Need, Sample, Step, mapping, number, text
from unvanish.report.page.axes import Series
from unvanish.report.page.profile import Profile, Reach, profile_of
from unvanish.report.page.wording import part_order
from unvanish.report.run.answers import Asked, Worth

Found = TypeVar("Found", bound=schema.Line)


@dataclass(frozen=True)
class Moment:
    """One measurement of the gradient along time."""

    step: int
    profiles: dict[str, Profile]
    loss_norms: dict[str, dict[str, Series]]


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
class Valid:
    """What one `valid` line says."""

    step: int
    epoch: float | None
    loss: float | None
    bits: float | None
    perplexity: float | None
    tokens_per_second: float | None
    reach: dict[str, Reach]
    metrics: dict[str, float | None]


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
    needs: list[Need]
    worths: list[Worth]
    forecast: schema.Forecast | None
    confusion: schema.Confusion | None
    seconds: float | None

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read the record in a run's folder."""
        record = RunRecord.open(folder)
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in record.read():
            lines.setdefault(text(line.get("kind")), []).append(line)
        spans = [number(line.get("seconds")) for kind in lines.values() for line in kind]

        def read(kind: type[Found]) -> list[Found]:
            name = next(name for name, model in schema.LINES.items() if model is kind)
            return [kind.read(line) for line in lines.get(name, [])]

        return cls(
            config=mapping(record.config),
            steps=read(Step),
            valids=[_valid(line) for line in read(schema.Valid)],
            moments=[_moment(line) for line in read(schema.Flow)],
            remedies=[_remedy(line) for line in read(schema.Remedy)],
            events=read(Event),
            samples=read(Sample),
            needs=read(Need),
            worths=_latest(
                [
                    *(Worth("the network", "test", line.metrics) for line in read(schema.Test)),
                    *(Worth(line.name, line.on, line.metrics) for line in read(schema.Baseline)),
                ]
            ),
            forecast=next(reversed(read(schema.Forecast)), None),
            confusion=next(reversed(read(schema.Confusion)), None),
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
    def asked(self) -> Asked:
        """What the run was asked."""
        return Asked.of(self.config)

    @property
    def need(self) -> Need | None:
        """How many steps of context the data need, where that was measured."""
        return next((need for need in reversed(self.needs) if need.lag is not None), None)

    @property
    def window(self) -> int | None:
        """How many steps the network learns from at a time."""
        length = number(mapping(self.config.get("settings")).get("length"))
        return int(length) if length else None

    @property
    def status(self) -> str:
        """What the last event says: finished, stopped, non-finite, or unfinished where none says so."""
        last = self.events[-1].what if self.events else ""
        return last if last in {"finished", "stopped", "non-finite"} else "unfinished"

    @property
    def validation(self) -> Valid | None:
        """The last validation that has a number."""
        return next((valid for valid in reversed(self.valids) if valid.loss is not None), None)

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


def _latest(found: list[Worth]) -> list[Worth]:
    """Keep the last of each answer: a run that went on after its end was tested again."""
    return list({(one.name, one.part): one for one in found}.values())


def _remedy(line: schema.Remedy) -> Remedy:
    depth = _deepest(line.depth.without), _deepest(line.depth.joined)
    return Remedy(line.step, line.name, line.asked, _profiles(line.profiles), _profiles(line.without), depth)


def _deepest(depth: schema.Depth) -> float | None:
    """Take what is left at the first layer."""
    return depth.norms[-1] if depth.norms else None


def _profiles(found: dict[str, schema.Profile]) -> dict[str, Profile]:
    return {part: profile_of(one) for part, one in found.items()}


def _valid(line: schema.Valid) -> Valid:
    loss, bits, perplexity = line.loss, line.bits, line.perplexity
    bits = loss / math.log(2) if bits is None and loss is not None else bits
    perplexity = math.exp(loss) if perplexity is None and loss is not None and loss < 700 else perplexity
    return Valid(
        step=line.step,
        epoch=line.epoch,
        loss=loss,
        bits=bits,
        perplexity=perplexity,
        tokens_per_second=line.tokens_per_second,
        reach={part: Reach(part, one.steps, one.censored, one.rate, line.step) for part, one in line.reach.items()},
        metrics={"loss": loss, **({"bits": bits, "perplexity": perplexity} if not line.metrics else line.metrics)},
    )


def _moment(line: schema.Flow) -> Moment:
    return Moment(line.step, _profiles(line.profiles), line.loss_norms)
