"""What a diagnosis found: plain data, and how it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from unvanish.data.dependency import Dependency
from unvanish.diagnosis.costs import Cost
from unvanish.flow import Profile, Saturation, Split
from unvanish.flow.finding.graph import INPUT
from unvanish.record import Result, finite
from unvanish.record.alike import tried_together, untried_together

# Causes that cut the gradient, whatever the model is made of: these have to be mended first.
CUTS = frozenset({"detached state", "state reset", "reads early", "short window"})
VERDICTS = ("healthy", "borderline", "vanishing", "exploding", "dead", "non-finite")  # the last outweighs the first


@dataclass(frozen=True)
class Cause:
    """Something that explains the verdict, or will spoil the training, with its number.

    Attributes:
        kind: one of `diagnosis.CAUSES`.
        where: the part, module or parameter; empty for the whole.
        text: one sentence.
        number, unit: what was measured.
        advice: what to do about it.
    """

    kind: str
    where: str
    text: str
    number: float
    unit: str
    advice: str

    def __repr__(self) -> str:
        return f"Cause({_where(self.kind, self.where)}: {self.number:.4g} {self.unit})"


@dataclass(frozen=True)
class Prescription(Result):
    """A remedy that was tried on a copy of the model, and measured.

    Attributes:
        name, text: which, and what it does.
        code: the lines that were executed on the copy: with `model`, `torch` and `unvanish` they apply it.
        reach, censored: of the part that it was tried on, afterwards (before: `reach_before`), and never past where
            the gradient is cut.
        verdict: of that part, afterwards. It holds at the start of training: training moves what was set.
        cost, cost_range: the processor time of a training step, in units of the time without it: the median of
            rounds, and their range without the outermost. Where that tells nothing, `to_dict` holds no cost.
        seed: of what the code draws: after `torch.manual_seed(seed)` it gives the very numbers that were measured.
    """

    shown_as: ClassVar[str] = "prescription"
    name: str
    part: str
    text: str
    code: str
    reach_before: int
    reach: int
    censored: bool
    verdict: str
    cost: float
    cost_range: tuple[float, float]
    seed: int

    @property
    def heals(self) -> bool:
        """Whether the part is healthy with it."""
        return self.verdict == "healthy"

    @property
    def span(self) -> str:
        """The reach before and after, in words."""
        return f"{self.reach_before} → {'≥ ' if self.censored else ''}{self.reach}"

    @property
    def cost_text(self) -> str:
        """The cost with its range, in words; empty where the range is too wide to say anything."""
        return str(Cost(self.cost, *self.cost_range))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        cost = self.cost if self.cost_text else None
        return {**vars(self), "cost": cost, "cost_range": list(self.cost_range)}

    def __repr__(self) -> str:
        return f"Prescription({_where(self.name, self.part)}: reach {self.span} steps, {self.verdict})"


@dataclass(frozen=True)
class Untried:
    """A remedy that could not be tried, and why: what the changed copy of the model raised.

    Attributes:
        name, part, text, code: as of a `Prescription`.
        reason: the error, in one line.
    """

    name: str
    part: str
    text: str
    code: str
    reason: str

    def __repr__(self) -> str:
        return f"Untried({_where(self.name, self.part)}: {_cut(self.reason)})"


@dataclass(frozen=True, eq=False)
class PartFinding(Result):
    """What was measured of one layer and direction.

    Attributes:
        name, module, kind: the part, the module that it belongs to, and what that is (`LSTM of torch.nn`).
        verdict, because: against the needed lag, and in a sentence.
        profile: of the path through time, with the input held fixed.
        window: the most steps through which a gradient of the loss flows without a break, from where it is read.
        survives: the share of the gradient's norm that is left at the needed lag; where that lies beyond what was
            measured, what the fitted line says (`extrapolated`).
        loss_norms: ‖∂L/∂s_t‖ by state, for every step; empty where no gradient came.
        eigenvalues: of the Jacobian of the last step, first row of the batch; `exponents`: of Lyapunov.
        saturation, split: see `unvanish.flow`.
        changed_between: how much of a state's norm is changed between the calls of a cell, see `flow.Part`.
        last_read: the last step, in the part's own direction, at which a gradient of the loss arrives; None where
            that is not known.
    """

    shown_as: ClassVar[str] = "part"
    name: str
    module: str
    kind: str
    verdict: str
    because: str
    profile: Profile
    window: int
    survives: float
    extrapolated: bool
    loss_norms: Mapping[str, list[float]]
    eigenvalues: tuple[complex, ...]
    exponents: tuple[float, ...]
    saturation: Saturation
    split: Split
    changed_between: float = 0.0
    last_read: int | None = None

    @property
    def measured(self) -> str:
        """Which gradient the profile is of: `random directions` of a state; without a recurrence, `the loss`."""
        return "the loss" if self.name == INPUT else "random directions"

    @property
    def span(self) -> str:
        """How far back the gradient comes, in words: as far as 1 % of it survives and nothing cuts it."""
        cut = self.window < self.profile.reach
        return f"{'≥ ' if self.profile.censored and not cut else ''}{min(self.profile.reach, self.window)}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        split = {"rate": self.split.rate, "weights": self.split.weights, "activations": self.split.activations}
        names = ("name", "module", "kind", "verdict", "because", "window", "survives", "changed_between")
        return {
            **{name: getattr(self, name) for name in (*names, "extrapolated", "measured")},
            "profile": self.profile.to_dict(),
            "loss_norms": dict(self.loss_norms),
            "eigenvalues": [[value.real, value.imag] for value in self.eigenvalues],
            "exponents": list(self.exponents),
            **{name: found for name, found in self.saturation.to_dict().items() if name != "part"},
            "split": split,
        }

    def __repr__(self) -> str:
        return f"PartFinding({_cut(self.name)}: {self.verdict}, reach {self.span} steps, window {self.window})"


@dataclass(frozen=True, eq=False)
class Diagnosis(Result):
    """The verdict on a model, why, and what helps.

    Attributes:
        verdict: of `diagnosis.VERDICTS`, against the needed lag.
        need, need_from: the needed lag in steps, and where it is from (`given`, `the data`, `the batch`).
        loss: of the batch.
        parts: every layer and direction.
        causes: what explains the verdict best comes first.
        prescriptions: what helps most comes first.
        untried: remedies that could not be tried, with the reason.
        unknown: what could not be measured, and so is not known.
        dependency: what the data need, and how far back they depend on themselves, where data were given.
    """

    shown_as: ClassVar[str] = "diagnosis"
    verdict: str
    need: int
    need_from: str
    loss: float
    parts: tuple[PartFinding, ...]
    causes: tuple[Cause, ...]
    prescriptions: tuple[Prescription, ...]
    unknown: tuple[str, ...]
    dependency: Dependency | None = field(default=None, repr=False)
    untried: tuple[Untried, ...] = ()

    @property
    def need_is_least(self) -> bool:
        """Whether the data may need more than `need`, to which the verdict is relative."""
        found = self.dependency
        return found is not None and found.censored and self.need_from.startswith("the data")

    @property
    def first(self) -> str:
        """What to do before anything else, where every part's gradient is cut before the needed lag; else empty."""
        cut = self.verdict != "healthy" and all(part.window < self.need for part in self.parts)
        return next((cause.advice for cause in self.causes if cut and cause.kind in CUTS), "")

    def __repr__(self) -> str:
        need = f"needed {'≥ ' if self.need_is_least else ''}{self.need} steps"
        reached = ", ".join(f"{part.name} {part.span}" for part in self.parts)
        why = f"; because: {self.causes[0].kind}" if self.causes else ""
        return f"Diagnosis({self.verdict}: {need}, reach {_cut(reached, 36)}{_cut(why, 30)})"

    def __str__(self) -> str:
        least = "at least " if self.need_is_least else ""
        lines = [f"{self.verdict}: needed lag {least}{self.need} steps (from {self.need_from})"]
        lines += [f"  {part.name}: {part.verdict}, {part.because}" for part in self.parts]
        lines += [f"  because: {cause.text}" for cause in self.causes]
        if self.first:
            lines.append(f"  first: {self.first}")
        for same in tried_together(self.prescriptions):
            says = "helps" if all(remedy.heals for remedy in same) else "lengthens, does not heal"
            where = ", ".join(remedy.part for remedy in same)
            spans = "; ".join(dict.fromkeys(remedy.span for remedy in same))
            lines.append(f"  {says}: {where}: {same[0].text} (reach {spans})")
        if any(remedy.heals for remedy in self.prescriptions):
            lines.append("  what helps was measured at the start of training, which moves what was set")
        for refused in untried_together(self.untried):
            where = ", ".join(remedy.part for remedy in refused)
            lines.append(f"  not tried: {where}: {refused[0].text} ({refused[0].reason})")
        if self.prescriptions:
            then = "then the first of these" if self.first else "the first of them"
            lines += [f"  {then}, all are in .prescriptions:"]
            lines += [f"      {line}" for line in self.prescriptions[0].code.splitlines()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, for a report or for machines; a number that is not finite is None."""
        found: dict[str, Any] = finite(
            {
                "verdict": self.verdict,
                "need": self.need,
                "need_from": self.need_from,
                "loss": self.loss,
                "parts": [part.to_dict() for part in self.parts],
                "causes": [vars(cause) for cause in self.causes],
                "first": self.first,
                "prescriptions": [vars(remedy) for remedy in self.prescriptions],
                "untried": [vars(remedy) for remedy in self.untried],
                "unknown": list(self.unknown),
                "dependency": None if self.dependency is None else self.dependency.to_dict(),
            }
        )
        return found


def worst(verdicts: list[str]) -> str:
    """The verdict on a whole: one part that remembers is enough, one that is ill in another way is too much."""
    serious = max(verdicts, key=VERDICTS.index)
    return "healthy" if serious in ("borderline", "vanishing") and "healthy" in verdicts else serious


def _cut(text: str, most: int = 56) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _where(what: str, where: str) -> str:
    return _cut(f"{what} at {where}" if where else what)


def steps_text(value: float) -> str:
    """Write a number of steps.

    >>> steps_text(3.24), steps_text(1234.0), steps_text(1), steps_text(math.inf)
    ('3.2 steps', '1,234 steps', '1 step', 'for ever')
    """
    if math.isinf(value):
        return "for ever"
    if value == 1:
        return "1 step"
    return f"{value:.1f} steps" if value < 10 and value != int(value) else f"{value:,.0f} steps"
