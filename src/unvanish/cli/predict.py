"""`unvanish predict` and `unvanish evaluate`: a run on other data."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from unvanish.cli.completion import runs
from unvanish.cli.places import check_file
from unvanish.cli.show import note, plain, written
from unvanish.cli.starting import at_once
from unvanish.errors import DataError, OptionError, printable
from unvanish.record import write_atomically

WRITERS = {".csv": "", ".parquet": "write_parquet", ".jsonl": "write_ndjson", ".ndjson": "write_ndjson"}

DAYS, MOMENTS, ZONED = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%:z"


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=runs)],
    source: Annotated[
        Path, typer.Argument(help="A file like the one that the run was trained on; - reads standard input.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write to this .csv, .parquet or .jsonl. Default: CSV to the terminal."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Of standard input: answer after so many rows of a series.")
    ] = 1,
) -> None:
    """Answer of new data what a run was trained to answer: classes, numbers, forecasts with intervals.

    With - each line of standard input is a row (CSV, its header first, or JSON lines), answered at once in the same
    form. Forecasts: after each row the steps ahead of its series. Labels per step: one answer per row; an empty
    line starts all sequences again. Labels per sequence: one answer at an empty line, or where the group changes.

    Example: unvanish predict runs/sales new.csv -o forecast.csv
    """
    if str(source) == "-":
        _answer_lines(run, out, every)
        return
    if every > 1:
        raise OptionError("--every is for rows of standard input: give - as the source, or leave it away")
    if out is not None and out.suffix.lower() not in WRITERS:
        raise OptionError(f"--out {out}: end its name with {', '.join(WRITERS)}")
    if out is not None:
        check_file(out, "answers.csv")
    with at_once():
        from unvanish import train as room

    frame: Any = room.predict(room.load_run(run, say=note), source, say=_telling(source))
    if out is None:
        sys.stdout.write(frame.write_csv(datetime_format=_moments(frame)))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    if writer := WRITERS[out.suffix.lower()]:
        getattr(frame, writer)(content)
    else:
        frame.write_csv(content, datetime_format=_moments(frame))
    write_atomically(out, content.getvalue())
    note(f"{frame.height:,} rows written to {out}")


def _telling(source: Path | str) -> Callable[[str], None]:
    """What tells, beside the answers, what was found in a source."""
    return lambda line: note(f"{source}: {line}")


def _answer_lines(run: Path, out: Path | None, every: int) -> None:
    """Answer rows of standard input, each at once, in the form that they have."""
    if out is not None:
        raise OptionError("--out is for files: answers to standard input go to standard output, so redirect that")
    with at_once():
        from unvanish import train as room
        from unvanish.train.streaming import predict_lines

    lines = _Lines(sys.stdin.buffer)
    header = True
    form: str | None = DAYS
    for frame in predict_lines(room.load_run(run, say=note), lines, every, say=_telling("standard input")):
        if lines.json:
            text = frame.write_ndjson()
        else:
            form = form if form != DAYS else _moments(frame)
            text = frame.write_csv(include_header=header, datetime_format=form)
        sys.stdout.write(text)
        sys.stdout.flush()
        header = False


class _Lines:
    """The lines of a stream as text, and whether they are JSON."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.json = stream, False

    def __iter__(self) -> Iterator[str]:
        begun = False
        for number, line in enumerate(self.stream, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError as fault:
                raise DataError(f"standard input, line {number} is not UTF-8: convert it with iconv") from fault
            if not begun and text.strip():
                begun, self.json = True, text.lstrip("\ufeff \t").startswith("{")
            yield text


def _moments(frame: Any) -> str | None:
    """How times are written: as days where all of them are, with their zone where they have one.

    None: some have one and some have none, and each is written as it is.
    """
    import polars as pl

    times = frame.select(pl.col(pl.Datetime))
    zoned = {kind.time_zone is not None for kind in times.dtypes}
    if True in zoned:
        return None if False in zoned else ZONED
    days = times.width and times.select(pl.all_horizontal(pl.all() == pl.all().dt.truncate("1d")).all()).item()
    return DAYS if days else MOMENTS


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=runs)],
    source: Annotated[Path, typer.Argument(help="A text, or data with the answers in it.")],
    per_token: Annotated[
        bool, typer.Option("--per-token", help="Print each symbol of a text with its surprise in bits.")
    ] = False,
) -> None:
    """Measure a run on other data: loss, perplexity, bits; accuracy; errors of forecasts.

    Example: unvanish evaluate runs/plays other.txt
    """
    with at_once():
        from unvanish import train as room
    from unvanish.record.measures import measures, share_text

    loaded = room.load_run(run, say=note)
    if per_token:
        if loaded.question.kind != "text":
            raise OptionError("--per-token is for a run on text")
        for symbol, bits in room.per_token(loaded, source, say=_telling(source)):
            written(f"{bits:8.3f}\t{printable(symbol)}")
        return
    found = room.evaluate(loaded, source, say=_telling(source))
    unit = loaded.question.unit
    for name, value in measures(found.metrics, unit):
        plain(f"{name:<22}{value}")
    plain(f"{'of':<22}{found.count:,} {unit}s")
    if found.unknown:
        plain(f"{'unknown to the run':<22}{share_text(found.unknown)} of them")
