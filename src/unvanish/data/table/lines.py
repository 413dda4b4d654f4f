"""Rows that come a line at a time, CSV with its header first or JSON lines, read as a table's rows are.

A column was found to hold numbers or words when the run was trained, so that a row is read by itself.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unvanish.checks import is_number
from unvanish.data.sequences import Categories, Sequences
from unvanish.data.table.columns import COMMA, FLAGS, GROUPED, MISSING, PLAIN, POINTS, as_times
from unvanish.data.table.file import head_of, separator_of
from unvanish.data.table.keys import time_keys
from unvanish.data.table.read import commas_told
from unvanish.data.table.roles import Roles, TableOptions, roles
from unvanish.errors import DataError, printable

INPUT = Path("standard input")
Fields = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """The fields of a line, without those that are missing, and the number of the line."""

    fields: Fields
    line: int

    @property
    def where(self) -> str:
        """What it is called where it is refused."""
        return f"{INPUT}, line {self.line}"


def read_lines(lines: Iterable[str]) -> Iterator[Row | tuple[str, ...] | None]:
    """Yield the names of the columns, then a row for each line, and None for an empty line.

    Raises:
        DataError: a line does not fit the header.
    """
    names: tuple[str, ...] = ()
    separator = ""
    for number, line in enumerate(lines, 1):
        text = line.strip("\r\n").removeprefix("\ufeff")
        if not text.strip():
            if names:
                yield None
        elif not names and text.lstrip().startswith("{"):
            fields = _of_json(text, number)
            names = tuple(fields)
            yield names
            yield Row(_known(fields), number)
        elif not names:
            separator = separator_of(INPUT, text)
            names = tuple(head_of(INPUT, next(csv.reader([text], delimiter=separator))))
            yield names
        elif separator:
            yield Row(_known(_of_csv(text, number, names, separator)), number)
        else:
            yield Row(_known(_of_json(text, number)), number)


def _of_json(text: str, number: int) -> Fields:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{INPUT}, line {number} is not JSON: {fault}; write an object on each line") from fault
    if not isinstance(fields, dict):
        raise DataError(f"{INPUT}, line {number} is not an object: write {{COLUMN: VALUE, …}} on each line")
    return fields


def _of_csv(text: str, number: int, names: tuple[str, ...], separator: str) -> Fields:
    try:
        row = next(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error as fault:
        raise DataError(f"{INPUT}, line {number}: {fault}; a row is one line, quoted fields too") from fault
    if len(row) != len(names):
        raise DataError(
            f"{INPUT}, line {number}: {len(row)} fields, and the header has {len(names)}: mend the row, and quote "
            "fields that hold a separator"
        )
    return dict(zip(names, row, strict=True))


def _known(fields: Fields) -> Fields:
    """The fields that are not missing, text without spaces at its ends."""
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}
    return {
        name: value
        for name, value in stripped.items()
        if value is not None and not (isinstance(value, str) and value.lower() in MISSING)
    }


class RowReader:
    """Reads rows as a run reads its table; `say` is told of a kind of finding, and of a line that says it.

    Args:
        names: of the columns of the input.
        numbers, words: the columns that are read, by what they hold.

    Raises:
        DataError: a column of the run is not there.
    """

    def __init__(
        self, names: tuple[str, ...], asked: TableOptions, numbers: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        for name in (*numbers, *words):
            if name not in names:
                raise DataError(
                    f"{INPUT} has no column {printable(name)}, which the run was trained with: it has "
                    f"{', '.join(map(printable, names))}"
                )
        self.roles: Roles = roles(names, asked, str(INPUT))
        self.decimal, self._numbers, self._words = asked.decimal, numbers, words
        self._marks = dict(asked.marks)
        self.say: Callable[[str, str], None] = lambda _, __: None

    def step(self, row: Row | None) -> Sequences:
        """Return a row as a sequence of one step; None is a step of which nothing is known."""
        values_1F = np.array([[self.number(row, name) for name in self._numbers]], np.float32)
        categories = tuple(self._category(row, name) for name in self._words)
        return Sequences(str(INPUT), np.ones(1, np.int64), ("",), values_1F, self._numbers, categories)

    def _category(self, row: Row | None, name: str) -> Categories:
        value = None if row is None else row.fields.get(name)
        if value is None:
            return Categories(name, (), np.full(1, -1, np.int32))
        return Categories(name, (_text(value),), np.zeros(1, np.int32))

    def number(self, row: Row | None, name: str) -> float:
        """Return the number in a column, NaN where it is missing."""
        value = None if row is None else row.fields.get(name)
        if row is None or value is None:
            return float("nan")
        if value is True or value is False or is_number(value):
            return float(value)
        text, usual = str(value), self._marks.get(name)
        if not self.decimal and usual == "," and re.match(COMMA, text) is None and _is_pointed(text):
            raise DataError(
                f"{row.where}, column {printable(name)}: {printable(repr(value))} has a point before its decimals, "
                "and the run was trained with commas there: write a comma"
            )
        found = number_of(text, self.decimal, usual)
        if found is None:
            raise DataError(
                f"{row.where}, column {printable(name)}: {printable(repr(value))} is not a number: mend it, or "
                "leave the field empty"
            )
        if not self.decimal and "," in text and number_of(text, ",") == found != number_of(text, "."):
            self.say(f"comma {name}", f"line {row.line}: {commas_told([name])}")
        return found

    def group(self, row: Row) -> str:
        """Return which series a row is of; empty where nothing tells series apart."""
        return self._needed(row, self.roles.group, "series")

    def time(self, row: Row) -> int | float | None:
        """Return when a row was, in microseconds of UTC since 1970, or as a number; None where nothing says it."""
        name = self.roles.time
        text = self._needed(row, name, "time")
        if name is None:
            return None
        found = as_times(pl.Series(name, [text]), row.where)
        if found is not None:
            return int(found[0].to_physical()[0])
        return self.number(row, name)

    def keys(self, row: Row) -> dict[str, pl.Series]:
        """Return the series of a row and its time, as far as columns have them, with the types of the input."""
        found = {}
        group, time = self.roles.group, self.roles.time
        if group is not None:
            found[group] = pl.Series(group, [row.fields[group]])
        if time is not None:
            found[time] = time_keys(pl.Series(time, [row.fields[time]]), np.array([self.time(row)]))
        return found

    def _needed(self, row: Row, name: str | None, what: str) -> str:
        if name is None:
            return ""
        if name not in row.fields:
            raise DataError(f"{row.where}, column {printable(name)}: the {what} is missing; fill it in")
        return _text(row.fields[name])


def _text(value: Any) -> str:
    """A value of JSON as a table of text has it."""
    return str(value).lower() if value is True or value is False else str(value)


def _is_pointed(text: str) -> bool:
    """Whether a point in a number cannot stand between thousands."""
    return "." in text and re.match(POINTS, text) is None and re.match(PLAIN, text) is not None


def number_of(text: str, decimal: str | None, usual: str | None = None) -> float | None:
    """Read a number as a table's column of numbers has it; None where it is not one.

    >>> number_of("1,234.5", "."), number_of("1.234,5", None), number_of("1,5", None), number_of("yes", None)
    (1234.5, 1234.5, 1.5, 1.0)
    >>> number_of("1,234", None), number_of("x", None), number_of("1,234", None, ","), number_of("1.234", None, ",")
    (None, None, 1.234, 1234.0)
    """
    if text.lower() in FLAGS:
        return FLAGS[text.lower()]
    commas = re.match(COMMA, text) is not None and re.match(GROUPED, text) is None
    if decimal is None:
        decimal = "," if commas else "." if re.search(r",\d{3}[,.]", text) else usual
    if decimal == ",":
        text = re.sub(r"\.(\d{3})", r"\1", text).replace(",", ".", 1)
    elif decimal == ".":
        text = text.replace(",", "")
    return float(text) if re.match(PLAIN, text) else None
