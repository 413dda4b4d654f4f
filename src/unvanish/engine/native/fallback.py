"""Derivatives that the kernels do not have: the same pass once more in plain torch, which has them all.

Second derivatives, and gradients of many cotangents at once, are taken through the reference back end, run on just
what the native pass was given.

Shapes: T time, P rows of a schedule, N values of all steps, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unvanish.engine.layout import Weights
from unvanish.engine.native.prepared import Prepared, split
from unvanish.engine.reference import Reference
from unvanish.engine.sequence import Pass
from unvanish.torch_internals import is_batched


def needs_plain_torch(gradients: Sequence[Tensor | None]) -> bool:
    """Whether a backward pass asks for more than the kernels give."""
    return torch.is_grad_enabled() or any(is_batched(gradient) for gradient in gradients if gradient is not None)


def backward(
    ready: Prepared,
    weights: Weights,
    given: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Give the gradients of what a pass was given, differentiable in their turn."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # A node apart: `given` may be used elsewhere too, and only this pass is meant.
        apart = [array.view_as(array) if wanted else array for array, wanted in zip(given, needed, strict=True)]
        outputs = _outputs(ready, weights, apart)
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
    wanted = [array for array, want in zip(apart, needed, strict=True) if want]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            wanted,
            [gradient for _, gradient in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [next(found) if want else None for want in needed]


def _outputs(ready: Prepared, weights: Weights, given: Sequence[Tensor]) -> list[Tensor]:
    """What the pass gave, in plain torch."""
    binding, schedule, plan = ready.binding, ready.schedule, ready.memory.kernel.plan
    x_NI, arrays, states, masks = split(ready, given)
    stored = dict(zip((stack.name for stack in binding.stacks), arrays, strict=False))
    loose = {name: arrays[len(binding.stacks) + i] for i, (name, _) in reversed([*enumerate(binding.loose)])}
    uneven = schedule.lengths_P is not None
    whole = Pass(
        plan=plan,
        weights=Weights(weights.stacks, {**weights.arrays, **stored}),
        numbers={name: _for_any_width(name, value, ready) for name, value in loose.items()},
        x_TBI=_padded(ready, x_NI),
        states={state.name: value for state, value in zip(plan.system.states, states, strict=True)},
        time_B1=None if ready.time_P is None else ready.time_P[:, None],
        lengths_B=schedule.lengths_P,
        masks={
            mask.name: _padded(ready, value) if mask.of == "step" else value
            for mask, value in zip(plan.system.masks, masks, strict=True)
        },
        taps=ready.norms if ready.step_clip is None else (*ready.norms, ready.step_clip),
        wants_all_states=ready.memory.wants_all,
    )
    result = Reference().run(whole)
    steps = [result.output_TBW]
    if result.all_states is not None:
        steps += [result.all_states[state.name] for state in plan.system.states]
    flat = [_flat(ready, value) if uneven else value.flatten(0, 1) for value in steps]
    return [flat[0], *(result.states[state.name] for state in plan.system.states), *flat[1:]]


def _for_any_width(name: str, value: Tensor, ready: Prepared) -> Tensor:
    """A number that is used at several widths was brought to each of them: one of its values is all of it."""
    return value if sum(other == name for other, _ in ready.binding.loose) == 1 else value[:1]


def _places(ready: Prepared) -> Tensor:
    """The place of each value in an array (T, P)."""
    schedule = ready.schedule
    step_N = torch.repeat_interleave(schedule.sizes_T)
    return step_N * schedule.rows + torch.arange(schedule.count, device="cpu") - schedule.at_T[step_N]


def _padded(ready: Prepared, values_NW: Tensor) -> Tensor:
    schedule = ready.schedule
    if schedule.lengths_P is not None:
        blank = values_NW.new_zeros(schedule.steps * schedule.rows, values_NW.shape[1])
        values_NW = blank.index_copy(0, _places(ready), values_NW)
    return values_NW.view(schedule.steps, schedule.rows, -1)


def _flat(ready: Prepared, values_TPW: Tensor) -> Tensor:
    return values_TPW.flatten(0, 1).index_select(0, _places(ready))
