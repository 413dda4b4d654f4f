"""Branches that name a line are opened: what the line says stands in the branch itself.

`a = log(v)` and `h[t] = where(v > 0, a, 0)` mean what `h[t] = where(v > 0, log(v), 0)` means, so that where a
branch is not taken the reference can keep its adjoint from all that the branch was made of.
"""

from __future__ import annotations

from collections.abc import Mapping

from unvanish.engine.arrays import Program, is_linear, program
from unvanish.equations.expression import Call, Expr, Ref, rebuild, walk
from unvanish.equations.system import Elementwise, System, map_refs
from unvanish.equations.words import GATES

MOST_NODES = 200  # in one branch: lines that read one another twice grow without bound


def programs(system: System) -> Mapping[str, Program]:
    """Return what computes every elementwise line, by its name, with its branches opened."""
    return {target.name: program(expr) for target, expr in opened(system).items()}


def opened(system: System) -> Mapping[Ref, Expr]:
    """Return the expression of every elementwise line, with its branches opened."""
    found: dict[Ref, Expr] = {}
    inside: dict[Ref, Expr] = {}  # what stands in a branch for a line that was met before
    for statement in system.statements:
        if isinstance(statement, Elementwise):
            found[statement.target] = _opened(statement.expression, inside)
            line = _inlined(statement.expression, inside)
            if not is_linear(line):
                inside[statement.target] = line
    return found


def _opened(expr: Expr, inside: Mapping[Ref, Expr]) -> Expr:
    inner = rebuild(expr, lambda child: _opened(child, inside))
    if not isinstance(inner, Call) or inner.function not in GATES:
        return inner
    first = 1 if inner.function == "where" else 0  # a condition sends nothing anyway
    branches = (_inlined(arg, inside) for arg in inner.args[first:])
    return Call(inner.function, (*inner.args[:first], *branches), inner.place)


def _inlined(expr: Expr, inside: Mapping[Ref, Expr]) -> Expr:
    found = map_refs(expr, lambda ref: inside.get(ref, ref))
    return found if sum(1 for _ in walk(found)) <= MOST_NODES else expr
