"""What causes are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from unvanish.diagnosis.findings import PartFinding
from unvanish.diagnosis.watch.trace import StepTrace, Trial
from unvanish.flow.finding.observe import Observation, Seen


@dataclass(frozen=True)
class Padding:
    """Rows that are shorter than the batch: how many of how many, and the most steps that were added to one.

    `share` is how much of the loss's gradient by the input comes to what was added.
    """

    rows: int
    of: int
    steps: int
    share: float


@dataclass(frozen=True)
class Facts:
    """What causes are read from.

    Attributes:
        trace: of one training step, where one was given.
        trial: of one step of the optimiser, where there is one.
        optimizer: what trains the model, where it was given.
        mixed: by how much of its size the output of other rows changes where one row of the batch does.
        calmed: of each part with an activation that is flat because the input is large, the share of its values
            that is saturated, and that with the input in units of its own spread.
        padding: what stands at the end of shorter rows, where the loss reads it.
        of_batch: whether the needed lag is the length of the batch, as nobody has given another.
        outside: by how much of its size the loss changes with early steps from which no gradient comes.
    """

    model: nn.Module
    batch: Any
    observation: Observation
    parts: tuple[PartFinding, ...]
    need: int
    verdict: str
    trace: StepTrace | None = None
    trial: Trial | None = None
    optimizer: torch.optim.Optimizer | None = None
    mixed: float = 0.0
    calmed: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    padding: Padding | None = None
    outside: float = 0.0
    of_batch: bool = False

    def need_of(self, seen: Seen) -> int:
        """The needed lag of one recurrence: of ten steps no more than nine, where the batch says it."""
        return seen.need_of(self.need) if self.of_batch else self.need
