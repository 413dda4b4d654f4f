"""Gradients of a model for looking at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from unvanish.errors import FlowError


def go_back(model: nn.Module, loss: Callable[[], Any]) -> None:
    """Give the model the gradients of a loss, and nothing else.

    Raises:
        FlowError: the loss is not one number with a gradient.
    """
    model.zero_grad()
    found = loss()
    if not isinstance(found, Tensor) or found.numel() != 1 or not found.requires_grad:
        given = f"tensor {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise FlowError(
            f"the loss is a {given} without a gradient, or not one number: give a function that makes one number "
            "of the model's output"
        )
    found.backward()  # type: ignore[no-untyped-call]
