"""Recurrences that are measured in the graph of the model's own run: loops, and the steps of the input.

Shapes: T time, B batch, K lags, S states, D draws.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.flow.finding.calling import edges, random_like
from unvanish.flow.finding.calls import tensors_in
from unvanish.flow.finding.parts import Part, size_of
from unvanish.flow.finding.trace import Loop

SHAPED_ALIKE = frozenset(
    {"zeros_like", "ones_like", "empty_like", "full_like", "randn_like", "rand_like"} | {"new_zeros", "new_full"}
)
INPUT = "the input"  # the part whose steps are those of the input
DRAWS, MORE = 8, 64  # directions: where their mean is near a border, more are drawn
SOME = 0.2  # of a state that a step keeps past all matrices: less is no path to speak of
REACH_SHARE = 0.01  # of the norm must survive
BAND = 2.0  # standard errors
NEAREST, STEEP = 5, 10  # lags that a convolution may read, too; times the median over all, where a gradient decays
Norms = NDArray[np.float64]


@dataclass
class GraphPart(Part):
    """A recurrence whose steps cannot be run by themselves.

    Attributes:
        squares_DKS: what is left of random directions k steps back, squared, (D, K, S).
        loop: what tracing found; None for the steps of the input.
        joints: how the state came to each step after the first: `joined`, `detached` (the same numbers, without
            their gradient) or `reset` (other ones).
        direct: what each unit of each state keeps of itself in a step by its direct path, in the mean over steps.
        whole: the rate of the gradient, were all of one state kept that way, and the rest as it is.
        held: the sizes of all states that are handed on, those that the loss does not depend on, too.
        arrives: whether any gradient of the loss comes to it.
        window: the most steps through which a gradient flows from where one of the loss arrives.
        again: runs the model once more in a context, and gives `squares_DKS` of that.
    """

    name: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    count: int
    squares_DKS: Norms | None = None
    joints: tuple[str, ...] = ()
    loop: Loop | None = None
    direct: Mapping[str, Tensor] = field(default_factory=dict)
    whole: Mapping[str, float] = field(default_factory=dict)
    window: int = 0
    held: tuple[int, ...] = ()
    arrives: bool = True
    again: Callable[[contextlib.AbstractContextManager[Any]], Norms | None] | None = field(default=None, repr=False)

    @property
    def widths(self) -> dict[str, int]:
        return dict(zip(self.names, self.sizes, strict=True))

    @property
    def steps(self) -> int:
        return self.count

    @property
    def period(self) -> int:
        return self.loop.delay if self.loop is not None else 1


def trained_states(loop: Loop) -> list[list[Tensor]]:
    """The states of a loop that a gradient can come to at any step."""
    places = range(len(loop.states[-1]))
    kept = [place for place in places if any(step[place].requires_grad for step in loop.states)]
    return [[step[place] for place in kept] for step in loop.states]


def of_loop(loop: Loop, loss: Tensor, need: int | None = None) -> GraphPart:
    """Measure a loop that tracing found, while the graph of its run is held; `need` is the needed lag."""
    every = trained_states(loop)
    states, arrives_T = _told_by(loss, every)
    count = len(states[-1])
    names = ("h",) if count == 1 else tuple(f"state {number}" for number in range(1, count + 1))
    joints = joints_of(states, loop)
    whole = states[: longest_run(joints)[1]]
    squares_DKS = _squares(whole, loop, need)
    sizes = tuple(_numbers_of(state) for state in states[-1])
    alike = all(one.shape == last.shape for step in states for one, last in zip(step, states[-1], strict=True))
    direct = dict(zip(names, kept_directly(states), strict=True)) if loop.delay == 1 and alike else {}
    some = [(place, name) for place, name in enumerate(direct) if SOME < float(direct[name].mean()) < 1]
    rates = {name: rate_with_all_kept(whole, place, direct[name]) for place, name in some}
    loop, window = replace(loop, states=states), reached(runs_of(joints), arrives_T)
    held = tuple(_numbers_of(state) for state in every[-1])
    return GraphPart(
        loop.name, names, sizes, loop.steps, squares_DKS, joints, loop, direct, rates, window, held, any(arrives_T)
    )


def squares_of_loop(loop: Loop, loss: Tensor, need: int | None = None) -> Norms:
    """Measure only what is left of random directions along a loop, (D, K, S): `squares_DKS` of `of_loop`."""
    states, _ = _told_by(loss, trained_states(loop))
    return _squares(states[: longest_run(joints_of(states, loop))[1]], loop, need)


def _squares(states: Sequence[Sequence[Tensor]], loop: Loop, need: int | None) -> Norms:
    return drawn(lambda draws, seed: norms_along(states, draws, seed), need, loop.delay)


def _numbers_of(state: Tensor) -> int:
    """How many numbers a row of a state has."""
    return state.shape[1:].numel() if state.dim() > 1 else state.numel()


def _told_by(loss: Tensor, states: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[bool]]:
    """The states that the loss depends on, and at which steps a gradient of it comes to any of them.

    What only adds up what others hold, such as the loss of all steps, or the mean of all states, is not among them:
    a loss that reads every step is no memory.
    """
    flat = [one for step in states for one in step if one.requires_grad]
    found = torch.autograd.grad(loss, edges(flat), retain_graph=True, allow_unused=True) if flat else ()
    come = {id(one) for one, gradient in zip(flat, found, strict=True) if gradient is not None and gradient.any()}
    places = [place for place in range(len(states[-1])) if any(id(step[place]) in come for step in states)]
    places = [place for place in places if not _adds_up(states, place)] or places or list(range(len(states[-1])))
    arrives_T = [any(id(step[place]) in come for place in places) for step in states]
    return [[step[place] for place in places] for step in states], arrives_T


def _adds_up(states: Sequence[Sequence[Tensor]], place: int) -> bool:
    """Whether a state is kept as it is and read by no other one, where there are others."""
    if len(states[-1]) < 2 or len(states) < 2:
        return False
    generator, before = torch.Generator().manual_seed(0), states[-2][place]
    own, others = states[-1][place], [one for at, one in enumerate(states[-1]) if at != place and one.requires_grad]
    if not before.requires_grad or not own.requires_grad or own is before or own.shape != before.shape:
        return False
    sent = random_like(own, generator)
    (kept,) = torch.autograd.grad(edges([own]), edges([before]), sent, retain_graph=True, allow_unused=True)
    if kept is None or not torch.allclose(kept, sent):
        return False
    drawn_on = [random_like(one, generator) for one in others]
    (read,) = torch.autograd.grad(edges(others), edges([before]), drawn_on, retain_graph=True, allow_unused=True)
    return read is None or not bool(read.any())


def joints_of(states: Sequence[Sequence[Tensor]], loop: Loop) -> tuple[str, ...]:
    """Say how the state came to each step after the first."""
    found = []
    for t in range(1, len(states)):
        before = [one for step in states[max(0, t - loop.delay) : t] for one in step]
        ends = [one for one in states[t] if one.requires_grad]
        sources = [one for one in before if one.requires_grad]
        zeros = [torch.zeros_like(one) for one in ends]
        gradients = (
            torch.autograd.grad(edges(ends), edges(sources), zeros, retain_graph=True, allow_unused=True)
            if ends and sources
            else ()
        )
        if t < loop.delay or any(one is not None for one in gradients):
            found.append("joined")
        else:
            known = {id(one) for one in before}
            read = (one for call in loop.calls[t] if call.name not in SHAPED_ALIKE for one in call.taken)
            found.append("detached" if any(id(one) in known for one in read) else "reset")
    return tuple(found)


def runs_of(joints: Sequence[str]) -> list[tuple[int, int]]:
    """Where the runs of steps that a gradient can flow through begin and end."""
    cuts = [0, *(t for t, how in enumerate(joints, 1) if how != "joined"), len(joints) + 1]
    return list(itertools.pairwise(cuts))


def longest_run(joints: Sequence[str]) -> tuple[int, int]:
    """The longest run of steps that a gradient can flow through; of several, the last."""
    return max(runs_of(joints), key=lambda run: (run[1] - run[0], run[1]))


def reached(runs: Sequence[tuple[int, int]], arrives_T: Sequence[bool]) -> int:
    """The most steps through which a gradient flows from where one of the loss arrives; if none does, at all."""
    found = [
        max(t for t in range(first, last) if arrives_T[t]) + 1 - first
        for first, last in runs
        if any(arrives_T[first:last])
    ]
    return max(found or [last - first for first, last in runs])


def norms_along(states: Sequence[Sequence[Tensor]], draws: int = DRAWS, seed: int = 0) -> Norms:
    """Send random directions from the states of the last step to those of all before: what is left, (D, K, S).

    Squares; each state is measured in its own size.
    """
    generator, last = torch.Generator().manual_seed(seed), states[-1]
    sizes = [size_of(stacked([step[place] for step in states])) for place in range(len(last))]
    ends = [(place, state) for place, state in enumerate(last) if state.requires_grad]
    earlier = [
        (k, place, state) for k, step in enumerate(reversed(states[:-1]), 1) for place, state in enumerate(step)
    ]
    flat = [one for one in earlier if one[2].requires_grad]
    squares_DKS = np.zeros((draws, len(states), len(last)))
    for draw in range(draws if ends else 0):
        directions = [random_like(end, generator) for _, end in ends]
        sent = sum(square(direction) for direction in directions)
        scaled = [v / sizes[place] for v, (place, _) in zip(directions, ends, strict=True)]
        into, out_of = edges([one for _, _, one in flat]), edges([end for _, end in ends])
        found = torch.autograd.grad(out_of, into, scaled, retain_graph=True, allow_unused=True)
        for (place, _), direction in zip(ends, directions, strict=True):
            squares_DKS[draw, 0, place] = square(direction) / sent
        for (k, place, _), gradient in zip(flat, found, strict=True):
            if gradient is not None:
                squares_DKS[draw, k, place] = square(gradient) * sizes[place] ** 2 / sent
    return squares_DKS


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Values of all steps, (T, B, …); where the number of rows changes, all rows one after the other."""
    alike = all(one.shape == values[0].shape for one in values)
    return torch.stack(list(values)) if alike else torch.cat([one.flatten(0, -2) for one in values])


