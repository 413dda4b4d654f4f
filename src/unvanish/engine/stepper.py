"""One step a call, on any back end.

Shapes: B batch, I input, W width, D depth in time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from unvanish.engine.sequence import Pass, Result, final_time


class Stepper(Protocol):
    """Runs a plan one step per call, and knows the states."""

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Run one step; return the output, (B, W)."""
        ...

    def carried(self) -> dict[str, Tensor]:
        """The states after the last step, (B, D·W), and the index `t` of the next one where the plan reads it."""
        ...


class PlainStepper:
    """Runs a pass of one step at each call."""

    def __init__(self, job: Pass, engine: Callable[[Pass], Result]) -> None:
        self.job, self.engine = job, engine

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Run one step; return the output, (B, W)."""
        job = dataclasses.replace(self.job, x_TBI=x_BI[None])
        result = self.engine(job)
        self.job = dataclasses.replace(job, states=result.states, time_B1=final_time(job))
        return result.output_TBW[0]

    def carried(self) -> dict[str, Tensor]:
        """The states after the last step, and the index of the next one."""
        time = {} if self.job.time_B1 is None else {"t": self.job.time_B1}
        return {**self.job.states, **time}
