"""Small experiments on a model: what would be, if one thing were otherwise.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.diagnosis.findings import PartFinding
from unvanish.flow.finding.calling import called
from unvanish.flow.finding.observe import Observation
from unvanish.flow.finding.parts import LayerPart
from unvanish.flow.finding.untouched import untouched
from unvanish.flow.measuring.saturation import saturation_of

MIXED = 1e-4  # of the output's size: less is rounding
FLAT, LARGE = 0.5, 3.0  # share of flat values; size of an input in units of a standardised one


def mixed_rows(model: nn.Module, batch: Any, observation: Observation) -> float:
    """By how much the output of other rows changes where the first row of the batch does, as a share of its size.

    What the rows are is told by the output: the axis of the input that is as long as its first axis, where no other
    is. Only a recurrence that runs along that axis is suspected. 0 where nothing is.
    """
    x = batch
    if not isinstance(x, Tensor) or x.dim() != 3 or not x.is_floating_point():
        return 0.0
    with untouched(model), torch.no_grad(), contextlib.suppress(Exception):  # whatever the user's own code raises
        model.eval()
        y = called(model, x)
        if not isinstance(y, Tensor) or y.dim() == 0 or y.dim() > 2:
            return 0.0
        rows, axes = y.shape[0], [axis for axis in (0, 1) if x.shape[axis] == y.shape[0]]
        runs = {part.steps for part in observation.parts.values()}
        if len(axes) != 1 or rows < 2 or rows not in runs or x.shape[1 - axes[0]] in runs:
            return 0.0
        other = x.clone()
        other.select(axes[0], 0).add_(x.std() + 1.0)
        change = (called(model, other) - y)[1:].norm() / y.norm().clamp_min(1e-12)
        return float(change) if change > MIXED else 0.0
    return 0.0


def calmed(observation: Observation, parts: Sequence[PartFinding]) -> dict[str, float]:
    """Which parts are flat only because their input is large: the share that stays flat with it standardised."""
    found = {}
    for finding in parts:
        part = observation.parts[finding.name]
        flat = max((one.saturated for one in finding.saturation.activations), default=0.0)
        if flat < FLAT or not isinstance(part, LayerPart):
            continue
        x_TBI = part.x_TBI
        if float(x_TBI.square().mean().sqrt()) < LARGE:
            continue
        deviation_I = x_TBI.flatten(0, 1).std(0).clamp_min(1e-12)
        standard_TBI = (x_TBI - x_TBI.flatten(0, 1).mean(0)) / deviation_I
        calm = saturation_of(dataclasses.replace(part, x_TBI=standard_TBI))
        left = max((one.saturated for one in calm.activations), default=0.0)
        if left < flat / 2:
            found[finding.name] = left
    return found
