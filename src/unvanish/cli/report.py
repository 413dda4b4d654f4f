"""`unvanish report`: write a run's report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unvanish.cli.show import plain


def report(run: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Write report.html of a run from its record."""
    from unvanish.report import write_report

    plain(str(write_report(run)))
