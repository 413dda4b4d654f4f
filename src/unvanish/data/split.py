"""Sequences to train on and sequences to validate on."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from unvanish.data.sequences import Categories, Sequences

FEWEST = 2  # of a class, before one of it is held back


def split(data: Sequences, share: float, seed: int) -> tuple[Sequences, Sequences]:
    """Hold back a share of the sequences, of each class its share; of a single one its end.

    >>> rows = [np.zeros((4, 1), np.float32)] * 10
    >>> tuple(map(len, split(Sequences.of_rows("example", rows), 0.2, seed=0)))
    (8, 2)
    """
    if len(data) == 1:
        length = int(data.lengths_B[0])
        cut = max(1, min(length - 1, round(length * (1 - share))))
        return steps_of(data, slice(0, cut)), steps_of(data, slice(cut, length))
    held_B = np.zeros(len(data), bool)
    rng = np.random.default_rng(seed)
    for rows in _classes(data):
        count = round(share * len(rows)) if len(rows) >= FEWEST else 0
        held_B[rng.permutation(rows)[:count]] = True
    if not held_B.any():
        held_B[rng.integers(len(data))] = True
    return take(data, np.flatnonzero(~held_B)), take(data, np.flatnonzero(held_B))


def _classes(data: Sequences) -> list[NDArray[np.int64]]:
    target = data.target
    if target is None or target.per == "step" or target.kind != "class":
        return [np.arange(len(data))]
    codes_B = target.values[:, 0]
    return [np.flatnonzero(codes_B == code) for code in np.unique(codes_B)]


def take(data: Sequences, rows: NDArray[np.int64]) -> Sequences:
    """Return some of the sequences, in the order that is given."""
    places = [np.arange(start, start + length) for start, length in zip(data.starts_B, data.lengths_B, strict=True)]
    at_N = np.concatenate([places[row] for row in rows]) if len(rows) else np.zeros(0, np.int64)
    return _taken(data, at_N, data.lengths_B[rows], tuple(data.keys[row] for row in rows), rows)


def steps_of(data: Sequences, part: slice) -> Sequences:
    """Return some steps of the only sequence."""
    at_N = np.arange(part.start, part.stop)
    return _taken(data, at_N, np.array([len(at_N)]), data.keys, np.arange(1))


def _taken(
    data: Sequences,
    at_N: NDArray[np.int64],
    lengths_B: NDArray[np.int64],
    keys: tuple[str, ...],
    rows: NDArray[np.int64],
) -> Sequences:
    target = data.target
    if target is not None:
        target = dataclasses.replace(target, values=target.values[at_N if target.per == "step" else rows])
    return dataclasses.replace(
        data,
        lengths_B=lengths_B,
        keys=keys,
        numbers_NF=data.numbers_NF[at_N],
        categories=tuple(Categories(one.name, one.levels, one.codes_N[at_N]) for one in data.categories),
        target=target,
        times_N=None if data.times_N is None else data.times_N[at_N],
        row_N=None if data.row_N is None else data.row_N[at_N],
    )
