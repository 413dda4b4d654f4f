"""Files of the UCR and UEA archive (`.ts`): each line a sequence, its columns between colons, its label last.

Shapes: T steps, B sequences, F columns, N steps of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unvanish.checks import reads_as_number
from unvanish.data.reading import read_blocks, size_of
from unvanish.data.sequences import Sequences, Target
from unvanish.errors import DataError, printable


@dataclass(frozen=True)
class _Head:
    """What stands before the data: the names of the classes, or that the target is a number."""

    labelled: bool
    levels: tuple[str, ...]
    stamped: bool
    first: int  # line of the data


def read_ts(path: Path) -> Sequences:
    """Read one file of the archive.

    Raises:
        DataError: it is damaged; with the line.
    """
    lines = list(_lines(path))
    head = _head(path, lines)
    if head.stamped:
        raise DataError(f"{path}: its steps have time stamps, which are not read: write the values alone")
    columns: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for number, line in enumerate(lines[head.first :], head.first + 1):
        if line and not line.startswith("#"):
            fields = line.split(":")
            if head.labelled:
                labels.append(fields.pop().strip())
            columns.append(_sequence(path, number, fields))
    if not columns:
        raise DataError(f"{path} has no sequences under @data: name a file of the archive")
    widths = {one.shape[1] for one in columns}
    if len(widths) > 1:
        wrong = next(place for place, one in enumerate(columns) if one.shape[1] != columns[0].shape[1])
        raise DataError(
            f"{path}, sequence {wrong + 1}: {columns[wrong].shape[1]} columns, and the first has "
            f"{columns[0].shape[1]}: mend the line"
        )
    return Sequences.of_rows(str(path), columns, _target(path, labels, head) if head.labelled else None)


def read_archive(path: Path) -> dict[str, Sequences]:
    """Read a data set of the archive: the parts `train` and `test`, by the name of either file or of their folder.

    Raises:
        DataError: one of the two is missing, or damaged.
    """
    if path.is_dir():
        found = sorted(path.glob("*_TRAIN.ts"))
        if len(found) != 1:
            raise DataError(f"{path} has {len(found)} files that end in _TRAIN.ts: name one of them")
        path = found[0]
    stem = path.name.removesuffix("_TRAIN.ts").removesuffix("_TEST.ts")
    if stem == path.name:
        return {"train": read_ts(path)}
    parts = {part: path.with_name(f"{stem}_{part.upper()}.ts") for part in ("train", "test")}
    for other in parts.values():
        if not other.is_file():
            raise DataError(f"{path} has no {other.name} beside it: fetch both files of the data set")
    read = {part: read_ts(other) for part, other in parts.items()}
    if read["train"].names != read["test"].names:
        raise DataError(f"{path}: the files to train and to test have different numbers of columns")
    return read


def _lines(path: Path) -> Iterator[str]:
    left = ""
    for block in read_blocks(path, size_of(path)):
        *whole, left = (left + block).split("\n")
        yield from (line.strip() for line in whole)
    if left.strip():
        yield left.strip()


def _head(path: Path, lines: list[str]) -> _Head:
    said: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        word, *values = line.split() or [""]
        if word.lower() == "@data":
            label = said.get("@classlabel", said.get("@targetlabel", ["false"]))
            named = tuple(label[1:]) if "@classlabel" in said else ()
            labelled = bool(label) and label[0].lower() == "true"
            return _Head(labelled, named, said.get("@timestamps", ["false"])[:1] == ["true"], number + 1)
        if word.startswith("@"):
            said[word.lower()] = values
    raise DataError(f"{path} has no line @data: it is not a file of the UCR and UEA archive")


def _sequence(path: Path, number: int, fields: list[str]) -> NDArray[np.float32]:
    """The columns of one line side by side, (T, F); what is shorter ends in missing values."""
    found = []
    for place, field in enumerate(fields, 1):
        values = ["nan" if one.strip() in ("?", "") else one for one in field.split(",")]
        try:
            found.append(np.array(values, dtype=np.float32))
        except ValueError:
            wrong = next(one for one in values if not reads_as_number(one))
            raise DataError(
                f"{path}, line {number}, column {place}: {printable(repr(wrong))} is not a number"
            ) from None
    steps = max(len(one) for one in found)
    values_TF = np.full((steps, len(found)), np.nan, dtype=np.float32)
    for column, one in enumerate(found):
        values_TF[: len(one), column] = one
    return values_TF


def _target(path: Path, labels: list[str], head: _Head) -> Target:
    if not head.levels:  # a number to predict
        try:
            numbers = np.array([[float(one)] for one in labels], dtype=np.float32)
        except ValueError:
            wrong = next(one for one in labels if not reads_as_number(one))
            raise DataError(f"{path}: the target {printable(repr(wrong))} is not a number") from None
        return Target("number", "sequence", ("target",), numbers)
    places = {level: code for code, level in enumerate(head.levels)}
    unknown = next((one for one in labels if one not in places), None)
    if unknown is not None:
        raise DataError(f"{path}: the label {printable(repr(unknown))} is not among those of @classLabel")
    codes = np.array([[places[one]] for one in labels], dtype=np.int32)
    return Target("class", "sequence", ("class",), codes, head.levels)
