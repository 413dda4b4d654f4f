"""`unvanish cells`: the catalogue."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer
from rich.table import Table

from unvanish.cells import CATALOGUE, find
from unvanish.cli import completion
from unvanish.cli.show import console, plain
from unvanish.cli.starting import at_once
from unvanish.equations import Cell
from unvanish.equations.backends import back_ends


def cells(
    name: Annotated[
        str | None,
        typer.Argument(help="Show one cell: equations, parameters, citation.", autocompletion=completion.cells),
    ] = None,
) -> None:
    """List the cells, or show one.

    Example: unvanish cells peephole_lstm
    """
    if name is not None:
        _show(find(name))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("cell", no_wrap=True, min_width=max(map(len, CATALOGUE)))
    for column in ("states", "matrices", "engines"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it is", no_wrap=True)
    for cell in CATALOGUE.values():
        system = cell.system()
        matrices = sum(1 for parameter in system.parameters if parameter.columns)
        states = ", ".join(state.name for state in system.states)
        table.add_row(cell.name, states, str(matrices), ", ".join(back_ends(system)), cell.note)
    console.print(table)


def _show(cell: Cell) -> None:
    with at_once():
        from unvanish.engine import make_plan

    system = cell.system()
    plain(f"{cell.name}: {cell.note}\n")
    plain(textwrap.indent(textwrap.dedent(cell.equations).strip("\n"), "    ") + "\n")
    for parameter in system.parameters:
        columns = f" × {parameter.columns}" if parameter.columns else ""
        shape = "one number" if parameter.role == "scalar" else f"{parameter.rows}{columns}"
        plain(f"    {parameter.name:<8} {shape:<18} {parameter.role.replace('_', ' ')}")
    for option in cell.options:
        usual = {**cell.numbers, **cell.delays, **cell.functions}.get(option, "the hidden size")
        plain(f"    {option:<8} option, {usual}")
    for pattern, value in cell.initial.items():
        plain(f"    {pattern:<8} begins at {value}")
    plain(f"\n    {make_plan(system).describe()}")
    plain(f"    {cell.cite}")
