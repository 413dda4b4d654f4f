"""Rank correlation between numbers, and what becomes of numbers that meet symbols.

Each feature gives two scores: its rank (Spearman 1904), and the distance of its rank from the middle, squared,
which sees that the spread of a series depends on the past though its level does not. The statistic is the largest
squared correlation over all pairs of scores; shuffled data go through the same maximum.

Shapes: T time, N pairs, F features, S and R scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.significance import Tail, fit_tail

Floats = NDArray[np.float64]


def ranks(values_T: Floats) -> Floats:
    """The rank of every value as a share, equal values sharing the mean of theirs; strictly within (0, 1).

    >>> ranks(np.array([10.0, 30.0, 10.0, 20.0])).tolist()
    [0.25, 0.875, 0.25, 0.625]
    """
    _, place_T, counts = np.unique(values_T, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    shares: Floats = middle / len(values_T)
    return np.take(shares, place_T)


def scores(values_TF: Floats) -> Floats:
    """Two scores of every feature, side by side, each with mean 0 and variance 1 (or 0 where it is constant)."""
    ranks_TF = np.stack([ranks(values_T) for values_T in values_TF.T], 1)
    scores_TS = np.concatenate([ranks_TF, (ranks_TF - 0.5) ** 2], 1)
    scores_TS -= scores_TS.mean(0)
    deviation_S = scores_TS.std(0)
    scaled_TS: Floats = np.divide(scores_TS, deviation_S, out=np.zeros_like(scores_TS), where=deviation_S > 1e-12)
    return scaled_TS


def bins(values_TF: Floats, count: int) -> NDArray[np.uint16]:
    """Cut every feature into bins of equal share."""
    return np.stack([(ranks(values_T) * count).astype(np.uint16) for values_T in values_TF.T], 1)


class Correlation:
    """The largest squared correlation over all pairs of a column of x and a column of y.

    >>> x = np.arange(5.0)[:, None]
    >>> round(Correlation()(x, -x), 6)
    1.0
    """

    def __call__(self, x_NS: Floats, y_NR: Floats) -> float:
        count = len(x_NS)
        x_S, y_R = x_NS.mean(0), y_NR.mean(0)
        covariance_SR = x_NS.T @ y_NR / count - np.outer(x_S, y_R)
        x_variance_S = np.einsum("ns,ns->s", x_NS, x_NS) / count - x_S**2
        y_variance_R = np.einsum("nr,nr->r", y_NR, y_NR) / count - y_R**2
        product_SR = np.outer(x_variance_S, y_variance_R)
        # A score that does not vary in these pairs tells nothing; rounding must not make it say something.
        varies = product_SR > 1e-12
        squares_SR = np.divide(covariance_SR**2, product_SR, out=np.zeros_like(product_SR), where=varies)
        return min(float(squares_SR.max()), 1.0)

    def chance(self, null_D: Floats) -> Tail:
        """The largest of so many χ² with one degree of freedom as the draws say; scores are not independent."""
        return fit_tail(null_D, shape=0.5, count=None)
