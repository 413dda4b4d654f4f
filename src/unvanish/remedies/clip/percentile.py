"""Clipping to a percentile of the norms seen so far."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from unvanish.checks import is_number, whole_number
from unvanish.errors import OptionError
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients, shorten
from unvanish.remedies.clip.record import ClipRecord


class Percentile(Clip):
    """Bring the gradient to a percentile of all norms so far, this one included, where it is longer.

        threshold_t = percentile p of ‖g_1‖ … ‖g_t‖,  g_t ← g_t · min(1, threshold_t / ‖g_t‖)

    Seetharaman, Wichern, Pardo, Le Roux 2020, AutoClip: adaptive gradient clipping for source separation networks.
    Between two norms it is interpolated, as numpy does. The norms taken in are those before clipping.
    A norm of zero and one that is not finite are not taken in: the first would in time make the threshold zero.
    All gradients times a constant: the decisions stay.

    Args:
        percentile: p, above 0 and at most 100; the paper finds 10 best.
        history: how many norms are remembered, the newest; None for all, as in the paper (16 bytes a step).
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> weight, clip = torch.nn.Parameter(torch.zeros(1)), Percentile(50)
    >>> for slope in (1.0, 3.0, 100.0):
    ...     weight.grad = torch.tensor([slope])
    ...     print(clip([weight]).threshold, weight.grad)
    1.0 tensor([1.])
    2.0 tensor([2.])
    3.0 tensor([3.])
    """

    def __init__(self, percentile: float = 10.0, history: int | None = None, *, nonfinite: str = "skip") -> None:
        super().__init__(nonfinite=nonfinite)
        if not is_number(percentile) or not 0 < percentile <= 100:
            raise OptionError(f"percentile is {percentile!r}: give a number above 0 and at most 100")
        give = "the number of norms to remember, or None for all"
        self.history = None if history is None else whole_number(history, "history", give=give)
        self.percentile = float(percentile)
        self._norms: deque[float] = deque()
        self._sorted: list[float] = []

    @property
    def threshold(self) -> float:
        """The percentile of the norms so far; infinite before the first."""
        if not self._sorted:
            return math.inf
        place = (len(self._sorted) - 1) * self.percentile / 100
        lower = int(place)
        upper = min(lower + 1, len(self._sorted) - 1)
        return self._sorted[lower] + (self._sorted[upper] - self._sorted[lower]) * (place - lower)

    def _options(self) -> str:
        return f"{self.percentile:g}, threshold now {self.threshold:g}"

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        if norm > 0:
            self._take_in(norm)
        threshold = self.threshold
        factor = shorten(gradients.tensors, norm, threshold)
        return ClipRecord(norm, threshold, factor, acted=norm > threshold, nonfinite=False)

    def _take_in(self, norm: float) -> None:
        self._norms.append(norm)
        bisect.insort(self._sorted, norm)
        if self.history is not None and len(self._norms) > self.history:
            oldest = self._norms.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, oldest)]

    def _statistics(self) -> dict[str, Any]:
        return {"norms": torch.tensor(list(self._norms), dtype=torch.float64, device="cpu")}

    def _restore(self, state: Mapping[str, Any]) -> None:
        norms = state["norms"].tolist()
        self._norms = deque(norms if self.history is None else norms[-self.history :])
        self._sorted = sorted(self._norms)
