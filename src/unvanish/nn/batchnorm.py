"""Batch normalisation inside the recurrence, with statistics of its own at every step.

Shapes: T time, B batch, W width, S steps that have statistics of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unvanish.equations.expression import LAYERNORM_EPSILON
from unvanish.errors import OptionError

MOMENTUM = 0.1  # of the running means, as torch.nn.BatchNorm1d


@dataclass(frozen=True, eq=False)
class StepNorm:
    """(x - mean) / sqrt(variance + ε) over the rows of the batch, unit by unit, step by step.

    In training the statistics are those of the batch, and running means of step t are kept for evaluation; a step
    past the last that has its own is evaluated with those of the last. `first_step` is the index of the first step
    of a pass, of all rows or, in evaluation, of each, (B,).

    Source: Cooijmans, T. et al. (2017). Recurrent batch normalization. ICLR 2017, section 3.
    """

    means_SW: Tensor
    variances_SW: Tensor
    training: bool
    first_step: int | Tensor = 0

    def over(self, moved: Callable[[Tensor], Tensor]) -> StepNorm:
        """Return the same with other statistics, made from these."""
        return replace(self, means_SW=moved(self.means_SW), variances_SW=moved(self.variances_SW))

    def __call__(self, x: Tensor, step: int | None) -> Tensor:
        """Normalise (B, W) of one step, or (T, B, W) of all steps where `step` is None."""
        if not self.training:
            mean, factor = self.kept(x.shape[0]) if step is None else self._kept_at(self.first_step + step)
            return (x - mean) * factor
        if x.shape[-2] < 2:
            raise OptionError("batch normalisation needs two rows or more to train on: give a larger batch")
        variance, mean = torch.var_mean(x, -2, correction=0, keepdim=True)
        self._keep(mean.detach().squeeze(-2), variance.detach().squeeze(-2), step, x.shape[-2])
        normed: Tensor = (x - mean) * torch.rsqrt(variance + LAYERNORM_EPSILON)
        return normed

    def kept(self, steps: int) -> tuple[Tensor, Tensor]:
        """Return what evaluation takes off at each of so many steps, and multiplies by: (T, B, W) or (T, 1, W)."""
        return self._kept_at(torch.arange(steps, device=self.means_SW.device)[:, None] + self.first_step)

    def _kept_at(self, step: int | Tensor) -> tuple[Tensor, Tensor]:
        last = self.means_SW.shape[0] - 1
        at = step.clamp(max=last) if isinstance(step, Tensor) else min(step, last)
        return self.means_SW[at], torch.rsqrt(self.variances_SW[at] + LAYERNORM_EPSILON)

    def _keep(self, mean: Tensor, variance: Tensor, step: int | None, rows: int) -> None:
        """Move the running means towards those of a batch."""
        first = int(self.first_step) + (step or 0)
        count = min(1 if step is not None else len(mean), len(self.means_SW) - first)
        if count <= 0:
            return
        unbiased = variance * rows / (rows - 1)
        for kept_SW, new in ((self.means_SW, mean), (self.variances_SW, unbiased)):
            kept_SW[first : first + count].lerp_(new.view(-1, new.shape[-1])[:count], MOMENTUM)
