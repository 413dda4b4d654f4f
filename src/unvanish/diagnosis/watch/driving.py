"""What the callbacks of trainers share, which drive a watcher by hand."""

from __future__ import annotations

import torch


class Scalars:
    """Gathers the scalars of a step, so that they are logged at once."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def add_scalar(self, tag: str, value: float, step: int, /) -> None:
        """Keep one number."""
        self._values[tag] = value

    def taken(self) -> dict[str, float]:
        """Return what has been gathered, and clear it."""
        found, self._values = self._values, {}
        return found


def finite(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all gradients of an optimiser are: a scaler leaves out a step where one is not."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
