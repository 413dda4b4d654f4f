"""Run a long sequence in segments: only the states between them are kept, the rest is recomputed.

The backward pass takes the segments from the last to the first, runs each forward once more, and sends the adjoint
back through it. Memory grows with the length of a segment and the number of segments; with ⌈√T⌉ steps in each, with
the square root of T. The price is a second forward pass.

Shapes: T time, B batch, I input, W width, S segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unvanish.engine.layout import Weights
from unvanish.engine.sequence import Pass, Result

Engine = Callable[[Pass], Result]


def run_in_segments(job: Pass, length: int, engine: Engine) -> Result:
    """Run a plan over a sequence, `length` steps at a time."""
    names = [state.name for state in job.plan.system.states]
    tensors = [job.x_TBI, *job.weights.arrays.values(), *(job.states[name] for name in names)]
    found = _Segments.apply(job, length, engine, *tensors)  # type: ignore[no-untyped-call]
    count = len(names)
    every = dict(zip(names, found[1 + count :], strict=True)) if job.wants_all_states else None
    return Result(found[0], dict(zip(names, found[1 : 1 + count], strict=True)), every)


def _with(job: Pass, tensors: Sequence[Tensor]) -> Pass:
    """The same run on other tensors: input, stored arrays, states."""
    arrays = len(job.weights.arrays)
    weights = dict(zip(job.weights.arrays, tensors[1 : 1 + arrays], strict=True))
    states = dict(zip([state.name for state in job.plan.system.states], tensors[1 + arrays :], strict=True))
    return dataclasses.replace(job, x_TBI=tensors[0], weights=Weights(job.weights.stacks, weights), states=states)


def _segment(job: Pass, first: int, last: int, states: Sequence[Tensor]) -> Pass:
    """The steps from `first` to `last`, from given states on."""
    names = [state.name for state in job.plan.system.states]
    per_step = {mask.name for mask in job.plan.system.masks if mask.of == "step"}
    return dataclasses.replace(
        job,
        x_TBI=job.x_TBI[first:last],
        states=dict(zip(names, states, strict=True)),
        time_B1=None if job.time_B1 is None else _time(job, first),
        lengths_B=None if job.lengths_B is None else (job.lengths_B - first).clamp(0, last - first),
        reset_TB=None if job.reset_TB is None else job.reset_TB[first:last],
        masks={name: mask[first:last] if name in per_step else mask for name, mask in job.masks.items()},
    )


def _time(job: Pass, first: int) -> Tensor:
    """The index of a segment's first step, row by row: it begins anew where a row was reset."""
    assert job.time_B1 is not None
    if job.reset_TB is None or first == 0:
        return job.time_B1 + first
    steps_T1 = torch.arange(first, device=job.time_B1.device)[:, None]
    last_B = torch.where(job.reset_TB[:first], steps_T1, -1).amax(0)
    return torch.where(last_B < 0, job.time_B1[:, 0] + first, first - last_B)[:, None]


class _Segments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, job: Pass, length: int, engine: Engine, *tensors: Tensor) -> Any:
        job = _with(job, tensors)
        names = [state.name for state in job.plan.system.states]
        states, borders, steps = tuple(job.states[name] for name in names), [], job.x_TBI.shape[0]
        output: Tensor | None = None
        every: dict[str, Tensor] = {}
        for first in range(0, steps, length):
            last = min(first + length, steps)
            borders.append(states)
            result = engine(_segment(job, first, last, states))
            if output is None:
                output = result.output_TBW.new_empty(steps, *result.output_TBW.shape[1:])
                every = {n: v.new_empty(steps, *v.shape[1:]) for n, v in (result.all_states or {}).items()}
            output[first:last] = result.output_TBW
            for name, values in (result.all_states or {}).items():
                every[name][first:last] = values
            states = tuple(result.states[name] for name in names)
        assert output is not None
        ctx.run, ctx.length, ctx.engine, ctx.count = job, length, engine, len(tensors)
        ctx.set_materialize_grads(False)  # zeros for an output that nobody used would be as large as it
        ctx.save_for_backward(*tensors, *(torch.stack(parts) for parts in zip(*borders, strict=True)))
        return (output, *(state.clone() for state in states), *(every[name] for name in every))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_output: Tensor | None, *others: Tensor | None) -> Any:
        tensors, borders = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        job, steps = _with(ctx.run, tensors), tensors[0].shape[0]
        of_states: list[Tensor | None] = list(others[: len(borders)])
        of_every = others[len(borders) :]
        backwards = _Backwards(job, ctx.engine, ctx.needs_input_grad[3:])
        for number in reversed(range(-(-steps // ctx.length))):
            first = number * ctx.length
            last = min(first + ctx.length, steps)
            of_steps = [None if g is None else g[first:last] for g in (of_output, *of_every)]
            gradients = [of_steps[0], *of_states, *of_steps[1:]]
            of_states = backwards.segment(first, last, [border[number] for border in borders], gradients)
        return (None, None, None, *backwards.gradients, *of_states)


class _Backwards:
    """Goes back through the segments, adding up the gradients of the weights."""

    def __init__(self, job: Pass, engine: Engine, needed: Sequence[bool]) -> None:
        self.job, self.engine = job, engine
        self.arrays = list(job.weights.arrays.values())
        self.needed = needed[: 1 + len(self.arrays)]
        leaves = (job.x_TBI, *self.arrays)
        self.gradients = [
            torch.zeros_like(leaf) if wanted else None for leaf, wanted in zip(leaves, self.needed, strict=True)
        ]

    def segment(
        self, first: int, last: int, states: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """Send the adjoint back through one segment; return that of its initial states."""
        if all(gradient is None for gradient in gradients):  # what follows was not used
            return [None] * len(states)
        names = [state.name for state in self.job.plan.system.states]
        with torch.enable_grad():
            x_TBI = self.job.x_TBI[first:last].detach().requires_grad_(self.needed[0])
            arrays = [
                array.detach().requires_grad_(wanted)
                for array, wanted in zip(self.arrays, self.needed[1:], strict=True)
            ]
            initial = [state.detach().requires_grad_() for state in states]
            part = _segment(self.job, first, last, initial)
            weights = Weights(self.job.weights.stacks, dict(zip(self.job.weights.arrays, arrays, strict=True)))
            result = self.engine(dataclasses.replace(part, x_TBI=x_TBI, weights=weights))
        outputs = [result.output_TBW, *(result.states[name] for name in names)]
        outputs += [result.all_states[name] for name in names] if result.all_states is not None else []
        pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad and g is not None]
        leaves = [leaf for leaf, wanted in zip([x_TBI, *arrays], self.needed, strict=True) if wanted] + initial
        found = iter(torch.autograd.grad([o for o, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True))
        for number, total in enumerate(self.gradients):
            part_gradient = next(found) if total is not None else None
            if part_gradient is not None and total is not None:
                (total[first:last] if number == 0 else total).add_(part_gradient)
        return list(found)
