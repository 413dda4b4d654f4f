"""Layers for tests: every cell of the catalogue, in double precision, with random states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.whole import KINDS, usual
from unvanish import Recurrent, cells

INPUT, HIDDEN = 3, 8
OPTIONS: dict[str, dict[str, Any]] = {"delayed_rnn": {"d": 2}, "skip_rnn": {"d": 3}}
each_cell = pytest.mark.parametrize("name", sorted(cells))
each_kind = pytest.mark.parametrize("name", usual(KINDS, sorted(cells)))


def made(name: str, **options: Any) -> Recurrent:
    """A layer of a cell of the catalogue, with delays short enough to matter in a short test."""
    options = {"dtype": torch.float64, **OPTIONS.get(name, {}), **options}
    return Recurrent(name, INPUT, HIDDEN, **options)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def random_states(layer: Recurrent, batch: int = 0) -> tuple[Tensor, ...]:
    """States to begin with, (L·R, B, width) each; of a clock, some times. Unbatched if batch is 0."""
    states = []
    for name, zero in zip(layer.state_names, layer.zero_states(batch or 1), strict=True):
        state = torch.randint(0, 9, zero.shape) if name == "t" else 0.5 * torch.randn(zero.shape, dtype=zero.dtype)
        states.append(state if batch else state[:, 0])
    return tuple(states)


def as_tuple(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)


def close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
