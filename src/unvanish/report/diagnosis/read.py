"""What the report reads out of a diagnosis: every value checked once, here, and missing ones None.

A diagnosis may come from a file, an older version or someone else, so nothing in it is taken on trust.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unvanish.record import schema
from unvanish.record.schema import mapping, number, series, text, whole
from unvanish.report.page.axes import Series
from unvanish.report.page.profile import Profile, Reach, profile_of

FURTHEST = 10**12  # steps back: no sequence is as long
MOST_NUMBERS = 4096  # of a spectrum: no layer whose Jacobian is taken apart has more


@dataclass(frozen=True)
class Cause:
    """Something that explains the verdict, with its number."""

    kind: str
    where: str
    text: str
    number: float | None
    unit: str
    advice: str


@dataclass(frozen=True)
class Remedy:
    """Something that was tried, and what became of the reach."""

    name: str
    part: str
    text: str
    code: str
    before: int | None
    after: Reach
    verdict: str
    cost: float | None
    cost_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Untried:
    """A remedy that could not be tried, and why."""

    name: str
    part: str
    code: str
    reason: str


@dataclass(frozen=True)
class Activation:
    """How flat one activation of a cell is, over all steps, rows and units."""

    name: str
    function: str
    saturated: float | None
    slope: float | None
    mean: float | None
    dead: float | None


@dataclass(frozen=True)
class Memory:
    """What a state keeps of itself in a step; a time constant of None beside a known share is without end."""

    state: str
    gate: str
    keep: float | None
    time_constant: float | None
    longest: float | None


@dataclass(frozen=True)
class Split:
    """A rate, and what of it comes from the matrices and from the activations, in nats per step."""

    rate: float | None
    weights: float | None
    activations: float | None


@dataclass(frozen=True)
class Part:
    """What was measured of one layer and direction."""

    name: str
    kind: str
    verdict: str
    because: str
    window: int | None
    survives: float | None
    profile: Profile
    loss_norms: dict[str, Series]
    eigenvalues: list[tuple[float, float]]
    exponents: list[float]
    activations: list[Activation]
    memories: list[Memory]
    split: Split
    measured: str = ""

    @property
    def reach(self) -> Reach:
        """How far back the gradient comes: as far as 1 % of it survives, and as far as nothing cuts it."""
        steps, window = self.profile.reach, self.window
        cut = steps is not None and window is not None and window < steps
        return Reach(self.name, window if cut else steps, self.profile.censored and not cut, self.profile.rate, 0)


@dataclass(frozen=True)
class Point:
    """How strongly the data depend on what lies one lag back; `chance` is how high mere chance would come."""

    lag: float
    value: float
    chance: float | None
    significant: bool


@dataclass(frozen=True)
class Gain:
    """How much is predicted with a context so long, and the standard error of that."""

    lag: float
    value: float
    error: float | None


@dataclass(frozen=True)
class Dependency:
    """What the data need, with the gain by context, and how far back they depend on themselves pair by pair."""

    unit: str
    needed: int | None
    censored: bool
    visible: int | None
    visible_censored: bool
    note: str
    points: list[Point]
    gain_unit: str
    gains: list[Gain]

    @property
    def strongest(self) -> float | None:
        """The largest value, where there is a dependence at all."""
        return max((point.value for point in self.points if point.value > 0), default=None)


@dataclass(frozen=True)
class Findings:
    """One diagnosis, read and checked."""

    target: str
    verdict: str
    need: int | None
    need_from: str
    loss: float | None
    parts: list[Part]
    causes: list[Cause]
    first: str
    remedies: list[Remedy]
    untried: list[Untried]
    unknown: list[str]
    dependency: Dependency | None

    @classmethod
    def read(cls, found: Any) -> Findings:
        """Read what `Diagnosis.to_dict()` gave, or what was made of it."""
        held = {str(key): value for key, value in found.items()} if isinstance(found, Mapping) else {}
        need = _steps(held.get("need"))
        return cls(
            target=text(held.get("target")).strip(),
            verdict=text(held.get("verdict")).strip(),
            need=need or None,
            need_from=text(held.get("need_from")).strip(),
            loss=number(held.get("loss")),
            parts=[_part(mapping(one), at) for at, one in enumerate(_list(held.get("parts")), 1)],
            causes=[_cause(mapping(one)) for one in _list(held.get("causes")) if isinstance(one, dict)],
            first=text(held.get("first")).strip(),
            remedies=[_remedy(mapping(one)) for one in _list(held.get("prescriptions")) if isinstance(one, dict)],
            untried=[_untried(mapping(one)) for one in _list(held.get("untried")) if isinstance(one, dict)],
            unknown=[line for line in map(text, _list(held.get("unknown"))) if line.strip()],
            dependency=_dependency(held.get("dependency")),
        )

    @property
    def best(self) -> Part | None:
        """The part whose gradient reaches furthest."""
        known = [part for part in self.parts if part.reach.steps is not None]
        return max(known, key=lambda part: (part.reach.steps or 0, part.reach.censored), default=None)

    @property
    def measured(self) -> str:
        """Which gradient was measured, `random directions` or `the loss`; empty where parts differ."""
        told = {part.measured for part in self.parts}
        return told.pop() if len(told) == 1 else ""

    @property
    def need_is_least(self) -> bool:
        """Whether the data may need more than `need`, to which the verdict is relative."""
        return self.dependency is not None and self.dependency.censored and self.need_from.startswith("the data")


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _not_negative(value: Any) -> float | None:
    taken = number(value)
    return taken if taken is not None and taken >= 0 else None


def _steps(value: Any) -> int | None:
    taken = whole(value)
    return taken if taken is not None and 0 <= taken <= FURTHEST else None


def _part(one: dict[str, Any], at: int) -> Part:
    pairs = [_pair(value) for value in _list(one.get("eigenvalues"))[:MOST_NUMBERS]]
    exponents = [number(value) for value in _list(one.get("exponents"))[:MOST_NUMBERS]]
    return Part(
        name=text(one.get("name")).strip() or f"part {at}",
        kind=text(one.get("kind")).strip(),
        verdict=text(one.get("verdict")).strip(),
        because=text(one.get("because")).strip(),
        window=_steps(one.get("window")),
        survives=_not_negative(one.get("survives")),
        profile=_profile(one.get("profile")),
        loss_norms={state: series(norms) for state, norms in mapping(one.get("loss_norms")).items()},
        eigenvalues=[pair for pair in pairs if pair is not None],
        exponents=sorted((value for value in exponents if value is not None), reverse=True),
        activations=[_activation(mapping(value)) for value in _list(one.get("activations"))],
        memories=[_memory(mapping(value)) for value in _list(one.get("memories"))],
        split=_split(mapping(one.get("split"))),
        measured=text(one.get("measured")).strip(),
    )


def _profile(value: Any) -> Profile:
    found = profile_of(schema.Profile.read(value))
    sound = found.lags == sorted(found.lags) and all(0 <= lag <= FURTHEST for lag in found.lags)
    lags, norms = (found.lags, found.norms) if sound else ([], {})
    return Profile(lags, norms, found.rate, found.level, _steps(found.reach), found.censored)


def _pair(value: Any) -> tuple[float, float] | None:
    taken = [number(inner) for inner in _list(value)[:2]]
    if len(taken) != 2 or taken[0] is None or taken[1] is None:
        return None
    return taken[0], taken[1]


def _cause(one: dict[str, Any]) -> Cause:
    kind, where, said, unit, advice = (text(one.get(key)) for key in ("kind", "where", "text", "unit", "advice"))
    return Cause(kind, where, said, number(one.get("number")), unit, advice)


def _remedy(one: dict[str, Any]) -> Remedy:
    name, part, said, code, verdict = (text(one.get(key)) for key in ("name", "part", "text", "code", "verdict"))
    after = Reach(part, _steps(one.get("reach")), one.get("censored") is True, None, 0)
    cost = _not_negative(one.get("cost"))
    return Remedy(
        name, part, said, code, _steps(one.get("reach_before")), after, verdict, cost, _pair(one.get("cost_range"))
    )


def _untried(one: dict[str, Any]) -> Untried:
    return Untried(*(text(one.get(key)).strip() for key in ("name", "part", "code", "reason")))


def _activation(one: dict[str, Any]) -> Activation:
    saturated, slope, mean, dead = (number(one.get(key)) for key in ("saturated", "slope", "mean", "dead"))
    return Activation(text(one.get("name")), text(one.get("function")), saturated, slope, mean, dead)


def _memory(one: dict[str, Any]) -> Memory:
    keep, constant, longest = (_not_negative(one.get(key)) for key in ("keep", "time_constant", "longest"))
    return Memory(text(one.get("state")), text(one.get("gate")), keep, constant, longest)


def _split(one: dict[str, Any]) -> Split:
    return Split(number(one.get("rate")), number(one.get("weights")), number(one.get("activations")))


def _dependency(value: Any) -> Dependency | None:
    if not isinstance(value, dict):
        return None
    held = mapping(value)
    lags, values, means, highs = (series(held.get(key)) for key in ("lags", "values", "null_mean", "null_high"))
    flags = _list(held.get("significant"))
    points = {
        lag: Point(lag, shown, _chance(_at(means, at), _at(highs, at)), _at(flags, at) is True)
        for at, (lag, shown) in enumerate(zip(lags, values, strict=False))
        if lag is not None and shown is not None and 1 <= lag <= FURTHEST
    }
    curve = mapping(held.get("curve"))
    gained, gains, errors = (series(curve.get(key)) for key in ("lags", "gain", "error"))
    known = {
        lag: Gain(lag, gain, _at(errors, at))
        for at, (lag, gain) in enumerate(zip(gained, gains, strict=False))
        if lag is not None and gain is not None and 0 <= lag <= FURTHEST
    }
    return Dependency(
        unit=text(held.get("unit")),
        needed=_steps(held.get("needed")),
        censored=held.get("censored") is True,
        visible=_steps(held.get("visible")),
        visible_censored=held.get("visible_censored") is True,
        note=text(held.get("note")).strip(),
        points=[points[lag] for lag in sorted(points)],
        gain_unit=text(curve.get("unit")),
        gains=[known[lag] for lag in sorted(known)],
    )


def _at(values: list[Any], at: int) -> Any:
    return values[at] if at < len(values) else None


def _chance(mean: float | None, high: float | None) -> float | None:
    """The upper edge of chance, beside values from which the mean of chance was taken away."""
    return None if mean is None or high is None else number(high - mean)
