"""`unvanish compare`: several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from unvanish.cli import completion
from unvanish.cli.places import check_file
from unvanish.cli.seeds import runs_in
from unvanish.cli.show import console, plain
from unvanish.errors import printable


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of two runs or more, or of --seeds.", autocompletion=completion.runs),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("compare.html"),
) -> None:
    """Put runs side by side: losses, how far their gradients reach, and in what they differ.

    Runs that differ only in the seed stand together, with their mean and range.

    Example: unvanish compare runs/gru runs/lstm -o compare.html
    """
    check_file(out, "compare.html")
    from unvanish import report

    found = report.compare(one for run in runs for one in runs_in(run) or [run])
    console.print(_table(found))
    plain(report.finding(found))
    plain(f"page    {report.write_comparison(found, out)}")


def _table(found: object) -> Table:
    from unvanish.report import Comparison, rows

    assert isinstance(found, Comparison)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for group in found.groups:
        table.add_column(Text(printable(group.name)))
    for row in rows(found):
        cells = (Text(printable(cell), style="bold" if at == row.best else "") for at, cell in enumerate(row.cells))
        table.add_row(Text(printable(row.name)), *cells)
    return table
