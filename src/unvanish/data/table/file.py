"""A file with a table -> its columns, each as it was written. What is damaged is refused with row and column."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from unvanish.checks import reads_as_number
from unvanish.data.looking import PARQUET
from unvanish.data.reading import encoding_of, size_of
from unvanish.errors import DataError, printable

SEPARATORS = (",", ";", "\t", "|")
HEAD = 1 << 16  # bytes in which the separator is looked for
ENDINGS = {".jsonl": "lines", ".ndjson": "lines", ".parquet": "parquet"}


def read_columns(path: Path) -> pl.DataFrame:
    """Read a table: from CSV or TSV every column as text, from Parquet and JSON lines with their types.

    Raises:
        DataError: it is no table, has no rows, or a row that does not fit its head.
    """
    size_of(path)
    kind = kind_of(path)
    try:
        if kind == "parquet":
            frame = pl.read_parquet(path)
        elif kind == "lines":
            frame = pl.read_ndjson(path, infer_schema_length=None)
        else:
            frame = _of_text(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as fault:
        reason = printable(str(fault).strip().splitlines()[0])
        raise DataError(f"{path} cannot be read as a table: {reason}; mend the file, or export it again") from fault
    if not frame.height or not frame.width:
        raise DataError(f"{path} has no rows: name a table with a head and rows under it")
    return frame


def kind_of(path: Path) -> str:
    """How a table is written: `text` (with separators), `lines` of JSON or `parquet`."""
    with path.open("rb") as file:
        if file.read(len(PARQUET)) == PARQUET:
            return "parquet"
    return ENDINGS.get(path.suffix.lower(), "text")


def _of_text(path: Path) -> pl.DataFrame:
    text = _decoded(path)
    separator = separator_of(path, text)
    names = _checked(path, text, separator)
    frame = pl.read_csv(
        io.BytesIO(text.encode()),
        separator=separator,
        has_header=False,
        skip_rows=0,
        new_columns=names,
        infer_schema=False,
        truncate_ragged_lines=False,
    )
    return frame.slice(1)


def _decoded(path: Path) -> str:
    """The text of a file with one form of line ends."""
    content = path.read_bytes()
    mark, encoding = encoding_of(content)
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as fault:
        row = content[: fault.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not {encoding.upper()} in row {row}: save it as UTF-8 (iconv -f cp1252 -t utf-8)"
        ) from fault
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path} holds a zero byte in row {row}: it is not a table of text; export it again")
    return text


def separator_of(path: Path, text: str) -> str:
    """What stands between two fields: what the head has most of, and the rows after it as often.

    Raises:
        DataError: nothing stands there.
    """
    head = list(itertools.islice(_lines(text[:HEAD]), 20))
    if path.suffix.lower() == ".tsv":
        return "\t"
    counts = {}
    for separator in SEPARATORS:
        fields = [len(row) for row in csv.reader(head, delimiter=separator)]
        alike = sum(count == fields[0] for count in fields) if fields else 0
        counts[separator] = (alike, fields[0] if fields else 0)
    usable = {separator: found for separator, found in counts.items() if found[1] > 1}
    return max(usable, key=lambda separator: usable[separator]) if usable else ","


def _lines(text: str) -> Iterator[str]:
    return iter(io.StringIO(text, newline=""))


def _checked(path: Path, text: str, separator: str) -> list[str]:
    """The names of the columns; every row has a field for each of them."""
    names: list[str] = []
    reader = csv.reader(_lines(text), delimiter=separator)
    try:
        for row in reader:
            if not names:
                names = head_of(path, row)
            elif row and len(row) != len(names):
                raise DataError(
                    f"{path}, row {reader.line_num}: {len(row)} fields, and the head has {len(names)}: mend the "
                    "row, and quote fields that hold a separator or a line end"
                )
    except csv.Error as fault:
        raise DataError(f"{path}, row {reader.line_num}: {fault}; mend the row") from fault
    if not names:
        raise DataError(f"{path} has no head: its first row names the columns")
    return names


def head_of(path: Path, row: list[str]) -> list[str]:
    """Return the names of the columns from the first row of a table.

    Raises:
        DataError: it names none, or two the same.
    """
    names = [name.strip() for name in row]
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{path}: column {number} has no name in the head; the first row names the columns")
        if names.index(name) != number - 1:
            raise DataError(f"{path}: two columns are called {printable(name)!r}; rename one of them")
    if all(reads_as_number(name.replace(",", ".")) for name in names):
        raise DataError(
            f"{path} has no head: its first row is {printable(separator_shown(names))}; name the columns there"
        )
    return names


def separator_shown(names: list[str]) -> str:
    """A few fields of a row."""
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
