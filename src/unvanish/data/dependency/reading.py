"""What a caller may give as data, made one thing: steps in a row, with the lengths of the sequences in it.

Shapes: B sequences, T steps (of all sequences together), F features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unvanish.errors import DataError, OptionError

KINDS = ("symbols", "numbers")
WIDE = 10  # columns from which a table of numbers may as well be so many steps
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|\s*(nan|NaN|NA)?\s*")


@dataclass(frozen=True, eq=False)
class Series:
    """Sequences end to end: `values` (T, F), and the length of each."""

    kind: str
    values: NDArray[Any]
    lengths: NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Steps of all sequences together."""
        return len(self.values)


def check_path(text: str) -> None:
    """Refuse a text that is the path of a file.

    Raises:
        DataError: it looks like one.
    """
    if 0 < len(text) < 256 and "\n" not in text and _is_path(text):
        raise DataError(f"the text {text!r} looks like the path of a file: give Path({text!r}) to have it read")


def check_table(text: str) -> None:
    """Refuse a text that is a table of numbers.

    Raises:
        DataError: its lines have the same number of cells, most of them numbers.
    """
    lines = [line for line in text[:10_000].splitlines()[:50] if line.strip()]
    lines = lines[1:-1] if len(text) > 10_000 else lines[1:]  # the first may hold names, the last be cut
    for separator in (",", ";", "\t", " "):
        rows = [line.strip().split(separator) for line in lines]
        cells = [cell for row in rows for cell in row]
        columns = {len(row) for row in rows}
        if len(rows) > 2 and len(columns) == 1 and sum(map(_is_number, cells)) > len(cells) / 2:
            raise DataError(
                f"the text is a table of numbers ({columns.pop()} to a line), not prose: read it with "
                "numpy.loadtxt or pandas, and give the numbers as an array (T,) or (T, F)"
            )


def _is_number(cell: str) -> bool:
    return bool(cell.strip()) and NUMBER.fullmatch(cell.strip('" ')) is not None


def _is_path(text: str) -> bool:
    try:
        if Path(text).exists():
            return True
    except OSError:
        return False
    return re.fullmatch(r"(~|\.{0,2}|[A-Za-z]:|[\w.-]+)?([/\\][\w .-]+)*[\w-]+\.[A-Za-z]\w{0,4}", text) is not None


