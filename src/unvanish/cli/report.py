"""`unvanish report`: write a run's report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unvanish.cli.completion import runs
from unvanish.cli.show import note, plain


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=runs)],
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write report.html of a run from its record.

    Example: unvanish report runs/plays --open
    """
    from unvanish.report import write_report

    page = write_report(run)
    plain(str(page))
    if show and not _opened(page):
        note(f"no browser was found to open it: open {page} yourself, or name a browser in $BROWSER")


def _opened(page: Path) -> bool:
    import webbrowser

    try:
        return webbrowser.open(page.absolute().as_uri())
    except webbrowser.Error:
        return False
