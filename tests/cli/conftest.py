"""The commands start runs as well."""

import pytest
import torch

import unvanish
from tests.train.conftest import interruptible

__all__ = ["interruptible"]


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_there() -> None:
    """Compile what the runs need: the line that tells of it would stand among what they print."""
    for width in (4, 40):  # multiplied inside the loop over time, and before it
        unvanish.LSTM(width, 3)(torch.zeros(1, 1, width))
