"""One class per cell of the catalogue, made by discovery: a new cell file needs no other edit."""

from __future__ import annotations

import inspect
import warnings
from inspect import Parameter, Signature
from typing import Any

from unvanish.cells import CATALOGUE
from unvanish.equations import Cell
from unvanish.equations.cell import FixedNumber
from unvanish.nn.recurrent import Recurrent

# torch.nn.RNN takes the name of its function in fourth place; its other layers have the order of `Recurrent`.
POSITIONAL = {"rnn": {"nonlinearity": 3}}


def class_name(cell: Cell) -> str:
    """Return the name of a cell's layer class.

    >>> class_name(CATALOGUE["peephole_lstm"])
    'PeepholeLSTM'
    """
    return cell.class_name or "".join(word.capitalize() for word in cell.name.split("_"))


def signature(cell: Cell) -> Signature:
    """Return what the class of a cell takes: what `Recurrent` takes without the cell, and the cell's own keywords.

    >>> list(signature(CATALOGUE["rnn"]).parameters)[:5]
    ['self', 'input_size', 'hidden_size', 'num_layers', 'nonlinearity']
    """
    common = list(inspect.signature(Recurrent.__init__, eval_str=True).parameters.values())
    kept = [parameter for parameter in common if parameter.name not in ("cell", "options")]
    for own in _own(cell):
        place = POSITIONAL.get(cell.name, {}).get(own.name)
        if place is None:
            kept.append(own)
        else:
            kept.insert(place + 1, own.replace(kind=Parameter.POSITIONAL_OR_KEYWORD))
    return Signature(kept, return_annotation=None)


def _own(cell: Cell) -> list[Parameter]:
    """The keywords that a cell declares."""
    kinds: list[tuple[Any, Any]] = [(cell.numbers, FixedNumber), (cell.delays, int), (cell.functions, str)]
    found = {name: (kind, usual) for group, kind in kinds for name, usual in group.items()}
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=usual, annotation=kind)
        for name in cell.options
        for kind, usual in [found.get(name, (int | None, None))]
    ]


def _make(cell: Cell) -> type[Recurrent]:
    takes = signature(cell)

    def __init__(self: Recurrent, *args: Any, **keywords: Any) -> None:
        known = {name: value for name, value in keywords.items() if name in takes.parameters}
        given = takes.bind(self, *args, **known).arguments
        del given["self"]
        Recurrent.__init__(self, cell, **given, **{n: v for n, v in keywords.items() if n not in known})

    __init__.__signature__ = takes  # type: ignore[attr-defined]
    options = f" Keywords of its own: {', '.join(cell.options)}." if cell.options else ""
    document = (
        f"{cell.note}{options}\n\n    {cell.equations.strip()}\n\n    Takes the arguments of `Recurrent` without "
        f"its first.\n\n    Source: {cell.cite}"
    )
    body = {"__init__": __init__, "__doc__": document, "__module__": __name__}
    return type(class_name(cell), (Recurrent,), body)


CLASSES: dict[str, type[Recurrent]] = {class_name(cell): _make(cell) for cell in CATALOGUE.values()}
globals().update(CLASSES)  # so that pickle and copy find them by module and name
OLD_NAMES = {"GRUResetAfter": "GRU"}


def __getattr__(name: str) -> type[Recurrent]:
    """Return a class by the name that it had before; a deprecated one says so."""
    return class_named(name)


def class_named(name: str) -> type[Recurrent]:
    """Return the class of a name that is deprecated, and say what it is now."""
    if name not in OLD_NAMES:
        raise AttributeError(f"unvanish has no layer '{name}'")
    warnings.warn(f"unvanish.{name} is unvanish.{OLD_NAMES[name]} now: rename it", FutureWarning, stacklevel=3)
    return CLASSES[OLD_NAMES[name]]
