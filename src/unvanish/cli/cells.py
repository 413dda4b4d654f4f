"""`unvanish cells`: the catalogue."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Annotated, Any

import typer
from rich.table import Table

from unvanish.cells import CATALOGUE, find
from unvanish.cli import completion
from unvanish.cli.show import console, document, is_narrow, plain
from unvanish.cli.starting import at_once
from unvanish.equations import Cell, Drawn, Grouped
from unvanish.equations.backends import back_ends


def cells(
    name: Annotated[
        str | None,
        typer.Argument(help="Show one cell: equations, parameters, citation.", autocompletion=completion.cells),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON, for machines.")] = False,
) -> None:
    """List the cells, or show one.

    Example: unvanish cells peephole_lstm
    """
    if as_json:
        document([_described(cell) for cell in CATALOGUE.values()] if name is None else _described(find(name)))
    elif name is not None:
        _show(find(name))
    else:
        _list()


def _described(cell: Cell) -> dict[str, Any]:
    """All that a cell declares, and what follows from its equations."""
    system = cell.system()
    options = {option: _usual(cell, option) for option in cell.options}
    return {
        "name": cell.name,
        "note": cell.note,
        "cite": cell.cite,
        "equations": textwrap.dedent(cell.equations).strip("\n").splitlines(),
        "output": cell.output,
        "states": [state.name for state in system.states],
        "parameters": [dataclasses.asdict(parameter) for parameter in system.parameters],
        "options": {
            name: dataclasses.asdict(usual) if isinstance(usual, Drawn | Grouped) else usual
            for name, usual in options.items()
        },
        "initial": dict(cell.initial),
        "engines": list(back_ends(system)),
    }


def _usual(cell: Cell, option: str) -> Any:
    """The default of an option; None where it is a width, which is then the hidden size."""
    return {**cell.numbers, **cell.delays, **cell.functions}.get(option)


def _list() -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("cell", no_wrap=True, min_width=max(map(len, CATALOGUE)))
    beside = () if is_narrow() else ("states", "matrices", "engines")  # of one cell, `cells NAME` tells them
    for column in beside:
        table.add_column(column, no_wrap=True)
    table.add_column("what it is")
    for cell in CATALOGUE.values():
        system = cell.system()
        matrices = sum(1 for parameter in system.parameters if parameter.columns)
        states = ", ".join(state.name for state in system.states)
        told = (states, str(matrices), ", ".join(back_ends(system)))
        table.add_row(cell.name, *told[: len(beside)], cell.note)
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
        usual = _usual(cell, option)
        plain(f"    {option:<8} option, {'the hidden size' if usual is None else usual}")
    for pattern, value in cell.initial.items():
        plain(f"    {pattern:<8} begins at {value}")
    plain(f"\n    {make_plan(system).describe()}")
    plain(f"    {cell.cite}")