def symbols_of(data: Any) -> NDArray[Any]:
    """A text, bytes or an array as an array of symbols."""
    if isinstance(data, str):
        return np.frombuffer(data.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(data, dtype=np.uint8)
    return as_array(data)


def as_array(data: Any) -> NDArray[Any]:
    """Make an array, and refuse what has no regular shape."""
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        return np.asarray((data.double() if data.is_floating_point() else data).numpy())
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DataError(
            f"the data have no regular shape ({error}): give one array, or a list with one array per sequence"
        ) from error
    if array.dtype.kind not in "iufbUS":
        raise DataError(
            f"data of type {array.dtype} are neither symbols nor numbers: give text, bytes, integers or floats"
        )
    return array


def read(data: Any, kind: str | None = None, name: str = "data") -> Series:
    """Read one sequence or several."""
    if isinstance(data, str):
        check_path(data)
        check_table(data)
    if isinstance(data, list | tuple) and not data:
        raise DataError(f"the {name} are empty: give sequences")
    if kind is not None and kind not in KINDS:
        raise OptionError(
            f"kind is {kind!r}, and there are two: give 'symbols' or 'numbers', or leave it to be guessed"
        )
    parts = [symbols_of(part) for part in data] if _is_list_of_sequences(data) else _split(symbols_of(data), kind)
    kinds = {_guess(part) if kind is None else kind for part in parts}
    pair = "; if they are an input and its target, give the second as target=" if len(parts) == 2 else ""
    if len(kinds) != 1:
        what = "no sequence" if not kinds else "sequences of symbols and sequences of numbers"
        raise DataError(
            f"the {name} hold {what}: give at least one, and all of one kind, or say which with kind={pair}"
        )
    return _joined(parts, kinds.pop(), name, pair)


def _is_list_of_sequences(data: Any) -> bool:
    if not isinstance(data, list | tuple) or not data or all(isinstance(part, str) for part in data):
        return False  # a list of strings is one sequence of words
    return all(isinstance(part, Sequence | np.ndarray | Tensor) and np.ndim(_shaped(part)) > 0 for part in data)


def _shaped(part: Any) -> Any:
    return [0] if isinstance(part, str | bytes | Sequence) else part


def _guess(part: NDArray[Any]) -> str:
    return "numbers" if part.dtype.kind == "f" else "symbols"


def _split(array: NDArray[Any], kind: str | None) -> list[NDArray[Any]]:
    """Symbols are (T,) or (B, T); numbers (T,), (T, F) or (B, T, F)."""
    whole = 2 if (kind or _guess(array)) == "numbers" else 1
    if not 1 <= array.ndim <= whole + 1:
        raise DataError(
            f"the data have shape {array.shape}: give symbols as (T,) or (B, T), numbers as (T,), "
            "(T, F) or (B, T, F)"
        )
    return list(array) if array.ndim > whole else [array]


def _joined(parts: list[NDArray[Any]], kind: str, name: str, pair: str) -> Series:
    if kind == "symbols":
        if any(part.ndim != 1 for part in parts):
            raise DataError(
                f"a sequence of symbols in the {name} has more than one axis: give one of shape (T,) each{pair}"
            )
        values = np.concatenate(parts)[:, None]
    else:
        if any(part.dtype.kind not in "iufb" for part in parts):
            raise DataError(f"the {name} are text, and kind='numbers' was asked for: leave kind out")
        columns = [part.reshape(len(part), -1).astype(np.float64) for part in parts]
        if len({part.shape[1] for part in columns}) != 1:
            raise DataError(
                f"the sequences of the {name} differ in their number of features: give all the same ones{pair}"
            )
        values = np.concatenate(columns)
        _check_finite(columns, name)
    return Series(kind, values, np.array([len(part) for part in parts], dtype=np.int64))


def _check_finite(columns: list[NDArray[np.float64]], name: str) -> None:
    for index, part in enumerate(columns):
        bad = np.argwhere(~np.isfinite(part))
        if len(bad):
            row, column = bad[0]
            place = f"row {row}, column {column}" + (f" of sequence {index}" if len(columns) > 1 else "")
            raise DataError(
                f"{part[row, column]} in the {name} at {place} ({len(bad)} such values there): it has no rank; "
                "leave these rows out, or fill them in"
            )


def check_target(data: Any, target: Any) -> None:
    """Refuse a target of data that may be read in two ways.

    Raises:
        DataError: floats (R, C) are one sequence of R steps or R sequences of C steps, and the target fits both.
    """
    if _is_list_of_sequences(data) or isinstance(data, str | bytes | bytearray) or _is_list_of_sequences(target):
        return
    array, wanted = as_array(data), as_array(target)
    wide = array.ndim == 2 and array.dtype.kind == "f" and array.shape[1] >= WIDE
    if wide and wanted.shape in (array.shape, array.shape[:1]):
        rows, columns = array.shape
        raise DataError(
            f"floats of shape {array.shape} with a target of shape {wanted.shape} may be {rows} sequences of "
            f"{columns} steps, or one of {rows} steps with {columns} features: give data[:, :, None] for the "
            "first, [data] for the second"
        )


def read_target(target: Any, series: Series) -> tuple[Series, bool]:
    """Read a target, and say whether it is one label per sequence (else one value per step)."""
    if isinstance(target, str | bytes | bytearray) or _is_list_of_sequences(target):
        return _matched(read(target, name="target"), series), False
    array, count = as_array(target), len(series.lengths)
    if array.ndim > 1 and count > 1 and len(array) == count and (series.lengths == array.shape[1]).all():
        return _matched(read(list(array), name="target"), series), False
    columns = array[:, None] if array.ndim == 1 else array
    if columns.ndim == 2 and len(columns) in (series.steps, count) and len(columns) > 1:
        found = Series(_guess(array), columns, np.array([len(columns)]))
        if found.kind == "numbers":
            _check_finite([columns], "target")
        labels = len(columns) == count
        return (found, True) if labels else (Series(found.kind, columns, series.lengths), False)
    raise DataError(
        f"the target has shape {array.shape}, the data {count} sequences of {series.steps} steps in all: give one "
        "value per step, or one per sequence"
    )


def _matched(target: Series, series: Series) -> Series:
    if not np.array_equal(target.lengths, series.lengths):
        raise DataError(
            f"the target has sequences of {target.lengths[:4].tolist()} … steps, the data of "
            f"{series.lengths[:4].tolist()} …: give one value per step, or one per sequence"
        )
    return target
