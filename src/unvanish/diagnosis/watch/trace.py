"""Look at one training step as it runs: is the gradient clipped, when, of which parameters, and to what?

Calls are seen by the code that is run, not by the name that it was imported under.
"""

from __future__ import annotations

import contextlib
import cProfile
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad

from unvanish.flow.finding.untouched import untouched
from unvanish.remedies import clip as clips
from unvanish.torch_internals import changes, code_of


@dataclass
class Clip:
    """One call of a clipping function.

    Attributes:
        kind: `norm`, `value`, or `other` for one of `unvanish.clip` that is neither.
        threshold: what it was called with.
        gradients: those that it had before it, by where they lie.
        norm: of the gradient before, where it was told.
        backwards_before, steps_before: how many backward passes, and optimiser steps, had been made by then.
        scaled: whether the gradient was still multiplied by the scale of torch.amp.GradScaler.
        cut: of a clip by value, the share of the numbers that it brought to its threshold.
    """

    kind: str
    threshold: float
    gradients: set[int]
    norm: float | None
    backwards_before: int
    steps_before: int
    scaled: bool = False
    cut: float = 0.0


@dataclass(frozen=True)
class Trial:
    """What one step of the optimiser did to a copy of the model.

    Attributes:
        change: ‖update‖ / ‖parameters‖.
        before, after: the loss.
        noise: the spread of the gradient over its mean, as the optimiser's own running means have it (Adam's
            √(Σ(v − m²) / Σm²)); None where it keeps none, or has made fewer than twenty steps.
    """

    change: float
    before: float
    after: float
    noise: float | None


def noise_of(optimizer: torch.optim.Optimizer) -> float | None:
    """Return the spread of the gradient over its mean, of what an optimiser of Adam's kind remembers."""
    spread = mean = 0.0
    for group in optimizer.param_groups:
        for state in (optimizer.state[p] for p in group["params"] if p in optimizer.state):
            steps = float(state.get("step", 0))
            if "exp_avg" in state and "exp_avg_sq" in state and steps >= STEPS_KNOWN:
                first, second = (1 - beta**steps for beta in group["betas"])  # both means begin at zero
                squares = (state["exp_avg"].double() / first).square()
                spread += float((state["exp_avg_sq"].double() / second - squares).clamp_min(0).sum())
                mean += float(squares.sum())
    return math.sqrt(spread / mean) if mean > 0 else None


@dataclass
class StepTrace:
    """What one training step did.

    Attributes:
        stepped: the gradients that the optimiser took, by where they lie.
        scaled: whether the gradient is, by now, multiplied by the scale of torch.amp.GradScaler.
        kept: whether gradients of the step before were there at its backward pass, and its own are at its end.
    """

    clips: list[Clip] = field(default_factory=list)
    backwards: int = 0
    steps: int = 0
    stepped: set[int] = field(default_factory=set)
    scaled: bool = False
    kept: bool = False


STEPS_KNOWN = 20  # before, running means are of too few gradients


_CLIPS = {
    code_of(clip_grad.clip_grad_norm_): ("norm", "max_norm"),
    code_of(clip_grad.clip_grad_value_): ("value", "clip_value"),
}
_OURS = code_of(clips.Clip.__call__)
_BACKWARD = code_of(torch.autograd.backward)
_SCALE, _UNSCALE = code_of(torch.amp.GradScaler.scale), code_of(torch.amp.GradScaler.unscale_)


