"""Why: everything that explains a verdict, or will spoil the training, each with its number.

The order in which causes are named: what makes all else meaningless first (numbers that are none), then what cuts
the gradient, then what starves it, then what spoils the step.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

from unvanish.diagnosis.facts import Facts
from unvanish.diagnosis.findings import Cause, PartFinding, steps_text
from unvanish.diagnosis.learning import elsewhere, named, parameters
from unvanish.diagnosis.numbers import numbers
from unvanish.diagnosis.steps import step
from unvanish.flow.finding.graph import INPUT, SOME
from unvanish.flow.finding.observe import Seen
from unvanish.flow.measuring.profile import REACH_SHARE
from unvanish.flow.measuring.saturation import Memory

CAUSES = (
    "non-finite input",
    "non-finite parameter",
    "non-finite target",
    "labels ignored",
    "non-finite inside",
    "overflow",
    "rows mixed",
    "detached state",
    "state reset",
    "dead relu",
    "disconnected",
    "frozen",
    "starved",
    "not in the optimizer",
    "input scale",
    "reads early",
    "padding read",
    "short window",
    "no zero_grad",
    "scaled gradient",
    "idle clip",
    "changed between calls",
    "forgetting",
    "activation",
    "weights",
    "saturation",
    "learning rate",
    "clip threshold",
)
SHARED = frozenset(
    {"forgetting", "activation", "weights", "saturation", "dead relu", "short window", "reads early"}
)
NEAR = 0.3  # of the rate, by which that path may fall short of explaining it
DEAD_FROM, DEAD_WHERE_HEALTHY = 0.5, 0.9  # of the relu units: many are still at a sound start, too


def causes(facts: Facts) -> tuple[Cause, ...]:
    """Find everything that is wrong, what weighs most first."""
    found = sorted(itertools.chain(*(look(facts) for look in _LOOKS)), key=_rank)
    told: dict[tuple[str, str], list[Cause]] = {}
    for cause in found:
        told.setdefault((cause.kind, cause.where if cause.kind not in SHARED else cause.advice), []).append(cause)
    return tuple(_together(same) for same in told.values())


def _together(same: list[Cause]) -> Cause:
    """One cause for all parts that have it: the first, with the names of the others."""
    others = [cause.where for cause in same[1:] if cause.where != same[0].where]
    if not others:
        return same[0]
    listed = ", ".join(dict.fromkeys(others))
    return dataclasses.replace(same[0], text=f"{same[0].text}; {listed} likewise")


def _rank(cause: Cause) -> int:
    """By kind; the matrices and what saturates stay in the order of what they take from the gradient."""
    return CAUSES.index("weights" if cause.kind == "saturation" else cause.kind)


# -- a gradient that is cut --------------------------------------------------------------------------------------


def _cuts(facts: Facts) -> Iterator[Cause]:
    for seen in facts.observation.seen.values():
        of_part = [part for part in facts.parts if part.module == seen.name]
        need = facts.need_of(seen)
        window = seen.window(need)
        if not of_part or window >= need:
            continue
        how = max(("detached", "reset"), key=lambda way: seen.carried[way])
        if seen.carried[how] and seen.steps > window:
            yield _cut(seen, how, window, need)
        elif facts.verdict != "healthy":  # else another part reaches further, and this one may run on into it
            text = (
                f"{named(seen)} sees {steps_text(window)} at a time, {steps_text(need)} are needed: "
                "no gradient can come from further back"
            )
            advice = f"train on windows of more than {need} steps, or hand the state on with its gradient"
            yield Cause("short window", seen.name, text, window, "steps", advice)


def _outside(facts: Facts) -> Iterator[Cause]:
    if facts.outside:
        text = (
            "the state leaves the graph of gradients between the steps: other early steps of the input change the "
            f"loss by {facts.outside:.2g} of its size, and no gradient comes from there"
        )
        advice = "keep the state a tensor: no .item(), .tolist(), .numpy() or torch.tensor(…), no detach or no_grad"
        yield Cause("detached state", INPUT, text, facts.outside, "of the loss", advice)


def _cut(seen: Seen, how: str, window: int, need: int) -> Cause:
    kind = {"detached": "detached state", "reset": "state reset"}[how]
    done = "detached from its gradient" if how == "detached" else "set back to zero"
    calls = f"{seen.carried[how]} of {seen.calls - 1} times that it is handed on"
    text = (
        f"the state of {named(seen)} is {done} {calls}: gradients flow {steps_text(window)}, "
        f"{steps_text(need)} are needed"
    )
    advice = (
        f"detach only between windows of more than {need} steps"
        if how == "detached"
        else f"hand the state on; {_at_an_end(window - 1)}"
    )
    return Cause(kind, seen.name, text, window, "steps", advice)


def _at_an_end(need: int) -> str:
    return f"where an episode or a document ends there, nothing before it is needed: ask with need={need}"


def _rows(facts: Facts) -> Iterator[Cause]:
    if facts.mixed:
        text = (
            "rows of the batch see one another: where one row changes, the output of others does, by "
            f"{facts.mixed:.1%} of its size; time and batch may be exchanged"
        )
        advice = "give the layer batch_first=True, or the batch with time first"
        yield Cause("rows mixed", "", text, facts.mixed, "of the output", advice)


def _reads(facts: Facts) -> Iterator[Cause]:
    for part in facts.parts:
        last = part.last_read
        steps = facts.observation.parts[part.name].steps
        if last is not None and last < min(facts.need, steps - 1):
            text = (
                f"the loss reads {part.name} no later than step {last + 1} of {steps} in its own direction: "
                f"{steps_text(last)} can be gone back from there, {steps_text(facts.need)} are needed"
            )
            advice = "let the loss read the last step of each direction"
            yield Cause("reads early", part.name, text, last, "steps", advice)


def _padding(facts: Facts) -> Iterator[Cause]:
    if facts.padding is not None:
        found = facts.padding
        text = (
            f"{found.rows} of {found.of} rows end in padding, up to {steps_text(found.steps)} of it, and the loss "
            f"reads it: {found.share:.1%} of its gradient by the input lies there"
        )
        advice = "pack the batch (torch.nn.utils.rnn.pack_padded_sequence), or read each row at its own last step"
        yield Cause("padding read", "", text, found.steps, "steps", advice)


def _input(facts: Facts) -> Iterator[Cause]:
    for part in facts.parts:
        if part.name in facts.calmed:
            flat, calm = facts.calmed[part.name]
            text = (
                f"the size of the input saturates {part.name}: {flat:.0%} of the values of an activation are flat, "
                f"{calm:.0%} with the input in units of its own spread; such gates do not learn"
            )
            advice = "standardise the input: (x - mean) / standard deviation, feature by feature"
            yield Cause("input scale", part.name, text, flat, "saturated", advice)


# -- a gradient that starves, or grows ---------------------------------------------------------------------------


def _flow(facts: Facts) -> Iterator[Cause]:
    for part in facts.parts:
        for found in part.saturation.activations:
            if found.dead > (DEAD_WHERE_HEALTHY if facts.verdict == "healthy" else DEAD_FROM):
                text = f"{found.dead:.0%} of the relu units of {part.name} are zero at every step of every row"
                advice = "begin with biases of zero and smaller steps, or use tanh"
                yield Cause("dead relu", part.name, text, found.dead, "of the units", advice)
        by_rows = facts.observation.module_of(part.name).row_resets > 0
        if facts.verdict == "healthy" or (_is_made_between(part) and not by_rows):
            # The cell's own numbers explain nothing then.
            continue
        overflowed = part.verdict == "non-finite" and part.profile.rate > 0
        if part.verdict == "exploding" or overflowed:
            yield from _exploding(part, facts.need)
        elif (
            part.verdict in ("borderline", "vanishing")
            and part.profile.norms.size > 1
            and _is_lost(part, facts.need)
        ):
            yield from _vanishing(part, facts.need)


def _between(facts: Facts) -> Iterator[Cause]:
    for part in facts.parts:
        seen = facts.observation.module_of(part.name)
        if part.verdict in ("borderline", "vanishing") and seen.row_resets and seen.longest_row < facts.need:
            text = (
                f"rows are set back to zero one by one, {seen.row_resets:,} times in {seen.steps:,} steps: no row "
                f"of {part.name} runs on for more than {steps_text(seen.longest_row)}, {steps_text(facts.need)} "
                "are needed"
            )
            advice = _at_an_end(max(seen.longest_row - 1, 1))
            yield Cause("state reset", part.name, text, seen.longest_row, "steps", advice)
        elif _is_made_between(part) and part.verdict not in ("healthy", "dead"):
            text = (
                f"between its calls the state of {part.name} is changed by up to {part.changed_between:.0%} of its "
                "norm: what comes back was measured through the whole model, the cell is not all of the recurrence"
            )
            advice = "look at what stands between the calls: a factor, a dropout, a layer"
            yield Cause("changed between calls", part.name, text, part.changed_between, "of the norm", advice)


def _is_made_between(part: PartFinding) -> bool:
    """Whether most of the rate is made by what stands between a cell's calls, and not by the cell."""
    rate, own = part.profile.rate, part.split.rate
    by_cell = part.survives > 0 and math.isfinite(rate) and abs(rate - own) < abs(rate) / 2
    return bool(part.changed_between) and not by_cell


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
    own = max(part.saturation.memories, key=lambda memory: memory.longest, default=None)
    if own is not None and not own.gate and explains(own, part, need):
        yield _fading(part, own, need)
        return
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


