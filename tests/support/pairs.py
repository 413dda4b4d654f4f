"""A cell on the reference and natively: the same weights, input and states; outputs and all gradients compared.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unvanish import Cell, Recurrent

TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-4}


def pair(
    cell: Cell | str, width: int, hidden: int, dtype: torch.dtype = torch.float64, **options: Any
) -> list[Recurrent]:
    """The same layer on the reference and natively."""
    layers = [Recurrent(cell, width, hidden, dtype=dtype, engine=e, **options) for e in ("reference", "native")]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers


def outputs_and_gradients(
    layer: Recurrent, x_TBI: Tensor, states: tuple[Tensor, ...] | None = None, *, all_states: bool = False
) -> list[Tensor]:
    """The outputs, and the gradients of the input, of the states that are given and of all parameters."""
    x_TBI = x_TBI.clone().requires_grad_()
    given = [s.clone().requires_grad_() if s.is_floating_point() else s for s in states or ()]
    hx = tuple(given) if len(given) > 1 else given[0] if given else None
    output, final, *every = layer(x_TBI, hx, all_states=True) if all_states else layer(x_TBI, hx)
    final = final if isinstance(final, tuple) else (final,)
    found = [output, *final, *(every[0].values() if every else ())]
    values = [value for value in found if value.is_floating_point()]
    generator = torch.Generator().manual_seed(1)
    loss = sum((v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in values)
    leaves = [x_TBI, *(s for s in given if s.is_floating_point()), *layer.parameters()]
    return [*(v.detach() for v in values), *torch.autograd.grad(loss, leaves, materialize_grads=True)]


def assert_agree(
    cell: Cell | str,
    width: int,
    hidden: int,
    batch: int,
    steps: int,
    dtype: torch.dtype = torch.float64,
    *,
    from_states: bool = False,
    **options: Any,
) -> None:
    """Run both, and compare everything relative to its largest value; `from_states` begins with random states,
    and compares the states of all steps too.
    """
    layers = pair(cell, width, hidden, dtype, **options)
    x_TBI = torch.randn(steps, batch, width, dtype=dtype)
    states = None
    if from_states:
        zeros = layers[0].zero_states(batch)
        states = tuple(s + torch.randn(s.shape, dtype=dtype) if s.is_floating_point() else s + 3 for s in zeros)
    wanted, found = (outputs_and_gradients(one, x_TBI, states, all_states=from_states) for one in layers)
    for one, other in zip(found, wanted, strict=True):
        scale = float(other.abs().max()) + 1e-3
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=TOLERANCE[dtype])
