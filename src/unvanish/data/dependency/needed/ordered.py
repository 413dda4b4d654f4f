"""Least squares with the nearest step first: one factorisation gives the prediction of every context length.

With the columns of X in the order of their lags and L Lᵀ = XᵀX, the rows of L⁻¹ Xᵀ are what each column adds to
those before it, and so the prediction by the first p columns is the sum of the first p terms: what the
Levinson–Durbin recursion does for a stationary series (Durbin 1960), here for any columns. A term counts that
stands out of its own noise, w² > 5 σ² (more, of many features): of a thousand lags that tell nothing, few then
disturb.

Shapes: N steps, P columns, G targets, C contexts, B blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCKS, FOLDS = 20, 4  # five blocks of each fold, spread over the series
JITTER = 1e-9  # of the columns' variance, so that columns that repeat others do no harm

Floats = NDArray[np.float64]


def blocks_of(count: int, blocks: int = BLOCKS) -> NDArray[np.int64]:
    """The block of every step: stretches of equal length."""
    return np.arange(count) * min(blocks, count) // count


class Sums:
    """What least squares need of some rows: their number, sums, sums of squares and products."""

    def __init__(self, terms: list[Tensor]) -> None:
        self.terms = terms

    @classmethod
    def of(cls, x_NP: Tensor, y_NG: Tensor) -> Sums:
        """Add up the rows."""
        count = torch.tensor(float(len(x_NP)), dtype=torch.float64)
        return cls([count, x_NP.sum(0), y_NG.sum(0), x_NP.T @ x_NP, x_NP.T @ y_NG, (y_NG**2).sum(0)])

    def __add__(self, other: Sums) -> Sums:
        return Sums([a + b for a, b in zip(self.terms, other.terms, strict=True)])

    def __sub__(self, other: Sums) -> Sums:
        return Sums([a - b for a, b in zip(self.terms, other.terms, strict=True)])

    def centred(self) -> tuple[int, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Their number, both means, and the sums about the means: of x x, of x y, of y y."""
        count, x, y, xx, xy, yy = self.terms
        x_mean, y_mean = x / count, y / count
        gram, cross = xx - count * torch.outer(x_mean, x_mean), xy - count * torch.outer(x_mean, y_mean)
        return int(count), x_mean, y_mean, gram, cross, (yy - count * y_mean**2).clamp_min(0)


class Ordered:
    """A fit by the columns in their order.

    Attributes:
        weights: of the orthogonal terms, (P, G), zero where a term does not stand out of its noise.
    """

    def __init__(self, sums: Sums, threshold: float, jitter: float = JITTER) -> None:
        count, self.x_mean, self.y_mean, gram, cross, square = sums.centred()
        gram.diagonal().add_(jitter * count)
        self.lower = torch.linalg.cholesky(gram)
        weights = torch.linalg.solve_triangular(self.lower, cross, upper=False)
        left = (square - torch.cumsum(weights**2, 0)).clamp_min(0)
        noise = torch.cat([square[None], left[:-1]]) / count
        self.weights = torch.where(weights**2 > threshold * noise, weights, torch.zeros_like(weights))

    def terms(self, x_NP: Tensor) -> Tensor:
        """The orthogonal terms of some rows, (P, N)."""
        found: Tensor = torch.linalg.solve_triangular(self.lower, (x_NP - self.x_mean).T, upper=False)
        return found


def folds(block_N: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows of every fold."""
    for fold in range(FOLDS):
        yield np.flatnonzero(block_N % FOLDS == fold)


def _bounds(y_NG: Tensor) -> tuple[Tensor, Tensor]:
    """What a guess stays within: as far again beyond the values as they lie apart.

    A column that is the same in all rows but a few, the border of an image, else gives guesses without any bound
    where another row has it.
    """
    low_G, high_G = y_NG.amin(0), y_NG.amax(0)
    return 2 * low_G - high_G, 2 * high_G - low_G


def losses(
    x_NP: Floats, y_NG: Floats, ends_C: NDArray[np.int64], block_N: NDArray[np.int64], threshold: float
) -> Floats:
    """Mean squared error of held-out steps, summed over targets, (B, 1 + C).

    Column 0 is that of the mean; then context c has the first `ends_C[c]` columns.
    """
    parts = [(torch.from_numpy(x_NP[rows]), torch.from_numpy(y_NG[rows]), block_N[rows]) for rows in folds(block_N)]
    sums = [Sums.of(x, y) for x, y, _ in parts]
    whole = sums[0] + sums[1] + sums[2] + sums[3]
    last = torch.from_numpy(ends_C - 1)
    low_G, high_G = _bounds(torch.from_numpy(y_NG))
    found_BC = np.zeros((block_N.max() + 1, 1 + len(ends_C)))
    for (x, y, block), own in zip(parts, sums, strict=True):
        fit = Ordered(whole - own, threshold)
        terms_PN = fit.terms(x)
        for target in range(y.shape[1]):
            true_N = y[:, target] - fit.y_mean[target]
            guess_CN = torch.cumsum(terms_PN * fit.weights[:, target, None], 0)[last]
            low, high = low_G[target] - fit.y_mean[target], high_G[target] - fit.y_mean[target]
            guess_CN = guess_CN.clamp(low, high)
            error_CN = torch.cat([true_N[None] ** 2, (true_N - guess_CN) ** 2]).numpy()
            for one in np.unique(block):
                found_BC[one] += error_CN[:, block == one].mean(1)
    return found_BC
