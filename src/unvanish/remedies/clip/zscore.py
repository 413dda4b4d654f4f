"""Clipping norms that stand out from their running mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unvanish.checks import positive, whole_number
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients, shorten, together
from unvanish.remedies.clip.record import ClipRecord


class ZScore(Clip):
    """Bring a norm that stands out from the running mean μ back to it, the further the more it stands out.

        z = (‖g‖ − μ) / σ;  where z > z_threshold:  ‖g‖ ← μ + (z_threshold² / z) · σ
        then  μ ← α μ + (1 − α) ‖g‖,  σ² ← α σ² + (1 − α) (‖g‖ − μ)²,  with the norm after clipping and the new μ

    Kumar, Owen, Chowdhury, Güra 2025, ZClip: adaptive spike mitigation for LLM pre-training, with reciprocal
    clipping. In the first `warmup` calls nothing is clipped; μ and σ begin as the mean and the standard
    deviation of their norms. The authors' code adds 1e-6 to σ in z, which nothing here needs: where σ is 0, a norm
    above μ is brought to μ. Their further fixed threshold is a `ByNorm` called before. A norm of zero and one that
    is not finite are not taken in. All gradients times a constant: the decisions stay.

    Args:
        z_threshold: how many standard deviations a norm may stand out; positive, 2.5 in the paper.
        alpha: how much of the running mean stays at each call, above 0 and below 1; 0.97 in the paper.
        warmup: for how many calls it only looks on; 25 in the paper, at least 2.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> import torch
    >>> weight, clip = torch.nn.Parameter(torch.zeros(1)), ZScore(2.0, warmup=2)
    >>> for slope in (1.0, 3.0, 10.0):  # mean 2, standard deviation 1: 10 stands out by z = 8
    ...     weight.grad = torch.tensor([slope])
    ...     print(clip([weight]).acted, weight.grad)
    False tensor([1.])
    False tensor([3.])
    True tensor([2.5000])
    """

    def __init__(
        self, z_threshold: float = 2.5, *, alpha: float = 0.97, warmup: int = 25, nonfinite: str = "skip"
    ) -> None:
        super().__init__(nonfinite=nonfinite)
        self.z_threshold, self.alpha = positive(z_threshold, "z_threshold"), positive(alpha, "alpha", below=1.0)
        give = "a number of calls from 2 on: fewer norms have no spread"
        self.warmup = whole_number(warmup, "warmup", at_least=2, give=give)
        self.mean = self.deviation = 0.0
        self._first: list[float] = []  # the norms of the warm-up; empty after it
        self._ready = False

    @property
    def threshold(self) -> float:
        """The norm above which a gradient is clipped: μ + z_threshold · σ; infinite in the warm-up."""
        return self.mean + self.z_threshold * self.deviation if self._ready else math.inf

    def _options(self) -> str:
        return f"{self.z_threshold:g}, threshold now {self.threshold:g}"

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        threshold = self.threshold
        acted = norm > threshold
        # z_threshold²/z · σ, written so that σ = 0 divides nothing by nothing
        excess = self.z_threshold * self.deviation
        kept = self.mean + excess * (excess / (norm - self.mean)) if acted else norm
        factor = shorten(gradients.tensors, norm, kept)
        if norm > 0:
            self._take_in(kept)
        return ClipRecord(norm, threshold, factor, acted, nonfinite=False)

    def _take_in(self, norm: float) -> None:
        if self._ready:
            self.mean = self.alpha * self.mean + (1 - self.alpha) * norm
            # the root of a sum of squares that may not fit
            old, new = math.sqrt(self.alpha) * self.deviation, math.sqrt(1 - self.alpha) * (norm - self.mean)
            self.deviation = math.hypot(old, new)
            return
        self._first.append(norm)
        if len(self._first) == self.warmup:
            count = len(self._first)
            self.mean = math.fsum(one / count for one in self._first)
            self.deviation = together([(one - self.mean) / math.sqrt(count) for one in self._first])
            self._first, self._ready = [], True

    def _statistics(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation, "first": list(self._first), "ready": self._ready}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.deviation = float(state["mean"]), float(state["deviation"])
        self._first, self._ready = [float(norm) for norm in state["first"]], bool(state["ready"])