def drawn(squares_of: Callable[[int, int], Norms], need: int | None, period: int = 1) -> Norms:
    """Draw as many directions as it takes to say on which side of a border the needed lag lies, (D, K, S).

    Args:
        squares_of: what is left of so many directions, from a seed.
        need: the needed lag; without it the last.
        period: of the recurrence: the largest over one counts.
    """
    squares_DKS = squares_of(DRAWS, 0)
    last = squares_DKS.shape[1] - 1
    at = last if need is None else min(need, last)
    around_DK = squares_DKS.sum(2)[:, max(0, at + 1 - period) : at + period]
    found_D = around_DK[:, int(around_DK.mean(0).argmax())]
    spread = BAND * float(found_D.std(ddof=1)) / math.sqrt(len(found_D))
    near = [abs(float(found_D.mean()) - border**2) <= spread for border in (REACH_SHARE, 1 / REACH_SHARE)]
    return np.concatenate([squares_DKS, squares_of(MORE - DRAWS, 1)]) if any(near) else squares_DKS


def kept_directly(states: Sequence[Sequence[Tensor]], steps: int = 8, draws: int = 8) -> list[Tensor]:
    """Estimate the diagonal of ∂s_t/∂s_{t-1} for every state, unit by unit, in the mean over rows and some steps.

    E[v ∘ Jᵀ v] = diag J for v of independent signs (Hutchinson's estimator, Bekas, Kokiopoulou, Saad 2007).
    """
    found = []
    at: Any = np.unique(np.linspace(1, len(states) - 1, steps).astype(int)) if len(states) > 1 else []
    generator = torch.Generator().manual_seed(0)
    for place, state in enumerate(states[-1]):
        total, count = torch.zeros(state.shape[-1] if state.dim() else 1, dtype=torch.float64, device="cpu"), 0
        for t in at:
            now, before = states[t][place], states[t - 1][place]
            for _ in range(draws if now.requires_grad and before.requires_grad else 0):
                signs = random_like(now, generator).sign()
                (pulled,) = torch.autograd.grad(
                    edges([now]), edges([before]), signs, retain_graph=True, allow_unused=True
                )
                if pulled is not None and pulled.shape == signs.shape:
                    total += (signs * pulled).double().reshape(-1, total.shape[0]).mean(0).cpu()
                count += 1
        found.append(total / max(count, 1))
    return found


