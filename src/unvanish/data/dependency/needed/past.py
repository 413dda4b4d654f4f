"""What stands before a step, as columns; which steps are predicted.

Shapes: T steps, N steps that are predicted, K lags, E columns of a step, B sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.needed.ordered import BLOCKS

Floats = NDArray[np.float64]
Lags = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps that are predicted: where each is, and how many steps of its sequence lie before it."""

    now: Lags
    before: Lags
    labels: bool

    @classmethod
    def of(
        cls, lengths_B: Lags, lags_K: Lags, *, labels: bool, most: int, rng: np.random.Generator | None = None
    ) -> Steps:
        """All steps with a whole context, or all that have any where whole contexts are few.

        Of more than `most` steps as many are taken, in stretches spread over the data. Labels are in random order,
        since whoever keeps data often keeps them sorted by label.
        """
        before_T = np.concatenate([np.arange(length) for length in lengths_B])
        if labels:
            last = np.cumsum(lengths_B) - 1
            last = last if rng is None else rng.permutation(last)
            return cls(last[:most], before_T[last[:most]], True)
        whole = np.flatnonzero(before_T >= lags_K[-1])
        if 2 * len(whole) < len(before_T):
            whole = np.flatnonzero(before_T >= lags_K[0])
        if len(whole) > most:
            starts = np.linspace(0, len(whole) - most // BLOCKS, BLOCKS).astype(np.int64)
            whole = whole[(starts[:, None] + np.arange(most // BLOCKS)).ravel()]
        return cls(whole, before_T[whole], False)

    def at(self, rows: Lags) -> Steps:
        """Some of these steps."""
        return Steps(self.now[rows], self.before[rows], self.labels)

    def columns(self, x_TE: Floats, lags_K: Lags) -> Floats:
        """The columns at each lag side by side, the nearest first, (N, K E); 0 where a sequence has not begun."""
        at_NK = self.now[:, None] - lags_K
        found = x_TE[np.maximum(at_NK, 0)]
        if (self.before < lags_K[-1]).any():
            found[self.before[:, None] < lags_K] = 0
        columns: Floats = found.reshape(len(self.now), -1)
        return columns


def standard(values_TF: Floats) -> Floats:
    """Each column with mean 0 and variance 1; columns that are constant are left out."""
    values_TF = values_TF - values_TF.mean(0)
    scale_F = np.abs(values_TF).max(0)
    values_TF = values_TF[:, scale_F > 0] / scale_F[scale_F > 0]
    found: Floats = values_TF / values_TF.std(0)
    return found


def one_hot(codes_T: NDArray[np.int64], size: int) -> Floats:
    """A column for every symbol."""
    found: Floats = np.eye(size)[codes_T]
    return found
