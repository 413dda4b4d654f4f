"""`unvanish cite`: what a paper that used a cell, or this package, takes into its list of sources."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from unvanish.cells import CATALOGUE, find
from unvanish.cli import completion
from unvanish.cli.show import plain
from unvanish.cli.starting import at_once
from unvanish.errors import OptionError
from unvanish.record.run import CONFIG, RunRecord

YEAR = 2026  # in which this version came out, as CITATION.cff says
OWN = """@software{unvanish,
  author = {{The unvanish developers}},
  year = {%d},
  title = {{unvanish: recurrent networks that remember}},
  version = {%s},
}"""


def cite(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Cells, or folders of runs. Default: unvanish.", autocompletion=completion.cells),
    ] = None,
) -> None:
    """Print the papers of cells, or unvanish itself, as BibTeX.

    Example: unvanish cite lstm runs/plays > cells.bib
    """
    if not names:
        plain(OWN % (YEAR, version("unvanish")))
        return
    with at_once():
        from unvanish.report.run.citing import bibtex
    entries: dict[str, str] = {}
    for name, source in map(_source, names):
        entry = bibtex(source, name)
        entries.setdefault(entry.partition("howpublished")[0], entry)  # two variants of one paper differ only there
    plain("\n\n".join(entries.values()))


def _source(name: str) -> tuple[str, str]:
    """The name of a cell, and the paper that it is from."""
    if name not in CATALOGUE and (Path(name) / CONFIG).exists():
        cell = RunRecord(Path(name)).read_config().cell
        found, source = cell.name, cell.cite
    else:
        found, source = name, find(name).cite
    if not source:
        raise OptionError(
            f"{found} says no source: give it one, Cell(…, cite='Author, A. (2024). Title. Journal 1.')"
        )
    return found, source