def rate_with_all_kept(states: Sequence[Sequence[Tensor]], place: int, keep_W: Tensor) -> float:
    """The mean log of what a step leaves of a gradient, over the later half of the way, were all of one state kept.

    That is with (1 - k) I added to the state's own block of the Jacobian: the share k that it keeps becomes 1, and
    all else stays as it is.
    """
    generator, logs = torch.Generator().manual_seed(0), list[float]()
    sent = [random_like(one, generator) for one in states[-1]]
    for t in range(len(states) - 1, 0, -1):
        ends = [(one, v) for one, v in zip(states[t], sent, strict=True) if one.requires_grad]
        sources = [one for one in states[t - 1] if one.requires_grad]
        if not ends or len(sources) < len(states[t - 1]):
            break
        out_of, into = edges([one for one, _ in ends]), edges(sources)
        found = torch.autograd.grad(out_of, into, [v for _, v in ends], retain_graph=True, allow_unused=True)
        kept = sent[place] * (1 - keep_W.to(sent[place]))
        sent = [torch.zeros_like(s) if g is None else g for s, g in zip(sources, found, strict=True)]
        sent[place] = sent[place] + kept
        size = math.sqrt(sum(square(v) for v in sent))
        if not 0 < size < math.inf:
            break
        logs.append(math.log(size) - (0.0 if logs else math.log(math.sqrt(sum(v.numel() for v in sent)))))
        sent = [v / size for v in sent]
    later = logs[len(logs) // 2 :]
    return sum(later) / len(later) if later else math.nan


def square(value: Tensor) -> float:
    """The sum of squares, in double precision."""
    return float(value.detach().double().square().sum())


# -- the steps of the input --------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched_input(model: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """Let the gradient come to the input in the block; of whole numbers, to what is made of them first."""
    floats = [one for one in inputs if one.is_floating_point() and one.dim() >= 2 and one.is_leaf]
    found: list[Tensor] = []
    before = [(one, one.requires_grad) for one in floats]
    hooks = []

    def embedded(module: nn.Module, args: Any, output: Any) -> Any:
        taken = [one for one in args if isinstance(one, Tensor) and not one.is_floating_point() and one.dim() >= 1]
        if not found and taken and isinstance(output, Tensor) and output.is_floating_point():
            output = output if output.requires_grad else output.detach().requires_grad_()
            found.append(output)
        return output

    try:
        if floats:
            largest = max(floats, key=lambda one: one.numel())
            found.append(largest.requires_grad_())
        else:
            for module in model.modules():
                with contextlib.suppress(RuntimeError):
                    hooks.append(module.register_forward_hook(embedded))
        yield found
    finally:
        for one, required in before:
            one.requires_grad_(required)
            one.grad = None
        for hook in hooks:
            hook.remove()


def by_last_output(outputs: Sequence[Any], x: Tensor, axis: int) -> Tensor | None:
    """The gradient by the input of the output at the last step, where the model has one for every step.

    A loss that reads every step hides how far back each of them looks. None where the output has no steps.
    """
    axes = (axis,) if x.dim() < 3 else (axis, 1 - axis if axis < 2 else 0)  # the steps, and the rows
    for one in tensors_in(outputs[-1] if outputs else None):
        if one.requires_grad and one.dim() > max(axes) and all(one.shape[at] == x.shape[at] for at in axes):
            end = one.select(axis, -1)
            draw = random_like(end, torch.Generator().manual_seed(0))
            (found,) = torch.autograd.grad(end, x, draw, retain_graph=True, allow_unused=True)
            return torch.zeros_like(x) if found is None else found
    return None


def of_input(x: Tensor, gradient: Tensor | None, axis: int) -> GraphPart:
    """The gradient of the loss by the steps of the input, relative to its median over the lags from 1 on.

    The last step is also read directly, and does not count. Where that median is next to nothing beside the one
    over the nearest lags, as of a gradient that decays, it is relative to the latter.
    """
    steps = x.shape[axis]
    norms_T = np.zeros(steps)
    if gradient is not None:
        norms_T = gradient.detach().double().movedim(axis, 0).flatten(1).norm(dim=1).cpu().numpy()
    norms_K = norms_T[::-1].copy()
    middle = float(np.median(norms_K[1:])) if steps > 1 else 0.0
    largest = float(norms_K[1:].max()) if steps > 1 else 0.0
    near = float(np.median(norms_K[NEAREST : max(2 * NEAREST, steps // 4)])) if steps > 2 * NEAREST else 0.0
    scale = (near if near > STEEP * middle else middle) or largest
    norms_K = norms_K / scale if scale else norms_K
    norms_K[0] = 1.0
    return GraphPart(INPUT, ("x",), (int(x.numel() // steps),), steps, norms_K[None, :, None] ** 2)


def time_axis(model: nn.Module, x: Tensor, need: int | None, embedded: bool = False) -> int:
    """Which axis of the input is time: what the model's own layers say, else the one that is long enough.

    With `embedded` the last axis holds the features.
    """
    if x.dim() < 3:
        return x.dim() - 1 if x.dim() == 2 and not x.is_floating_point() else 0
    for module in model.modules():
        told = getattr(module, "batch_first", None)
        if told is True or told is False:
            return int(told)
        if isinstance(
            module, nn.Conv1d
        ):  # of (batch, channels, time): whatever is turned for it has the batch first
            turned = embedded or (x.shape[1] != module.in_channels and x.shape[-1] == module.in_channels)
            return 1 if turned else x.dim() - 1
    if need is not None and (x.shape[0] > need) != (x.shape[1] > need):
        return 0 if x.shape[0] > need else 1
    return 0 if x.shape[0] >= x.shape[1] else 1
