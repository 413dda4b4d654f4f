"""`unvanish predict` and `unvanish evaluate`: a run on other data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unvanish.cli.show import note, plain, written
from unvanish.cli.starting import at_once
from unvanish.errors import OptionError, printable

WRITERS = {".csv": "write_csv", ".parquet": "write_parquet", ".jsonl": "write_ndjson", ".ndjson": "write_ndjson"}


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    source: Annotated[Path, typer.Argument(help="A file like the one that the run was trained on.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write to this .csv, .parquet or .jsonl. Default: CSV to the terminal."),
    ] = None,
) -> None:
    """Answer of new data what a run was trained to answer: classes, numbers, forecasts with intervals.

    Example: unvanish predict runs/sales new.csv -o forecast.csv
    """
    if out is not None and out.suffix.lower() not in WRITERS:
        raise OptionError(f"--out {out}: end its name with {', '.join(WRITERS)}")
    with at_once():
        from unvanish import train as room

    frame: Any = room.predict(room.load_run(run, say=note), source)
    if out is None or out.suffix.lower() == ".csv":
        text = frame.write_csv(datetime_format=_moments(frame))
        if out is None:
            sys.stdout.write(text)
            return
        out.write_text(text, encoding="utf-8")
    else:
        getattr(frame, WRITERS[out.suffix.lower()])(out)
    note(f"{frame.height:,} rows written to {out}")


def _moments(frame: Any) -> str:
    """How times are written: as days where all of them are."""
    import polars as pl

    times = frame.select(pl.col(pl.Datetime))
    days = times.width and times.select(pl.all_horizontal(pl.all() == pl.all().dt.truncate("1d")).all()).item()
    return "%Y-%m-%d" if days else "%Y-%m-%d %H:%M:%S"


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
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
    from unvanish.record.measures import measures

    loaded = room.load_run(run, say=note)
    if per_token:
        if loaded.question.kind != "text":
            raise OptionError("--per-token is for a run on text")
        for symbol, bits in room.per_token(loaded, source):
            written(f"{bits:8.3f}\t{printable(symbol)}")
        return
    found = room.evaluate(loaded, source)
    unit = loaded.question.unit
    for name, value in measures(found.metrics, unit):
        plain(f"{name:<22}{value}")
    plain(f"{'of':<22}{found.count:,} {unit}s")
    if found.unknown:
        plain(f"{'unknown to the run':<22}{found.unknown:.2%} of them")
