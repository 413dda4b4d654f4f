"""One class per cell of the catalogue, made by discovery: a new cell file needs no other edit."""

from __future__ import annotations

from typing import Any

from unvanish.cells import CATALOGUE
from unvanish.equations import Cell
from unvanish.nn.recurrent import Recurrent


def class_name(cell: Cell) -> str:
    """Return the name of a cell's layer class.

    >>> class_name(CATALOGUE["peephole_lstm"])
    'PeepholeLSTM'
    """
    return cell.class_name or "".join(word.capitalize() for word in cell.name.split("_"))


def _make(cell: Cell) -> type[Recurrent]:
    def __init__(self: Recurrent, *args: Any, **keywords: Any) -> None:
        Recurrent.__init__(self, cell, *args, **keywords)

    options = f" Keywords of its own: {', '.join(cell.options)}." if cell.options else ""
    document = (
        f"{cell.note}{options}\n\n    {cell.equations.strip()}\n\n    Takes the arguments of `Recurrent` without "
        f"its first.\n\n    Source: {cell.cite}"
    )
    body = {"__init__": __init__, "__doc__": document, "__module__": __name__}
    return type(class_name(cell), (Recurrent,), body)


CLASSES: dict[str, type[Recurrent]] = {class_name(cell): _make(cell) for cell in CATALOGUE.values()}
globals().update(CLASSES)  # so that pickle and copy find them by module and name
