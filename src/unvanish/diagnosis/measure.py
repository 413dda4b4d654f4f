"""Measure every part of a model, and judge it against the needed lag."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unvanish.diagnosis.findings import PartFinding, steps_text
from unvanish.flow import Part, Profile, Split
from unvanish.flow.finding.graph import DRAWS, MORE
from unvanish.flow.finding.observe import Observation, Seen
from unvanish.flow.finding.parts import SteppedPart
from unvanish.flow.measuring.jacobian import jacobian_of, lyapunov_of
from unvanish.flow.measuring.profile import REACH_SHARE, profile_of, reach_of
from unvanish.flow.measuring.saturation import saturation_of
from unvanish.flow.measuring.split import split_of
from unvanish.nn import Recurrent

GROWTH = 1 / REACH_SHARE  # a gradient that grows by as much as is lost where it vanishes
GROWING = 10  # times, within what was measured: else a fitted line is no ground for an explosion
SPECTRUM_UP_TO = 512  # numbers in the full state: larger Jacobians are not taken apart
EXPONENTS = 8
NEAR = 0.95  # of the needed lag: of a recurrence with delays the last lag that was measured may not be its last
LOST = 1e-18  # in single precision the square of a smaller number has lost its digits, or is zero


@dataclass(frozen=True)
class Judgement:
    """A verdict with its numbers."""

    verdict: str
    because: str
    survives: float
    extrapolated: bool


def judge(profile: Profile, need: int, window: int, *, grows: bool = True) -> Judgement:
    """Judge a profile against a needed lag; `window` is how many steps a gradient flows without a break.

    Vanishing: under 1 % of the norm is left at the needed lag. Exploding: it grows a hundredfold on the way.
    Borderline: what is left is so near to either border that the directions drawn cannot tell; or a recurrence with
    delays reaches less than is needed, and its next lag lies beyond what was measured. Without `grows` the
    profile is relative to its own median, and says nothing of growth.
    """
    norms = profile.norms
    if not np.isfinite(norms).all():
        return Judgement("non-finite", "the gradient along time is not finite", math.nan, False)
    if not norms[1:].any() and window > 1:
        return Judgement("dead", "no gradient comes even one step back", 0.0, False)
    last = len(norms) - 1
    beyond = need > last
    further = math.exp(min(profile.rate * (need - last), 700)) if beyond else 1.0

    def at_need(curve: NDArray[np.float64]) -> float:
        """What is left at the needed lag, the largest over one period."""
        at = min(need, last)
        return float(curve[min(at, last + 1 - profile.period) : at + profile.period].max()) * further

    survives = at_need(norms)
    low, high = (at_need(curve) for curve in profile.band or (norms, norms))
    measured = float(norms[: need + 1].max())
    grown = max(measured, survives) if measured > GROWING else measured
    kept = _kept(survives, need)
    if grows and grown > GROWTH:
        near = low <= GROWTH and survives == grown
        text = f"the gradient grows {grown:.3g}-fold within {need} steps"
        return Judgement("borderline" if near else "exploding", text, survives, beyond)
    if window < need:
        text = f"the gradient is cut after {steps_text(window)}, {steps_text(need)} are needed"
        return Judgement("vanishing", text, 0.0, False)
    if survives < REACH_SHARE or (not beyond and profile.reach + profile.period <= need):
        verdict = "borderline" if _may_reach(profile, need, high) else "vanishing"
        return Judgement(verdict, f"{kept}; 1 % reaches {steps_text(_reach(profile))}", survives, beyond)
    if not beyond and profile.reach < NEAR * need:
        text = f"1 % reaches {steps_text(profile.reach)}; what delays of {profile.period} steps bring back from "
        return Judgement("borderline", f"{text}{need} lies beyond what was measured", survives, beyond)
    return Judgement("borderline" if low < REACH_SHARE else "healthy", kept, survives, beyond)


def _kept(survives: float, need: int) -> str:
    """Say how much of a gradient is left; of more than all of it, how many times what it was."""
    if survives > 1 and f"{survives:.2g}" != "1":
        return f"after {steps_text(need)} the gradient is {survives:.3g} times what it was"
    left = f"{survives:.2g}"
    return f"{'all' if left == '1' else left} of the gradient is left after {steps_text(need)}"


def _may_reach(profile: Profile, need: int, high: float) -> bool:
    """Whether, within what the directions leave open, 1 % is left at the needed lag and before it."""
    if high < REACH_SHARE:
        return False
    curve = (profile.band or (profile.norms, profile.norms))[1]
    return need >= len(curve) or reach_of(curve / curve[0], profile.period)[0] + profile.period > need


def _reach(profile: Profile) -> float:
    """The reach; beyond what was measured, where the fitted line falls under 1 %."""
    if not profile.censored or profile.rate >= 0:
        return float(profile.reach)
    left = math.log(profile.norms[-1] / REACH_SHARE) if profile.norms[-1] > 0 else 0.0
    return profile.reach + max(0.0, left / -profile.rate)


def look(
    part: Part, seen: Seen, need: int, window: int, generator: torch.Generator, *, deep: bool = True
) -> tuple[Profile, Judgement]:
    """Measure the profile of a part and judge it: from several directions, and more where these cannot tell."""
    profile = profile_of(part, 1, generator, groups=DRAWS if deep else 1)
    judged = judge(profile, need, window, grows=seen.kind != "input")
    if deep and judged.verdict == "borderline" and part.squares_DKS is None:
        profile = profile_of(part, 1, generator, groups=MORE)
        judged = judge(profile, need, window)
    return profile, judged


def measure(
    observation: Observation, need: int, generator: torch.Generator, *, deep: bool = True, of_batch: bool = False
) -> tuple[PartFinding, ...]:
    """Measure every part of a model that was observed; without `deep`, its profile alone.

    Where the needed lag is the length of the batch (`of_batch`), no part is asked for more than it has steps.
    """
    found = []
    for part in observation.parts.values():
        of_part = observation.module_of(part.name).need_of(need) if of_batch else need
        found.append(_measure(observation, part, of_part, generator, deep))
    return tuple(found)


def _measure(
    observation: Observation, part: Part, need: int, generator: torch.Generator, deep: bool
) -> PartFinding:
    seen = observation.module_of(part.name)
    losses = _loss_norms(observation, part.name)
    last_read = _last_read(losses, seen, observation.scale)
    window = seen.window(need, last_read)
    profile, judged = look(part, seen, need, window, generator, deep=deep)
    arrives = any(value for norms in losses.values() for value in norms)
    if not arrives and judged.verdict != "non-finite":
        judged = Judgement("dead", "no gradient of the loss arrives here", 0.0, False)
    elif any(not math.isfinite(value) for norms in losses.values() for value in norms):
        judged = Judgement("non-finite", "the gradient of the loss is not finite here", math.nan, False)
    size, deep = sum(part.widths.values()), deep and judged.verdict != "non-finite" and seen.kind != "input"
    eigenvalues: Any = ()
    exponents: Any = ()
    if deep and isinstance(part, SteppedPart):
        if size <= SPECTRUM_UP_TO:
            eigenvalues = np.linalg.eigvals(jacobian_of(part).matrix_BNN[0])
        skip = part.steps // 4 if part.steps > 3 else 0
        exponents = lyapunov_of(part, min(size, EXPONENTS), skip, generator).exponents
    return PartFinding(
        part.name,
        seen.name,
        kind_of(seen),
        judged.verdict,
        judged.because,
        profile,
        window,
        judged.survives,
        judged.extrapolated,
        losses,
        tuple(complex(value) for value in eigenvalues),
        tuple(float(value) for value in exponents),
        saturation_of(part),
        split_of(part, 1, generator) if deep else Split(part.name, profile.rate, math.nan, math.nan),
        part.changed_between,
        last_read,
    )


def _last_read(losses: dict[str, list[float]], seen: Seen, scale: float) -> int | None:
    """The last step at which the loss sends a gradient; not known of a layer that is called piece by piece."""
    if not losses or (seen.kind == "layer" and seen.calls > 1):
        return None
    if max((norm for norms in losses.values() for norm in norms), default=0.0) * scale < LOST:
        return None
    arrived = [step for norms in losses.values() for step, norm in enumerate(norms) if norm]
    return max(arrived, default=None)


def _loss_norms(observation: Observation, name: str) -> dict[str, list[float]]:
    track = observation.recording.passes.get(name, [None])[-1]
    if track is None or not track.arrived:
        return {}
    norms_TS = track.norms.double().cpu() / observation.scale
    return {state: norms_TS[:, index].tolist() for index, state in enumerate(track.states)}


def kind_of(seen: Seen) -> str:
    """Say what a module is: `lstm`, `torch.nn.LSTM`, the class of a user's own."""
    if isinstance(seen.module, Recurrent):
        return seen.module.cell.name
    if seen.kind == "input":
        return "the steps of the input (no recurrence can be seen)"
    if seen.kind == "loop":
        return f"a loop of {type(seen.module).__name__}, found by tracing a run"
    known = isinstance(seen.module, nn.RNNBase | nn.RNNCellBase)
    return f"torch.nn.{type(seen.module).__name__}" if known else type(seen.module).__name__
