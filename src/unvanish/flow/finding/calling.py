"""Run any model on a batch, and send random directions: what several measurements begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def called(model: nn.Module, batch: Any) -> Any:
    """Run a model on a batch: a tuple is spread over its arguments, a mapping over their names."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*arguments(batch))


def arguments(batch: Any) -> tuple[Any, ...]:
    """Return what a batch is spread into: itself, where it is a named tuple such as a PackedSequence."""
    return batch if isinstance(batch, tuple) and not hasattr(batch, "_fields") else (batch,)


def edges(tensors: Sequence[Tensor]) -> list[Any]:
    """What autograd takes for tensors: of one that was changed in place since, the edge that it had then."""
    return [getattr(one, "edge", one) for one in tensors]


def random_like(value: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw a direction v ~ N(0, I) of the shape, type and device of a value, from a generator on any device."""
    device = value.device if generator is None else generator.device
    return torch.randn(value.shape, generator=generator, dtype=value.dtype, device=device).to(value.device)
