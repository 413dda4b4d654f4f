"""Clipping by the norm of all gradients together."""

from __future__ import annotations

from unvanish.checks import positive
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients, shorten
from unvanish.remedies.clip.record import ClipRecord


class ByNorm(Clip):
    """Bring the gradient to the threshold's length where it is longer; its direction stays.

        g ← g · min(1, threshold / ‖g‖₂),  ‖g‖₂ over all parameters together

    Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.

    Args:
        threshold: the largest norm, positive.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> ByNorm(1.0)([weight])
    ClipRecord(norm=5.0, threshold=1.0, factor=0.2, acted=True, nonfinite=False)
    >>> weight.grad
    tensor([0.6000, 0.8000])
    """

    def __init__(self, threshold: float, *, nonfinite: str = "skip") -> None:
        super().__init__(nonfinite=nonfinite)
        self._threshold = positive(threshold, "threshold")

    @property
    def threshold(self) -> float:
        """The largest norm."""
        return self._threshold

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        factor = shorten(gradients.tensors, norm, self._threshold)
        return ClipRecord(norm, self._threshold, factor, acted=norm > self._threshold, nonfinite=False)
