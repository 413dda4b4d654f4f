"""What every back end takes and gives.

Shapes: T time, B batch, I input width, W width of a state, D how many steps back it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from unvanish.engine.ir.plan import Plan
from unvanish.engine.layout import Weights
from unvanish.engine.tap import Tap


class Normaliser(Protocol):
    """Normalises over the rows of the batch, by the statistics of each step."""

    @property
    def training(self) -> bool:
        """Whether the statistics are those of the batch, not those that were kept."""
        ...

    def __call__(self, x: Tensor, step: int | None, /) -> Tensor:
        """Normalise (B, W) of a step, or (T, B, W) of all where the step is None."""
        ...

    def kept(self, steps: int) -> tuple[Tensor, Tensor]:
        """Return what evaluation takes off at each of so many steps, and multiplies by: (T, B, W) or (T, 1, W)."""
        ...


@dataclass(frozen=True, slots=True)
class Pass:
    """One layer, one direction, one sequence; `name` is what the user is told is run.

    `states` maps a state's name to its last D values side by side, newest first, (B, D·W); `time_B1` is the
    index of the first step, for plans that read t; `lengths_B` ends rows early; where `reset_TB` is true a row
    starts anew, from zero states and t = 0, before the step is run (never past its end); `masks` holds the arrays
    of `System.masks`, (B, W) for one per row and (T, B, W) for one per step; `taps` sit at the border between two
    steps, in this order on the way forward; `normalisers` do the batch normalisations of the system, by the name of
    their line.
    """

    plan: Plan
    weights: Weights
    numbers: Mapping[str, Tensor]
    x_TBI: Tensor
    states: Mapping[str, Tensor]
    time_B1: Tensor | None = None
    lengths_B: Tensor | None = None
    reset_TB: Tensor | None = None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    taps: tuple[Tap, ...] = ()
    normalisers: Mapping[str, Normaliser] = field(default_factory=dict)
    wants_all_states: bool = False
    name: str = "a"


@dataclass(frozen=True, slots=True)
class Result:
    """The output of all steps (zero after a row's end), the states to carry on, and all states if asked for."""

    output_TBW: Tensor
    states: Mapping[str, Tensor]
    all_states: Mapping[str, Tensor] | None = None


def final_time(job: Pass) -> Tensor | None:
    """Return the index of the step that would come next, row by row."""
    if job.time_B1 is None:
        return None
    steps = job.x_TBI.shape[0] if job.lengths_B is None else job.lengths_B[:, None]
    if job.reset_TB is None:
        return job.time_B1 + steps
    # Time begins at 0 with the last step at which a row starts anew; counted from 1, so that 0 means none.
    count_T1 = torch.arange(1, job.reset_TB.shape[0] + 1, device=job.reset_TB.device)[:, None]
    begin_B1 = (count_T1 * job.reset_TB).amax(0)[:, None]
    return torch.where(begin_B1 > 0, steps - begin_B1 + 1, job.time_B1 + steps)
