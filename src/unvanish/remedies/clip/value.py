"""Clipping every entry of the gradient by itself."""

from __future__ import annotations

from unvanish.checks import positive
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients, grouped, tensor_norms, together
from unvanish.remedies.clip.record import ClipRecord
from unvanish.torch_internals import foreach_clamp_max_, foreach_clamp_min_


class ByValue(Clip):
    """Bring every entry of the gradient into ±threshold; its direction may turn.

        g_j ← max(−threshold, min(threshold, g_j))

    Mikolov 2012, Statistical language models based on neural networks (thesis). Graves 2013 clips by value inside
    the backward pass: that is `PerStep`.

    Args:
        threshold: the largest absolute value of an entry, positive.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> weight = torch.nn.Parameter(torch.zeros(3))
    >>> weight.grad = torch.tensor([3.0, -4.0, 0.5])
    >>> ByValue(1.0)([weight]).acted, weight.grad
    (True, tensor([ 1.0000, -1.0000,  0.5000]))
    """

    def __init__(self, threshold: float, *, nonfinite: str = "skip") -> None:
        super().__init__(nonfinite=nonfinite)
        self._threshold = positive(threshold, "threshold")

    @property
    def threshold(self) -> float:
        """The largest absolute value of an entry."""
        return self._threshold

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        # No entry is larger than the norm of its tensor: where that is small enough nothing need be looked at.
        over = [index for index, one in enumerate(norms) if one > self._threshold]
        factor, acted = 1.0, False
        if over:
            suspects = [gradients.tensors[index] for index in over]
            for _, members in grouped(suspects):
                foreach_clamp_min_(members, -self._threshold)
                foreach_clamp_max_(members, self._threshold)
            after = list(norms)
            for index, one in zip(over, tensor_norms(suspects), strict=True):
                after[index] = one
            acted = after != norms
            factor = together(after) / norm if acted else 1.0
        return ClipRecord(norm, self._threshold, factor, acted, nonfinite=False)