@contextlib.contextmanager
def traced(
    optimizer: torch.optim.Optimizer | None, on_backward: Callable[[], None] | None = None
) -> Iterator[StepTrace]:
    """Watch the block for calls of torch's clipping functions and of ours, backward passes and optimiser steps.

    `on_backward` is called where a backward pass begins.
    """
    trace = StepTrace()
    before: Any = sys.getprofile()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is _BACKWARD:
            if on_backward is not None:
                on_backward()
            trace.backwards += 1
        elif event == "call" and frame.f_code in (_SCALE, _UNSCALE):
            trace.scaled = frame.f_code is _SCALE and frame.f_locals["self"].is_enabled()
        elif event == "return" and frame.f_code in _CLIPS:
            trace.clips.append(_clip(frame, argument, trace))
        elif event == "return" and frame.f_code is _OURS and isinstance(argument, clips.ClipRecord):
            trace.clips += _our_clip(frame, argument, trace)

    def stepping(stepped: torch.optim.Optimizer, args: Any, keywords: Any) -> None:
        trace.steps += 1
        parameters = [p for group in stepped.param_groups for p in group["params"]]
        trace.stepped = {p.grad.data_ptr() for p in parameters if p.grad is not None}

    hooks = [] if optimizer is None else [optimizer.register_step_pre_hook(stepping)]
    sys.setprofile(look)
    try:
        yield trace
    finally:
        sys.setprofile(before if callable(before) else None)
        if isinstance(before, cProfile.Profile):  # which is no function, and begins by itself
            before.enable()
        for hook in hooks:
            hook.remove()


def _clip(frame: FrameType, returned: Any, trace: StepTrace) -> Clip:
    """What a clipping function did, from its own variables as it returns: a generator of parameters is used up."""
    kind, name = _CLIPS[frame.f_code]
    here = frame.f_locals
    gradients = [gradient for gradient in _flat(here.get("grads", ())) if gradient is not None]
    norm = float(returned) if kind == "norm" and gradients and isinstance(returned, Tensor | float) else None
    places = {gradient.data_ptr() for gradient in gradients}
    threshold = float(here[name])
    cut = _cut(gradients, threshold) if kind == "value" else 0.0
    return Clip(kind, threshold, places, norm, trace.backwards, trace.steps, trace.scaled, cut)


def _our_clip(frame: FrameType, record: clips.ClipRecord, trace: StepTrace) -> Iterator[Clip]:
    clip, gradients = frame.f_locals["self"], frame.f_locals["gradients"]
    if isinstance(clip, clips.PerStep):  # it acted within the backward pass, wherever it is asked
        return
    kind = "norm" if isinstance(clip, clips.ByNorm) else "value" if isinstance(clip, clips.ByValue) else "other"
    places = {gradient.data_ptr() for gradient in gradients.tensors}
    norm = record.norm if places else None
    cut = _cut(gradients.tensors, record.threshold) if kind == "value" else 0.0
    yield Clip(kind, record.threshold, places, norm, trace.backwards, trace.steps, trace.scaled, cut)


def _cut(gradients: Iterable[Tensor], threshold: float) -> float:
    """The share of the numbers that are not zero which lie at a threshold, or over it."""
    sizes = [gradient.detach().abs() for gradient in gradients]
    over = sum(int((size >= threshold * (1 - 1e-6)).sum()) for size in sizes)
    return over / max(sum(int(size.count_nonzero()) for size in sizes), 1)


def _flat(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        else:
            yield from _flat(value)


def norm_of(parameters: list[Tensor]) -> float:
    """‖gradient‖ over all parameters that have one."""
    norms = [torch.linalg.vector_norm(p.grad.detach()) for p in parameters if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack([n.float() for n in norms]))) if norms else 0.0


def trace_step(model: nn.Module, optimizer: torch.optim.Optimizer | None, step: Callable[[], Any]) -> StepTrace:
    """Run one training step under watch, and give the model and its optimiser back as they were."""
    with untouched(model, optimizer, weights=True):
        held = (
            list(model.parameters())
            if optimizer is None
            else [p for g in optimizer.param_groups for p in g["params"]]
        )
        trained = [p for p in held if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        # What sets a gradient to zero puts another in its place, or changes it; so does what adds to it, later.
        before = [(parameter, parameter.grad, _changes(parameter)) for parameter in trained]
        kept: list[list[nn.Parameter]] = []
        with traced(optimizer, lambda: kept.append(_kept(before))) as trace:
            step()
        trace.kept = any(p.grad is not None and bool(p.grad.any()) for p in (kept[0] if kept else ()))
    return trace


def _changes(parameter: Tensor) -> int:
    return 0 if parameter.grad is None else changes(parameter.grad)


def _kept(before: list[tuple[nn.Parameter, Tensor | None, int]]) -> list[nn.Parameter]:
    """The parameters whose gradients are still what they were."""
    return [p for p, gradient, count in before if p.grad is gradient and _changes(p) == count]
