"""Changes to the lines of a cell that a layer's arguments ask for: no biases, a projection."""

from __future__ import annotations

import itertools
import re
from typing import Literal

from unvanish.equations.expression import Binary, Expr, Number, Ref, rebuild, refs
from unvanish.equations.parse import Line

PROJECTION = "projection"
_BIAS = re.compile(r"b(_|\d|\Z)")
_HIDDEN_BIAS = re.compile(r"bh(_|\d|\Z)")


def vector_role(name: str) -> Literal["bias", "hidden_bias", "vector"]:
    """Tell biases (`b`, `b_…`), biases on the state's side (`bh_…`) and other vectors by their names."""
    if _HIDDEN_BIAS.match(name):
        return "hidden_bias"
    return "bias" if _BIAS.match(name) else "vector"


def without_biases(lines: tuple[Line, ...], declared: frozenset[str]) -> tuple[Line, ...]:
    """Take every bias vector out of the lines; what is `declared` is not a vector."""
    others = {line.name for line in lines} | declared

    def is_bias(expr: Expr) -> bool:
        return (
            isinstance(expr, Ref)
            and expr.delay is None
            and expr.name not in others
            and vector_role(expr.name) != "vector"
        )

    def strip(expr: Expr) -> Expr:
        match expr:
            case Binary("@", left, right, place):
                inner = strip(right)
                return inner if inner == Number(0.0) else Binary("@", left, inner, place)
            case Binary("+", left, right) if is_bias(right):
                return strip(left)
            case Binary("+", left, right) if is_bias(left):
                return strip(right)
            case Binary("-", left, right) if is_bias(right):
                return strip(left)
            case _ if is_bias(expr):
                return Number(0.0)
        return rebuild(expr, strip)

    return tuple(Line(line.name, line.timed, strip(line.expression), line.place) for line in lines)


def with_projection(lines: tuple[Line, ...], output: str) -> tuple[tuple[Line, ...], str]:
    """Let every recurrent product read a projection of the output; return the lines and the new output's name.

    Products taken directly of a past output read the projection instead (LSTM with a projection, Sak et
    al. 2014); what reads a past output unit by unit keeps the output itself.
    """
    taken = {line.name for line in lines} | {ref.name for line in lines for ref in refs(line.expression)}
    name, matrix = _free(f"{output}_projected", taken), _free("W_hr", taken)

    def redirect(expr: Expr) -> Expr:
        match expr:
            case Binary("@", left, Ref(read, delay, at), place) if read == output and delay != 0:
                return Binary("@", left, Ref(name, delay, at), place)
        return rebuild(expr, redirect)

    changed = [Line(line.name, line.timed, redirect(line.expression), line.place) for line in lines]
    product = Binary("@", Ref(matrix), Ref(output, 0))
    return (*changed, Line(name, True, product, (0, 0))), name


def _free(name: str, taken: set[str]) -> str:
    """Return a name that nothing else has."""
    numbered = (f"{name}_{k}" for k in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)
