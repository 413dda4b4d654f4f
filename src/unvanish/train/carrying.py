"""A network that runs one step per call, the states of each series carried on.

Shapes: S slots, I input of the layers, W width of the output; one row and one step at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.data.table.times import counted
from unvanish.nn import States
from unvanish.train.model import Inputs, Network, on


class Carried:
    """A network that runs one step per call.

    Args:
        length: how many steps back an answer looks, as in a window of so many steps; None: to the beginning. Of a
            window there is a slot for each of its steps, begun one after the other: the oldest answers, and is
            reset.
    """

    def __init__(self, model: Network, length: int | None) -> None:
        self.model, self.length = model, length
        self.states: States | None = None
        self.steps = 0

    @torch.no_grad()
    def step(self, x: Inputs) -> Tensor:
        """Return the answer after a step, with T = B = 1."""
        x = on(self.model, x)
        embedded_1SI = self.model.embedding(x)
        if self.length is not None:
            self._begin(self.steps % self.length)
            embedded_1SI = embedded_1SI.expand(-1, min(self.steps + 1, self.length), -1)
        output_1SW, self.states = self.model.recurrent(embedded_1SI.contiguous(), self.states)
        self.steps += 1
        oldest = self.steps % self.length if self.length is not None and self.steps >= self.length else 0
        answer: Tensor = self.model.answer(output_1SW[:, oldest : oldest + 1], x)
        return answer.cpu()

    def _begin(self, slot: int) -> None:
        """Begin a slot with states of zero, as a sequence begins."""
        if self.states is None:
            return
        states = (self.states,) if isinstance(self.states, Tensor) else self.states
        if slot >= states[0].shape[1]:
            states = tuple(F.pad(state, (0, 0, 0, 1)) for state in states)
        else:
            for state in states:
                state[:, slot] = 0
        self.states = states[0] if isinstance(self.states, Tensor) else states


@dataclass
class Series:
    """What is carried of a series."""

    carried: Carried
    rows: int = 0
    moment: int | float | None = None


def steps_between(before: float, now: float, step: str) -> float:
    """Return how many steps lie between two times, microseconds where the step has a unit.

    >>> day = 86_400_000_000
    >>> steps_between(0, 2 * day, "1 day"), steps_between(0, 31 * day, "1 month"), steps_between(1.0, 2.0, "0.5")
    (2.0, 1.0, 2.0)
    """
    return float(counted(np.array([before, now]), step)[1])
