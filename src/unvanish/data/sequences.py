"""What every reader gives: sequences of numbers and of categories, side by side, with what is to be predicted.

Shapes: N steps of all sequences together, B sequences, F numbers of a step, C categories of a step, G targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unvanish.data.precision import to_single

Kind = Literal["class", "number"]


def numbered(counts_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return of so many entries for each row, one after the other, which row each is of and its place there.

    >>> [one.tolist() for one in numbered(np.array([2, 0, 3]))]
    [[0, 0, 2, 2, 2], [0, 1, 0, 1, 2]]
    """
    row_N = np.repeat(np.arange(len(counts_B)), counts_B)
    return row_N, np.arange(len(row_N)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)


@dataclass(frozen=True, eq=False)
class Categories:
    """A column of words: `levels` names them, and a code is the place of one there; -1 where it is missing."""

    name: str
    levels: tuple[str, ...]
    codes_N: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be predicted from a sequence, or at each of its steps.

    Attributes:
        kind: `class` (a code of `levels`, -1 where it is missing) or `number` (NaN where it is missing).
        per: `sequence`, with a row of `values` for each, or `step`, with one for each step.
        values: (B, G) or (N, G).
        levels: the names of the classes.
        ahead: how many steps beyond the last one are wanted; 0 where it is the value beside the input.
    """

    kind: Kind
    per: Literal["sequence", "step"]
    names: tuple[str, ...]
    values: NDArray[Any]
    levels: tuple[str, ...] = ()
    ahead: int = 0


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of one kind, one after the other, as a reader found them: nothing is scaled, nothing filled in.

    Attributes:
        source: where they come from, in words.
        lengths_B: how many steps each has.
        keys: what each is called.
        numbers_NF: what is measured at every step; NaN where it is missing.
        names: of these columns.
        categories: the columns of words.
        target: what is to be predicted, if anything but the next step of them is.
        times_N: when each step was (microseconds of UTC since 1970, or a number); None where nothing says it.
        step: how far two steps lie apart, in words (`1 hour`); empty where steps have no time.
        known: names of columns that are known beforehand, such as the price of the next week.
        told: what was found and how it was dealt with, a line each.
        called: what its source calls the keys, and the times.
        marks: of columns of text, the mark that was found before decimals.
        row_N: which row of a table each step was, -1 where it has none; None where the source is no table.
        rows: of a table, a data frame with the keys of its rows as they stand there: the series, and the time.
    """

    source: str
    lengths_B: NDArray[np.int64]
    keys: tuple[str, ...]
    numbers_NF: NDArray[np.float32]
    names: tuple[str, ...]
    categories: tuple[Categories, ...] = ()
    target: Target | None = None
    times_N: NDArray[Any] | None = None
    step: str = ""
    known: tuple[str, ...] = ()
    told: tuple[str, ...] = field(default_factory=tuple)
    called: tuple[str, str] = ("sequence", "time")
    marks: tuple[tuple[str, str], ...] = ()
    row_N: NDArray[np.int64] | None = None
    rows: Any = None

    @classmethod
    def of_rows(cls, source: str, rows: list[NDArray[Any]], target: Target | None = None) -> Sequences:
        """Put rows of (T, F) one after the other; columns and sequences are called by their numbers.

        Raises:
            DataError: single precision cannot hold a number, or not tell those of a column to learn from apart.
        """
        lengths_B = np.array([len(row) for row in rows], dtype=np.int64)
        keys = tuple(map(str, range(1, len(rows) + 1)))
        names = tuple(f"column {number}" for number in range(1, rows[0].shape[1] + 1))
        numbers_NF = to_single(np.concatenate(rows), f"x of {source}", apart=target is not None)
        return cls(source, lengths_B, keys, numbers_NF, names, target=target)

    def __len__(self) -> int:
        return len(self.lengths_B)

    def __repr__(self) -> str:
        steps = int(self.lengths_B.sum())
        columns = len(self.names) + len(self.categories)
        wanted = "" if self.target is None else f", to predict {', '.join(self.target.names)} per {self.target.per}"
        return f"Sequences({self.source}: {len(self):,} of {steps:,} steps, {columns} columns{wanted})"

    @property
    def starts_B(self) -> NDArray[np.int64]:
        """Where each begins."""
        found: NDArray[np.int64] = np.cumsum(self.lengths_B) - self.lengths_B
        return found

    @property
    def place_N(self) -> NDArray[np.int64]:
        """Where each step lies in its own sequence, from 0 on."""
        return numbered(self.lengths_B)[1]

    def places(self) -> Iterator[slice]:
        """Where each lies among all steps."""
        for start, length in zip(self.starts_B.tolist(), self.lengths_B.tolist(), strict=True):
            yield slice(start, start + length)

    @property
    def first_row_B(self) -> NDArray[np.int64]:
        """The row of the source in which each first appears; its number where the source is no table."""
        if self.row_N is None:
            return np.arange(len(self))
        last = np.iinfo(np.int64).max
        found: NDArray[np.int64] = np.minimum.reduceat(np.where(self.row_N < 0, last, self.row_N), self.starts_B)
        return found

    def only_the_last(self, length: int) -> list[str]:
        """Say that sequences are longer than what is read of them, where they are."""
        longest = int(self.lengths_B.max())
        if longest <= length:
            return []
        return [f"of each sequence the last {length:,} steps are read (the longest has {longest:,})"]
