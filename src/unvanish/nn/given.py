"""A sequence as a layer was given it, and what its parts give put together.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Given:
    """An input, time first, with the length of each row and the steps at which rows are reset."""

    x_TBI: Tensor
    batched: bool
    lengths_B: Tensor | None = None
    reset_TB1: Tensor | None = None


def in_dtype(sequence: Given, initial: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Given, tuple[Tensor, ...]]:
    """What a pass is given, in the type of the weights."""
    states = tuple(state.to(dtype) if state.is_floating_point() else state for state in initial)
    return replace(sequence, x_TBI=sequence.x_TBI.to(dtype)), states


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Return the values of all parts, one after the other."""
    return torch.stack(tuple(parts)) if len(parts) > 1 else parts[0][None]
