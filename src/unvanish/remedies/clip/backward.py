"""Gradients of a model for looking at: what the model held before is given back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import FlowError


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Train inside the block, and afterwards have the model's gradients, modes and buffers as they were.

    The random numbers of the CPU go on after the block as if it had not been.
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([]), torch.enable_grad():
        try:
            model.train()
            for parameter, _ in gradients:
                parameter.grad = None
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


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
