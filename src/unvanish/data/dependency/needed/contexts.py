"""What follows each context of symbols, by counts.

Shapes: N steps, C context lengths, R rows that are predicted, S symbols of y.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.needed.past import Floats, Lags, Steps

DISCOUNT = 0.75
LONGEST = 16
MOST = 0.6  # contexts a step: beyond, hardly any is seen twice

Table = NDArray[np.float32]


def contexts_of(x_T: Lags, steps: Steps, lags_K: Lags) -> list[Lags]:
    """Number the contexts of every length, 0 first: as long as the lags have no gap and contexts come again."""
    size, found = int(x_T.max()) + 2, [np.zeros(len(steps.now), dtype=np.int64)]
    whole = int(np.flatnonzero(np.append(np.diff(lags_K), 0) != 1)[0]) + 1
    for lag in lags_K[: min(whole, LONGEST)].tolist():
        symbol_N = np.where(steps.before >= lag, x_T[np.maximum(steps.now - lag, 0)], size - 1)
        key_N = found[-1] * size + symbol_N
        found.append(np.unique(key_N, return_inverse=True)[1])
        if found[-1].max() + 1 > MOST * len(key_N):
            break
    return found


def predictions(
    context_CN: list[Lags], y_N: Lags, size: int, train_N: NDArray[np.bool_], rows_R: Lags
) -> tuple[list[Table], list[Lags]]:
    """Predict some rows by contexts of every length, and say how often each row's context was seen.

    Counts are of the rows in `train_N`; one of these does not count itself.
    """
    levels: list[Table] = []
    seen: list[Lags] = []
    own_R = np.flatnonzero(train_N[rows_R])
    for context_N in context_CN:
        count_RS = _followers(context_N, y_N, size, train_N, rows_R)
        count_RS[own_R, y_N[rows_R[own_R]]] -= 1
        total_R1 = count_RS.sum(1, keepdims=True)
        if not levels:
            levels.append((count_RS + np.float32(0.5)) / (total_R1 + np.float32(0.5 * size)))
        else:
            taken_RS = np.minimum(count_RS, np.float32(DISCOUNT))
            rest_R1 = taken_RS.sum(1, keepdims=True)
            given_RS = (count_RS - taken_RS + rest_R1 * levels[-1]) / np.maximum(total_R1, 1)
            levels.append(np.where(total_R1 > 0, given_RS, levels[-1]))
        seen.append(total_R1[:, 0].astype(np.int64))
    return levels, seen


def _followers(context_N: Lags, y_N: Lags, size: int, train_N: NDArray[np.bool_], rows_R: Lags) -> Table:
    """How often each symbol follows the context of each row, (R, S)."""
    pairs, counts = np.unique(context_N[train_N] * size + y_N[train_N], return_counts=True)
    starts = np.searchsorted(pairs, np.arange(context_N.max() + 2) * size)
    first_R, last_R = starts[context_N[rows_R]], starts[context_N[rows_R] + 1]
    length_R = last_R - first_R
    row = np.repeat(np.arange(len(rows_R)), length_R)
    at = np.arange(len(row)) - np.repeat(np.cumsum(length_R) - length_R - first_R, length_R)
    found_RS = np.zeros((len(rows_R), size), dtype=np.float32)
    found_RS[row, pairs[at] % size] = counts[at]
    return found_RS


def surprise(share_RS: NDArray[np.floating], y_R: Lags) -> Floats:
    """The log-loss of every row in nats."""
    found: Floats = -np.log(np.maximum(share_RS[np.arange(len(y_R)), y_R], math.exp(-30)).astype(np.float64))
    return found
