"""Derivatives that are known already, so that a cell of the catalogue does not wait for SymPy.

They are kept by the shape of an expression: its names become s0, s1, … in their order, as all gates of all cells
add up the same things. `derived.json` holds what SymPy found for the catalogue; `make golden` writes it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from unvanish.equations.expression import Binary, Call, Compare, Expr, Negate, Number, Phase, Ref, refs

FILE = "derived.json"


def gradient(expression: Expr) -> dict[Ref, Expr]:
    """Return the derivative of an expression by each name that it reads, where it is not nothing.

    >>> from unvanish.equations.parse import parse
    >>> gradient(parse("h[t] = a * b")[0].expression)[Ref("a")]
    Ref(name='b', delay=None)
    """
    names = _names(expression)
    known = _known().get(_key(expression, names))
    if known is None:
        from unvanish.equations import symbolic  # which imports SymPy

        return symbolic.gradient(expression)
    back = {f"s{at}": ref for at, ref in enumerate(names)}
    return {back[name]: _read(factor, back) for name, factor in known.items()}


def written(expressions: Iterable[Expr]) -> str:
    """Write the file: what SymPy finds for each shape among expressions."""
    from unvanish.equations import symbolic

    found: dict[str, dict[str, Any]] = {}
    for expression in expressions:
        names = _names(expression)
        key = _key(expression, names)
        if key not in found:
            by_name = symbolic.gradient(expression)
            found[key] = {f"s{names[ref]}": _plain(factor, names) for ref, factor in by_name.items()}
    lines = [f"{json.dumps(key)}: {json.dumps(by_name)}" for key, by_name in sorted(found.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    text = resources.files("unvanish.equations").joinpath(FILE).read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def _names(expression: Expr) -> dict[Ref, int]:
    return {ref: at for at, ref in enumerate(dict.fromkeys(refs(expression)))}


def _key(expression: Expr, names: dict[Ref, int]) -> str:
    return json.dumps(_plain(expression, names), separators=(",", ":"))


def _plain(expr: Expr, names: dict[Ref, int]) -> Any:
    """An expression as numbers, names and lists that begin with what is done."""
    match expr:
        case Number(value):
            return value
        case Ref():
            return f"s{names[expr]}"
        case Negate(operand):
            return ["neg", _plain(operand, names)]
        case Binary(op, left, right):
            return [op, _plain(left, names), _plain(right, names)]
        case Compare(op, left, right):
            return ["is", op, _plain(left, names), _plain(right, names)]
        case Call(function, args):
            return ["call", function, *(_plain(arg, names) for arg in args)]
        case Phase(period):
            return ["phase", _plain(period, names)]


def _read(plain: Any, back: dict[str, Ref]) -> Expr:
    match plain:
        case str():
            return back[plain]
        case ["neg", operand]:
            return Negate(_read(operand, back))
        case ["is", op, left, right]:
            return Compare(op, _read(left, back), _read(right, back))
        case ["call", function, *args]:
            return Call(function, tuple(_read(arg, back) for arg in args))
        case ["phase", period]:
            return Phase(_read(period, back))
        case [op, left, right]:
            return Binary(op, _read(left, back), _read(right, back))
    return Number(float(plain))
