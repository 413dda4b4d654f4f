"""The learning rate of every step, and when to stop for want of progress.

The rate depends on the step alone, except for `plateau`, which follows the validations: a resumed run has the rates
that it would have had without the break.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unvanish.train.settings import TrainSettings

LOWEST = 0.01  # of the rate, where a schedule ends
BEGINS, RISES = 0.04, 0.3  # of one cycle: its first rate, and the share of steps up to the highest (Smith 2018)
LOWERED, WAITS = 0.5, 2  # of a plateau: by what, after how many validations without a better one


class Schedule:
    """Gives the learning rate of each step.

    Attributes:
        total: how many steps there will be.
        best: the lowest loss of a validation. waited: how many validations ago it was. lowered: how often a plateau
            lowered the rate.
    """

    def __init__(self, settings: TrainSettings, total: int = 1) -> None:
        self.settings, self.total = settings, total
        self.best, self.waited, self.lowered = math.inf, 0, 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        >>> schedule = Schedule(TrainSettings(lr=1.0, schedule="cosine", warm_up=10), total=110)
        >>> [round(schedule.rate(step), 3) for step in (0, 4, 9, 10, 60, 110)]
        [0.1, 0.5, 1.0, 1.0, 0.505, 0.01]
        """
        asked = self.settings
        if step < asked.warm_up:
            return asked.lr * (step + 1) / asked.warm_up
        done = (step - asked.warm_up) / max(1, self.total - asked.warm_up)
        if asked.schedule == "cosine":
            return asked.lr * _between(1.0, LOWEST, done)
        if asked.schedule == "one-cycle":
            up = done / RISES
            share = _between(BEGINS, 1.0, up) if up < 1 else _between(1.0, LOWEST, (done - RISES) / (1 - RISES))
            return asked.lr * share
        return asked.lr * LOWERED**self.lowered

    def validated(self, loss: float) -> bool:
        """Take the loss of a validation; say whether there is no hope of a better one."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return False
        self.waited += 1
        if self.settings.schedule == "plateau" and self.waited % WAITS == 0:
            self.lowered += 1
        return 0 < self.settings.patience <= self.waited

    def state_dict(self) -> dict[str, Any]:
        """Return what goes by the validations."""
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "waited": self.waited, "lowered": self.lowered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        best = state.get("best")
        self.best = math.inf if best is None else best
        self.waited, self.lowered = state.get("waited", 0), state.get("lowered", 0)


def _between(start: float, end: float, done: float) -> float:
    """Half a cosine from one share to another."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2
