"""What chance alone gives: shuffled data, the tail of their distribution, false discoveries.

Shapes: K lags, D draws, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

BLOCKS = 20  # about so many blocks are shuffled, and none that is longer than
LONGEST_BLOCK = 8192
ROUNDING = 1e-6  # of a value that no shuffling changes, and of nothing

Floats = NDArray[np.float64]


def shuffled_blocks(steps: int, rng: np.random.Generator) -> list[slice]:
    """Cut T steps into blocks of random lengths and shuffle the blocks.

    Blocks, because what is near stays near: a series that remembers has fewer independent pairs than steps, and
    chance goes further in it (Bartlett 1946). Single steps shuffled would show too narrow a band. Random lengths,
    so that no period meets itself again in every block. No block comes back to where it was.
    """
    length = min(max(steps // BLOCKS, 1), LONGEST_BLOCK)
    count = max(steps // length, 2)
    while True:
        inner = length * np.arange(1, count) + rng.integers(-(length // 3), length // 3 + 1, count - 1)
        edges = np.concatenate([[0], inner, [steps]])
        order = rng.permutation(count)
        landed = np.cumsum(np.diff(edges)[order]) - np.diff(edges)[order]
        if (np.abs(landed - edges[order]) >= max(length // 2, 1)).all():
            return [slice(edges[block], edges[block + 1]) for block in order]


@dataclass(frozen=True)
class Tail:
    """The distribution of the largest of `count` independent gamma variables of one shape, times `scale`.

    Under independence 2 N I follows χ² (Wilks 1938) and N ρ² does, with one degree of freedom; with a memory in the
    series, a weighted sum of such. A gamma distribution of the same mean and variance comes near all of these
    (Satterthwaite 1946), and reaches where a hundred draws have none. The largest of several falls off more slowly
    than a gamma distribution fitted to it would.

    >>> chi_squared = Tail(shape=0.5, count=1.0, scale=2.0, mean=1.0)  # one degree of freedom
    >>> round(chi_squared.beyond(3.841), 4), round(chi_squared.edge(0.05), 3)
    (0.05, 3.841)
    """

    shape: float
    count: float
    scale: float
    mean: float

    def beyond(self, value: float) -> float:
        """The probability of at least this value."""
        if not self.scale:
            return float(value <= self.mean + ROUNDING * max(abs(self.mean), ROUNDING))
        return float(_beyond(np.array([max(value, 0.0) / self.scale]), self.shape, self.count)[0])

    def edge(self, p: float) -> float:
        """The value that is exceeded with probability p."""
        if not self.scale:
            return self.mean
        return self.scale * _unit_edge(self.shape, self.count, p)

    def scaled(self, factor: float) -> Tail:
        """The distribution of `factor` times the value."""
        return Tail(self.shape, self.count, self.scale * factor, self.mean * factor)


@lru_cache(maxsize=256)
def _unit_edge(shape: float, count: float, p: float) -> float:
    unit = Tail(shape, count, 1.0, 0.0)
    high = max(shape, 1.0)
    while unit.beyond(high) > p:
        high *= 2
    return _bisected(lambda value: unit.beyond(value) > p, 0.0, high)


def fit_tail(null_D: Floats, *, shape: float | None, count: float | None) -> Tail:
    """Fit the mean and the variance of the draws, by the scale and by whichever of shape and count is None."""
    mean, variance = float(null_D.mean()), float(null_D.var(ddof=1))
    if variance <= 1e-20 * mean**2:
        return Tail(1.0, 1.0, 0.0, mean)
    wanted = variance / mean**2
    if count == 1 and shape is None:
        return Tail(1 / wanted, 1.0, mean * wanted, mean)

    def too_wide(log_free: float) -> bool:
        first, second = _moments(*_filled(shape, count, log_free))
        return second / first**2 - 1 > wanted

    # Both a larger shape and a larger count make the distribution narrower beside its mean.
    fitted = _filled(shape, count, _bisected(too_wide, -1.0 if shape else -7.0, 14.0, rounds=24))
    return Tail(*fitted, mean / _moments(*fitted)[0], mean)


def _filled(shape: float | None, count: float | None, log_free: float) -> tuple[float, float]:
    free = math.exp(log_free)
    return free if shape is None else shape, free if count is None else count


def _moments(shape: float, count: float) -> tuple[float, float]:
    """E X and E X², from E g(X) = ∫ g′(x) P(X > x) dx."""
    spread = math.sqrt(2 * shape * math.log(1 + count)) + math.log(1 + count)
    x = np.linspace(0, shape + 2 * spread + 8 * math.sqrt(shape) + 25, 1000)
    beyond = _beyond(x, shape, count)
    step = x[1]  # P(X > 0) = 1 is the one end of the sum, almost 0 the other
    return float(step * (beyond.sum() - 0.5)), float(step * (2 * x * beyond).sum())


def _beyond(x: Floats, shape: float, count: float) -> Floats:
    one = torch.special.gammaincc(torch.tensor(shape, dtype=torch.float64, device="cpu"), torch.from_numpy(x))
    return np.asarray(-torch.expm1(count * torch.log1p(-one)).numpy())


def _bisected(over: Callable[[float], bool], low: float, high: float, rounds: int = 60) -> float:
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (middle, high) if over(middle) else (low, middle)
    return high


def discoveries(p_K: Floats, level: float) -> NDArray[np.bool_]:
    """Which of K tests hold at a false discovery rate (Benjamini and Hochberg 1995, equation 1).

    >>> discoveries(np.array([0.001, 0.02, 0.9, 0.03]), 0.05).tolist()
    [True, True, False, True]
    """
    ranked_K = np.sort(p_K)
    holds = np.flatnonzero(ranked_K <= level * np.arange(1, len(p_K) + 1) / len(p_K))
    return p_K <= (ranked_K[holds[-1]] if len(holds) else -1.0)
