"""Run a layer on a stream: one step per call, the states carried along.

Shapes: B batch, I input, W width of the output, L layers, D how many steps back a state is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unvanish.engine import Stepper


class Stream:
    """A layer that runs one step per call; made by `Recurrent.stream`.

    The weights are those of the moment when it was made. Nothing is differentiated.

    >>> import unvanish
    >>> stream = unvanish.LSTM(3, 4).stream(batch=2)
    >>> for _ in range(5):
    ...     y_BW = stream(torch.randn(2, 3))
    >>> y_BW.shape, [state.shape for state in stream.states]
    (torch.Size([2, 4]), [torch.Size([1, 2, 4]), torch.Size([1, 2, 4])])
    """

    def __init__(
        self,
        steppers: list[Stepper],
        names: tuple[str, ...],
        shape: tuple[int, int],
        check: Callable[[Tensor], None],
        hand_on: Callable[[int, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self._steppers, self._names, self._shape, self._check = steppers, names, shape, check
        self._hand_on = hand_on

    @torch.no_grad()
    def __call__(self, x_BI: Tensor) -> Tensor:
        """Run one step: (B, I) -> (B, W)."""
        if x_BI.shape != self._shape:
            self._check(x_BI)
        if self._hand_on is None:
            for stepper in self._steppers:
                x_BI = stepper(x_BI)
            return x_BI
        for layer, stepper in enumerate(self._steppers):
            x_BI = self._hand_on(layer, x_BI, stepper(x_BI))
        return x_BI

    @property
    def states(self) -> Any:
        """The states after the last step, as `Recurrent.forward` returns them."""
        carried = [stepper.carried() for stepper in self._steppers]
        states = tuple(torch.stack([part[name] for part in carried]) for name in self._names)
        return states[0] if len(states) == 1 else states
