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


def outputs_and_gradients(layer: Recurrent, x_TBI: Tensor) -> list[Tensor]:
    """The output, the final states, and the gradients of the input and of all parameters."""
    x_TBI = x_TBI.clone().requires_grad_()
    output, states = layer(x_TBI)
    states = states if isinstance(states, tuple) else (states,)
    values = [output, *(state for state in states if state.is_floating_point())]
    generator = torch.Generator().manual_seed(1)
    loss = sum((v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in values)
    leaves = [x_TBI, *layer.parameters()]
    return [*(v.detach() for v in values), *torch.autograd.grad(loss, leaves, materialize_grads=True)]


def assert_agree(
    cell: Cell | str,
    width: int,
    hidden: int,
    batch: int,
    steps: int,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> None:
    """Run both, and compare everything relative to its largest value."""
    x_TBI = torch.randn(steps, batch, width, dtype=dtype)
    wanted, found = (outputs_and_gradients(layer, x_TBI) for layer in pair(cell, width, hidden, dtype, **options))
    for one, other in zip(found, wanted, strict=True):
        scale = float(other.abs().max()) + 1e-3
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=TOLERANCE[dtype])
