"""Mutual information between symbols, from counts of pairs.

I = Σ p(a, b) log(p(a, b) / (p(a) p(b))), in nats, with the shares of the sample for p. That is too large in the
mean, by (r − 1)(c − 1) / 2N where every pair is frequent (Miller 1955); the mean of shuffled data, which is what
is subtracted, is right also where pairs are rare or the series has a memory. It is too much where the dependence is
strong (a copy has no such excess), and there it is a small part of what is found.

Shapes: T time, N pairs, F and G columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.significance import Tail, fit_tail

ALPHABET = 128  # the commonest 127, and the rest: a table then has at most 16,384 cells, and a pair fits 16 bits
BINS = 8  # of equal share, for numbers that meet symbols
_LOOKUP = 0x110000  # every Unicode character

Codes = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Alphabet:
    """Known symbols and the code of each; all others share one code."""

    known: NDArray[Any]
    codes: Codes
    size: int

    @classmethod
    def of(cls, symbols: NDArray[Any]) -> Alphabet:
        """The commonest symbols of a sample.

        >>> alphabet = Alphabet.of(np.array([7, 7, 5]))
        >>> alphabet.encode(np.array([5, 7, 6])).tolist(), alphabet.size
        ([0, 1, 2], 3)
        """
        known, counts = np.unique(symbols, return_counts=True)
        if len(known) >= ALPHABET:
            known = known[np.sort(np.argsort(-counts, kind="stable")[: ALPHABET - 1])]
        codes = np.arange(len(known), dtype=np.uint16)
        size = len(known) + 1
        if known.dtype.kind in "iu" and known[0] >= 0 and known[-1] < _LOOKUP:
            lookup = np.full(int(known[-1]) + 2, len(known), dtype=np.uint16)
            lookup[known] = codes
            codes = lookup
        return cls(known, codes, size)

    def encode(self, symbols: NDArray[Any]) -> Codes:
        """The code of every symbol."""
        if len(self.codes) != len(self.known):
            bounded = np.where((symbols < 0) | (symbols >= len(self.codes)), len(self.codes) - 1, symbols)
            return np.asarray(self.codes[bounded.astype(np.intp)])
        place = np.minimum(np.searchsorted(self.known, symbols), len(self.known) - 1)
        found = np.where(self.known[place] == symbols, self.codes[place], self.size - 1)
        return found.astype(np.uint16)


def count_pairs(x_N: Codes, y_N: Codes, x_size: int, y_size: int) -> NDArray[np.int64]:
    """How often each pair of codes stands together, (x_size · y_size,)."""
    # Sixteen bits hold every pair, and a quarter of the memory has to be read.
    pairs_N = x_N * np.uint16(y_size) + y_N
    return np.bincount(pairs_N, minlength=x_size * y_size)


def information(counts: NDArray[np.int64], x_size: int) -> float:
    """Mutual information in nats from a table of counts.

    >>> round(information(np.array([5, 0, 0, 5]), 2), 6)  # log 2
    0.693147
    """
    table = counts.reshape(x_size, -1).astype(np.float64)
    total = table.sum()
    if not total:
        return 0.0
    joint = _sum_n_log_n(table) + total * np.log(total)
    found = (joint - _sum_n_log_n(table.sum(0)) - _sum_n_log_n(table.sum(1))) / total
    return max(float(found), 0.0)


def _sum_n_log_n(counts: NDArray[np.float64]) -> float:
    some = counts[counts > 0]
    return float(some @ np.log(some))


@dataclass(frozen=True)
class Information:
    """The largest mutual information over all pairs of a column of x and a column of y."""

    x_size: int
    y_size: int
    columns: int = 1  # pairs of them

    def __call__(self, x_NF: Codes, y_NG: Codes) -> float:
        return max(
            information(count_pairs(x_N, y_N, self.x_size, self.y_size), self.x_size)
            for x_N in x_NF.T
            for y_N in y_NG.T
        )

    def chance(self, null_D: NDArray[np.float64]) -> Tail:
        """The largest of so many gamma variables as there are pairs of columns."""
        return fit_tail(null_D, shape=None, count=float(self.columns))