def explains(memory: Memory, part: PartFinding, need: int) -> bool:
    """Whether what a state keeps of itself, past all matrices, is why a gradient shrinks as it does.

    It would have to shrink so by that path alone, and half as fast at most were all kept and nothing else changed.
    """
    rate = part.profile.rate
    if memory.keep < SOME or memory.longest >= need or not math.isfinite(rate):
        return False
    alone = max(math.log(memory.keep), -1 / memory.longest) * (1 - NEAR)
    return rate <= alone and (math.isnan(memory.whole) or memory.whole >= rate / 2)


def _fading(part: PartFinding, memory: Memory, need: int) -> Cause:
    state = memory.state if memory.state.startswith("state ") else f"state {memory.state}"
    text = (
        f"the {state} of {part.name} keeps {memory.keep:.2g} of itself in a step, by its direct path "
        f"past all matrices, and is forgetting the rest: its time constant is {steps_text(memory.time_constant)} "
        f"(at most {steps_text(memory.longest)}), {steps_text(need)} are needed"
    )
    advice = f"let the gate, or the constant, that says what is kept begin where it holds for {need} steps"
    return Cause("forgetting", part.name, text, memory.time_constant, "steps", advice)


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


_LOOKS: tuple[Callable[[Facts], Iterator[Cause]], ...] = (
    numbers,
    _rows,
    _cuts,
    _outside,
    _reads,
    _padding,
    parameters,
    elsewhere,
    _input,
    _between,
    _flow,
    step,
)
