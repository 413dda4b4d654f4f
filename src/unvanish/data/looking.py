"""Which reader a file or a folder is for, told by looking at it; whoever asks may say it instead."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from unvanish.checks import reads_as_number
from unvanish.data.reading import encoding_of, size_of
from unvanish.errors import DataError, OptionError, nearest

Kind = Literal["text", "bytes", "words", "bpe", "table", "arrays", "archive", "images"]
KINDS: tuple[str, ...] = get_args(Kind)
BY_ENDING: dict[str, Kind] = {
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "table",
    ".jsonl": "table",
    ".ndjson": "table",
    ".npz": "arrays",
    ".npy": "arrays",
    ".ts": "archive",
}
LINES, FEWEST = 30, 3  # of a table: what is looked at, and how many are enough
PARQUET = b"PAR1"  # what such a file begins with
HEAD = 1 << 15  # bytes that are looked at


@dataclass(frozen=True)
class Look:
    """What a source was taken for, and why."""

    kind: Kind
    why: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.why}"


def look(path: Path, kind: str | None = None) -> Look:
    """Say which reader a source is for.

    Args:
        kind: what it is to be taken for, whatever it looks like.

    Raises:
        OptionError: an unknown kind.
        DataError: there is nothing there, or nothing that is known.
    """
    if kind is not None:
        known: list[Kind] = [one for one in get_args(Kind) if one == kind]
        if not known:
            raise OptionError(f"--as {kind} is not known: {nearest(kind, KINDS)}")
        return Look(known[0], "as it was asked for")
    if path.is_dir():
        return _folder(path)
    size_of(path)
    head = _head(path)
    ending = BY_ENDING.get(path.suffix.lower())
    if ending is not None:
        return Look(ending, f"by its name, {path.suffix}")
    if head.startswith(PARQUET):
        return Look("table", "by its first bytes, Parquet")
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        return Look("arrays", "by its first bytes, NumPy")
    columns = columns_of(_text(head))
    if columns:
        return Look("table", f"{columns} fields to a line, and a column of numbers among them")
    return Look("text", "by what is in it")


def columns_of(text: str) -> int:
    """How many fields each line has, where at least one column is of numbers under its name; 0 if it is no table.

    >>> columns_of("a;b\\nx;1\\ny;2\\n"), columns_of("To be, or not to be,\\nthat is the question,\\n")
    (2, 0)
    """
    lines = text.splitlines()[: LINES + 1]
    lines = lines[:-1] if len(lines) > FEWEST else lines  # the last may be cut off
    for separator in (",", ";", "\t", "|"):
        rows = [row for row in csv.reader(lines, delimiter=separator) if row]
        widths = {len(row) for row in rows}
        if len(rows) >= FEWEST and len(widths) == 1 and min(widths) > 1:
            columns = list(zip(*rows[1:], strict=True))
            if any("".join(column).strip() and all(map(_is_number, column)) for column in columns):
                return widths.pop()
    return 0


def _is_number(field: str) -> bool:
    return not field.strip() or reads_as_number(field.replace(",", "."))


def _folder(path: Path) -> Look:
    if list(path.glob("*_TRAIN.ts")):
        return Look("archive", "it has a file that ends in _TRAIN.ts")
    if list(path.glob("train-images*idx3-ubyte*")):
        return Look("images", "it has idx files of images")
    if (path / "train.txt").exists():
        return Look("text", "it has a train.txt")
    raise DataError(
        f"{path} holds nothing that is known: name a file, or a folder with train.txt and valid.txt, with the "
        "files of a data set of the UCR and UEA archive, or with those of MNIST"
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}; name another file") from fault


def _text(head: bytes) -> str:
    mark, encoding = encoding_of(head)
    return head[len(mark) :].decode(encoding, errors="replace")
