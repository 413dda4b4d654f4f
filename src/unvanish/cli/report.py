"""`unvanish report`: write a run's report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unvanish.cli.completion import runs
from unvanish.cli.show import plain


def report(run: Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=runs)]) -> None:
    """Write report.html of a run from its record.

    Example: unvanish report runs/plays
    """
    from unvanish.report import write_report

    plain(str(write_report(run)))
