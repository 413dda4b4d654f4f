"""What one call of a clip did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """What one call of a clip found, and what it did.

    Attributes:
        norm: the 2-norm of all gradients together, before anything was done; inf or NaN where a gradient was.
            Where the non-finite entries were set to zero, the norm of what was left.
        threshold: the threshold of this call: of the clip, or what an adaptive clip worked out; inf while such a
            clip still looks on. For `UnitWise` its factor.
        factor: what the gradients were multiplied with; where that was not the same number for all of them, the
            norm after over the norm before. 1 where nothing was done, 0 where the gradients were taken away.
        acted: whether the threshold was exceeded, and a gradient changed.
        nonfinite: whether a gradient held NaN or infinity.
    """

    norm: float
    threshold: float
    factor: float
    acted: bool
    nonfinite: bool
