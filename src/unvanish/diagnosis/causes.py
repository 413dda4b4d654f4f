"""Why: everything that explains a verdict, or will spoil the training, each with its number.

The order in which causes are named: what makes all else meaningless first (numbers that are none), then what cuts
the gradient, then what starves it, then what spoils the step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.diagnosis.findings import Cause, PartFinding, steps_text
from unvanish.diagnosis.watch.trace import StepTrace, Trial
from unvanish.flow.finding.observe import Observation, Seen
from unvanish.flow.measuring.profile import REACH_SHARE
from unvanish.flow.measuring.saturation import Memory
from unvanish.torch_internals import pytree

CAUSES = (
    "non-finite input",
    "non-finite parameter",
    "detached state",
    "state reset",
    "dead relu",
    "disconnected",
    "frozen",
    "short window",
    "idle clip",
    "changed between calls",
    "forgetting",
    "activation",
    "weights",
    "saturation",
    "learning rate",
    "clip threshold",
)
DEAD_FROM, DEAD_WHERE_HEALTHY = 0.5, 0.9  # of the relu units: many are still at a sound start, too
NOISE = 4.0  # spread over mean: as much is left of pure noise in the running means of Adam with its usual numbers
WANDERING = 0.01  # of the parameters' norm, in one step
CLIPPED = 100  # times the threshold: such a gradient is not clipped now and then, its size is lost at every step
MANY = 0.1  # of the parameters' norm, changed in one step


@dataclass(frozen=True)
class Facts:
    """What causes are read from.

    Attributes:
        trace: of one training step, where one was given.
        trial: of one step of the optimiser, where there is one.
    """

    model: nn.Module
    batch: Any
    observation: Observation
    parts: tuple[PartFinding, ...]
    need: int
    verdict: str
    trace: StepTrace | None = None
    trial: Trial | None = None


def causes(facts: Facts) -> tuple[Cause, ...]:
    """Find everything that is wrong, what weighs most first."""
    found = list(itertools.chain(*(look(facts) for look in _LOOKS)))
    return tuple(sorted(found, key=_rank))


def _rank(cause: Cause) -> int:
    """By kind; the matrices and what saturates stay in the order of what they take from the gradient."""
    return CAUSES.index("weights" if cause.kind == "saturation" else cause.kind)


# -- numbers that are none ---------------------------------------------------------------------------------------


def _numbers(facts: Facts) -> Iterator[Cause]:
    for name, value in _named_tensors(facts.batch):
        places = _non_finite(value)
        if len(places):
            where = ", ".join(str(int(index)) for index in places[0])
            kind = "NaN" if value[tuple(places[0])].isnan() else "infinite"
            text = f"{name} has {len(places):,} numbers that are not finite; the first, {kind}, at index ({where})"
            yield Cause("non-finite input", name, text, len(places), "numbers", "drop or fill them before training")
    for name, parameter in facts.model.named_parameters():
        count = int((~torch.isfinite(parameter.detach())).sum())
        if count:
            text = f"the parameter {name} has {count:,} numbers that are not finite"
            advice = "go back to a checkpoint from before, and clip the gradient by norm"
            yield Cause("non-finite parameter", name, text, count, "numbers", advice)


def _named_tensors(batch: Any) -> Iterator[tuple[str, Tensor]]:
    leaves = [(path, leaf) for path, leaf in pytree.tree_flatten_with_path(batch)[0] if isinstance(leaf, Tensor)]
    for number, (path, leaf) in enumerate(leaves):
        label = pytree.keystr(path)
        yield ("the input" if len(leaves) == 1 else f"input {label or number}"), leaf


def _non_finite(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value.new_zeros(0, value.dim(), dtype=torch.long)
    return (~torch.isfinite(value)).nonzero()


# -- a gradient that is cut --------------------------------------------------------------------------------------


def _cuts(facts: Facts) -> Iterator[Cause]:
    for seen in facts.observation.seen.values():
        of_part = [part for part in facts.parts if part.module == seen.name]
        if not of_part or seen.longest >= facts.need:
            continue
        how = max(("detached", "reset"), key=lambda way: seen.carried[way])
        if seen.carried[how] and seen.steps > seen.longest:
            yield _cut(seen, how, facts.need)
        else:
            text = (
                f"{_named(seen)} sees {steps_text(seen.longest)} at a time, {steps_text(facts.need)} are needed: "
                "no gradient can come from further back"
            )
            advice = f"train on windows of more than {facts.need} steps"
            yield Cause("short window", seen.name, text, seen.longest, "steps", advice)


def _cut(seen: Seen, how: str, need: int) -> Cause:
    kind = {"detached": "detached state", "reset": "state reset"}[how]
    done = "detached from its gradient" if how == "detached" else "set back to zero"
    calls = f"{seen.carried[how]} of {seen.calls - 1} times that it is handed on"
    text = (
        f"the state of {_named(seen)} is {done} {calls}: gradients flow {steps_text(seen.longest)}, "
        f"{steps_text(need)} are needed"
    )
    advice = f"detach only between windows of more than {need} steps" if how == "detached" else "hand the state on"
    return Cause(kind, seen.name, text, seen.longest, "steps", advice)


def _named(seen: Seen) -> str:
    return seen.name or "the layer"


def _parameters(facts: Facts) -> Iterator[Cause]:
    for seen in facts.observation.seen.values():
        named = list(seen.module.named_parameters(prefix=seen.name))
        matrices = [(name, p) for name, p in named if p.dim() == 2]
        frozen = [name for name, p in matrices if not p.requires_grad]
        if frozen:
            text = f"{len(frozen)} matrices of {_named(seen)} are frozen ({frozen[0]}, …): they do not learn"
            yield Cause("frozen", seen.name, text, len(frozen), "matrices", "set requires_grad_(True)")
        trained = [name for name, p in named if p.requires_grad]
        found = [facts.observation.gradients.get(name) for name in trained]
        if trained and all(gradient is None or not gradient.any() for gradient in found):
            text = f"no gradient of the loss arrives at {_named(seen)}: nothing in it learns"
            advice = "use its output in the loss, without detach(), no_grad() or weights of zero after it"
            yield Cause("disconnected", seen.name, text, 0, "gradient", advice)


# -- a gradient that starves, or grows ---------------------------------------------------------------------------


def _flow(facts: Facts) -> Iterator[Cause]:
    for part in facts.parts:
        for found in part.saturation.activations:
            if found.dead > (DEAD_WHERE_HEALTHY if facts.verdict == "healthy" else DEAD_FROM):
                text = f"{found.dead:.0%} of the relu units of {part.name} are zero at every step of every row"
                advice = "begin with biases of zero and smaller steps, or use tanh"
                yield Cause("dead relu", part.name, text, found.dead, "of the units", advice)
        if facts.verdict == "healthy" or part.changed_between:  # then the cell's own numbers explain nothing
            continue
        overflowed = part.verdict == "non-finite" and part.profile.rate > 0
        if part.verdict == "exploding" or overflowed:
            yield from _exploding(part, facts.need)
        elif part.verdict == "vanishing" and part.profile.norms.size > 1 and _is_lost(part, facts.need):
            yield from _vanishing(part, facts.need)


def _between(facts: Facts) -> Iterator[Cause]:
    for part in facts.parts:
        if part.changed_between and part.verdict not in ("healthy", "dead"):
            text = (
                f"between its calls the state of {part.name} is changed by up to {part.changed_between:.0%} of its "
                "norm: what comes back was measured through the whole model, the cell is not all of the recurrence"
            )
            advice = "look at what stands between the calls: a factor, a dropout, a layer"
            yield Cause("changed between calls", part.name, text, part.changed_between, "of the norm", advice)


def _is_lost(part: PartFinding, need: int) -> bool:
    """Whether the recurrence itself loses the gradient, and not only what cuts it."""
    return part.profile.reach < min(need, len(part.profile.norms) - 1)


def _exploding(part: PartFinding, need: int) -> Iterator[Cause]:
    rate = part.split.weights if math.isfinite(part.split.weights) else part.profile.rate
    growth = math.exp(min(rate, 50))
    text = (
        f"the matrices of {part.name} let a gradient grow {growth:.3g}-fold a step "
        f"(spectral radius of a step's Jacobian {_radius(part):.3g}): {steps_text(need)} are too many for that"
    )
    advice = "begin with orthogonal recurrent matrices or scale them down, and clip the gradient by norm"
    yield Cause("weights", part.name, text, growth, "a step", advice)


def _radius(part: PartFinding) -> float:
    return max((abs(value) for value in part.eigenvalues), default=math.exp(min(part.profile.rate, 50)))


def _vanishing(part: PartFinding, need: int) -> Iterator[Cause]:
    allowed = math.log(REACH_SHARE) / need
    gated = [memory for memory in part.saturation.memories if memory.gate]
    if gated:
        best = max(gated, key=lambda memory: memory.longest)
        if best.longest < need:
            yield _forgetting(part, best, need)
            return  # the matrices are not what should carry a gated state
    weights, activations = part.split.weights, part.split.activations
    sigmoid = [found for found in part.saturation.activations if found.function == "sigmoid"]
    if not gated and sigmoid and len(sigmoid) == len(part.saturation.activations):
        slope = f"at most 1/4, and here {sigmoid[0].slope / 4:.2g}"
        text = f"a step of {part.name} passes through a sigmoid, whose slope is {slope}"
        yield Cause("activation", part.name, text, sigmoid[0].slope / 4, "slope", "use tanh or relu")
    found = [(weights, _weights(part, weights)), (activations, _saturation(part, activations))]
    starving = sorted(((rate, cause) for rate, cause in found if cause is not None), key=lambda pair: pair[0])
    for number, (rate, cause) in enumerate(starving):
        if number == 0 or rate < allowed / 2:
            yield cause


def _forgetting(part: PartFinding, memory: Memory, need: int) -> Cause:
    text = (
        f"the gate {memory.gate} of {part.name} keeps {memory.keep:.2g} of the state {memory.state} in a step: its "
        f"time constant is {steps_text(memory.time_constant)} (at most {steps_text(memory.longest)}), "
        f"{steps_text(need)} are needed"
    )
    advice = f"begin with biases that hold the gate open for up to {need} steps (chrono initialisation)"
    return Cause("forgetting", part.name, text, memory.time_constant, "steps", advice)


def _weights(part: PartFinding, rate: float) -> Cause | None:
    if not math.isfinite(rate) and rate != -math.inf:
        return None
    kept = math.exp(rate)
    even = "even with every activation at its steepest"
    text = f"the matrices of {part.name} let {kept:.3g} of a gradient through in a step, {even}"
    advice = "begin with orthogonal recurrent matrices (spectral radius 1)"
    return Cause("weights", part.name, text, kept, "a step", advice)


def _saturation(part: PartFinding, rate: float) -> Cause | None:
    flattest = max(part.saturation.activations, key=lambda found: found.saturated, default=None)
    if flattest is None or not math.isfinite(rate):
        return None
    text = (
        f"the activation {flattest.name} of {part.name} has {flattest.slope:.2g} of its steepest slope "
        f"({flattest.saturated:.0%} of its values are saturated): flat activations take "
        f"{1 - math.exp(rate):.0%} of a gradient in a step"
    )
    advice = "scale the input and its matrices down, or normalise inside the recurrence"
    return Cause("saturation", part.name, text, flattest.slope, "of the steepest slope", advice)


# -- a step that spoils ------------------------------------------------------------------------------------------


def _step(facts: Facts) -> Iterator[Cause]:
    if facts.trial is not None:
        yield from _learning_rate(facts.trial)
    if facts.trace is None:
        return
    for clip in facts.trace.clips:
        if clip.backwards_before == 0:
            text = "the gradient is clipped before the backward pass, when there is none: the clip cannot act"
            advice = "call it between loss.backward() and optimizer.step()"
        elif facts.trace.steps and clip.steps_before == facts.trace.steps:
            text = "the gradient is clipped after the optimiser's step: the clip cannot act"
            advice = "call it between loss.backward() and optimizer.step()"
        elif facts.trace.stepped and not clip.gradients & facts.trace.stepped:
            text = "the gradients that are clipped are not those that the optimiser takes: the clip cannot act"
            advice = "clip the parameters that were given to the optimiser"
        else:
            yield from _threshold(clip.threshold, clip.norm if clip.kind == "norm" else None)
            continue
        yield Cause("idle clip", "", text, clip.threshold, "threshold", advice)


def _threshold(threshold: float, norm: float | None) -> Iterator[Cause]:
    if norm is None or not norm or not math.isfinite(norm):
        return
    if threshold < norm / CLIPPED:
        times = f"{norm / threshold:.0f} times the clip's threshold of {threshold:.3g}"
        text = f"the gradient's norm is {norm:.3g}, {times}: every step is cut short"
        advice = (
            f"a threshold from {norm / 2:.2g} to {10 * norm:.2g} (half to ten times the usual norm) clips the rare"
        )
        yield Cause("clip threshold", "", text, threshold, "threshold", f"{advice}, not all")


def _learning_rate(trial: Trial) -> Iterator[Cause]:
    change, before, after = trial.change, trial.before, trial.after
    if trial.noise is not None and trial.noise > NOISE and change > WANDERING:
        text = (
            f"the gradient's spread is {trial.noise:.1f} times its mean, and a step changes the parameters by "
            f"{change:.1%} of their norm: they wander"
        )
        advice = "divide the learning rate by ten, or take larger batches"
        yield Cause("learning rate", "", text, trial.noise, "times the mean", advice)
    elif change > MANY and not after <= before:
        loss = f"the loss from {before:.3g} to {after:.3g}"
        text = f"one step changes the parameters by {change:.0%} of their norm, and {loss}"
        yield Cause("learning rate", "", text, change, "of the norm", "divide the learning rate by ten")
    elif 0 <= change < 1e-7:
        text = f"one step changes the parameters by {change:.1g} of their norm: nothing will be learnt"
        yield Cause("learning rate", "", text, change, "of the norm", "multiply the learning rate by a hundred")


_LOOKS: tuple[Callable[[Facts], Iterator[Cause]], ...] = (
    _numbers,
    _cuts,
    _parameters,
    _between,
    _flow,
    _step,
)
