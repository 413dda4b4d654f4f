"""Columns as a network reads them: numbers in units of their spread, gaps marked, words numbered.

What is worked out from the data to train on is kept, and used for all data after them.

Shapes: N steps of all sequences together, F numbers of a step, C categories of a step, M columns with gaps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unvanish.data.sequences import Categories, Sequences
from unvanish.errors import DataError, printable

SHOWN = 5  # words that are new
ROBUST = 1.349  # quartiles of a normal distribution lie so many deviations apart
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Column:
    """A column of numbers: what is taken off, what it is divided by, whether gaps in it are marked."""

    name: str
    centre: float = 0.0
    scale: float = 1.0
    gaps: bool = False


@dataclass(frozen=True)
class Levels:
    """A column of words: they are numbered from 1 on; 0 is missing, or a word that was not there in training."""

    name: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Encoding:
    """How steps become numbers.

    >>> rows = [np.array([[1.0], [3.0], [np.nan]], np.float32)]
    >>> encoding = Encoding.of(Sequences.of_rows("example", rows), slice(None))
    >>> encoding.numbers(Sequences.of_rows("example", rows)).tolist()
    [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """

    columns: tuple[Column, ...]
    categories: tuple[Levels, ...] = ()

    @classmethod
    def of(cls, data: Sequences, part: Any, how: str = "standard") -> Encoding:
        """Work it out from a part of the steps: `standard`, `robust`, or `none`."""
        values_NF = data.numbers_NF[part]
        columns = []
        for name, values_N in zip(data.names, values_NF.T, strict=True):
            centre, scale = spread(values_N, how)
            columns.append(Column(name, centre, scale, bool(np.isnan(values_N).any())))
        return cls(tuple(columns), tuple(Levels(one.name, one.levels) for one in data.categories))

    @property
    def width(self) -> int:
        """How many numbers a step has, marks of gaps among them."""
        return len(self.columns) + sum(column.gaps for column in self.columns)

    def numbers(self, data: Sequences) -> Numbers:
        """Return the numbers of every step, 0 where one is missing, and then a mark for each gap, (N, F + M).

        Raises:
            DataError: a column is not there.
        """
        places = {name: place for place, name in enumerate(data.names)}
        found = np.empty((len(data.numbers_NF), self.width), np.float32)
        mark = len(self.columns)
        for place, column in enumerate(self.columns):
            if column.name not in places:
                raise _missing(data, column.name)
            values_N = data.numbers_NF[:, places[column.name]]
            gap_N = np.isnan(values_N)
            found[:, place] = np.where(gap_N, 0, (values_N - column.centre) / column.scale)
            if column.gaps:
                found[:, mark] = gap_N
                mark += 1
        return found

    def codes(self, data: Sequences) -> NDArray[np.int64]:
        """Return the numbers of the words of every step, (N, C).

        Raises:
            DataError: a column is not there.
        """
        columns = {one.name: one for one in data.categories}
        found = np.zeros((len(data.numbers_NF), len(self.categories)), np.int64)
        for place, wanted in enumerate(self.categories):
            if wanted.name not in columns:
                raise _missing(data, wanted.name)
            column = columns[wanted.name]
            number = {level: code for code, level in enumerate(wanted.levels, 1)}
            table = np.array([*(number.get(level, 0) for level in column.levels), 0])
            found[:, place] = table[column.codes_N]
        return found

    def unknown(self, data: Sequences) -> list[str]:
        """Say of each column of words which of them were not there in training: they are read as missing.

        >>> from dataclasses import replace
        >>> codes_N = np.array([0, 1, 2, 1], np.int32)
        >>> data = Sequences.of_rows("example", [np.zeros((4, 1))])
        >>> data = replace(data, categories=(Categories("sky", ("blue", "grey", "red"), codes_N),))
        >>> Encoding((), (Levels("sky", ("blue", "red")),)).unknown(data)
        ['column sky: 2 of 4 steps hold a word that is not known from training: grey']
        """
        known = {one.name: one.levels for one in self.categories}
        return [_new_words(one, known[one.name]) for one in data.categories if _new(one, known.get(one.name))]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "columns": [asdict(one) for one in self.columns],
            "categories": [{"name": one.name, "levels": list(one.levels)} for one in self.categories],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Encoding:
        """Make it of what `to_dict` returned."""
        return cls(
            tuple(Column(**one) for one in plain["columns"]),
            tuple(Levels(one["name"], tuple(one["levels"])) for one in plain["categories"]),
        )


def _new(column: Categories, known: tuple[str, ...] | None) -> list[int]:
    """The codes of a column that stand at some step and are not known."""
    levels = () if known is None else set(column.levels) - set(known)
    present = set(np.unique(column.codes_N).tolist())
    return [code for code, level in enumerate(column.levels) if level in levels and code in present]


def _new_words(column: Categories, known: tuple[str, ...]) -> str:
    new = _new(column, known)
    count, steps = int(np.isin(column.codes_N, new).sum()), len(column.codes_N)
    shown = ", ".join(printable(column.levels[code]) for code in new[:SHOWN]) + (", …" if len(new) > SHOWN else "")
    return (
        f"column {printable(column.name)}: {count:,} of {steps:,} steps {'holds' if count == 1 else 'hold'} a word "
        f"that is not known from training: {shown}"
    )


def spread(values_N: NDArray[Any], how: str) -> tuple[float, float]:
    """Return what to take off numbers and what to divide them by; 0 and 1 where nothing is known of them.

    >>> spread(np.array([1.0, 3.0, np.nan]), "standard"), spread(np.array([7.0, 7.0]), "standard")
    ((2.0, 1.0), (7.0, 1.0))
    """
    known = values_N[np.isfinite(values_N)].astype(np.float64)
    if how == "none" or not len(known):
        return 0.0, 1.0
    if how == "robust":
        low, middle, high = np.percentile(known, [25, 50, 75])
        centre, scale = float(middle), float(high - low) / ROBUST
        if scale > 0:
            return centre, scale
    centre, scale = float(known.mean()), float(known.std())
    # Held against the numbers themselves: what is measured in amperes may be a thousandth of a millionth.
    return centre, scale if scale > 1e-12 * abs(centre) else 1.0


def _missing(data: Sequences, name: str) -> DataError:
    there = ", ".join(map(printable, (*data.names, *(one.name for one in data.categories)))) or "none"
    return DataError(
        f"{data.source} has no column {printable(name)}, which the run was trained with: it has {there}"
    )
