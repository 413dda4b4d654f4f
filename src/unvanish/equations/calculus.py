"""Derivatives, line by line: never of the whole cell at once, whose expression would grow without bound.

`linearise` says of each statement how its target moves with each thing that it reads. Walked forwards the
terms give the forward derivative; walked backwards they give the reverse one:

    forward   tangent[target]  += factor · tangent[operand]
    reverse   adjoint[operand] += factorᵀ · adjoint[target]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from unvanish.equations.derived import gradient
from unvanish.equations.expression import Expr, Ref
from unvanish.equations.system import Elementwise, Product, Rowwise, Statement, System


@dataclass(frozen=True, slots=True)
class Scale:
    """∂target/∂operand = diag(factor)."""

    target: Ref
    operand: Ref
    factor: Expr


@dataclass(frozen=True, slots=True)
class Matrix:
    """∂target/∂operand = matrix; and the adjoint of the matrix is (adjoint of target) ⊗ operand."""

    target: Ref
    operand: Ref
    matrix: str


@dataclass(frozen=True, slots=True)
class Row:
    """∂target/∂operand of a row-wise function, which couples all units of a row."""

    target: Ref
    operand: Ref
    function: str


Term = Scale | Matrix | Row


def linearise(system: System) -> tuple[Term, ...]:
    """Return every partial derivative of every statement, in the order of the statements."""
    return tuple(term for statement in system.statements for term in partials(statement))


@functools.lru_cache(maxsize=4096)
def partials(statement: Statement) -> tuple[Term, ...]:
    """Return how the target of one statement moves with each thing that it reads.

    >>> from unvanish.equations.parse import parse
    >>> line = parse("h[t] = tanh(a)")[0]
    >>> partials(Elementwise(Ref("h", 0), line.expression, "hidden"))[0].factor == \\
    ...     parse("h[t] = 1 - tanh(a) ** 2")[0].expression
    True
    """
    match statement:
        case Product(target, matrix, operand):
            return (Matrix(target, operand, matrix),)
        case Rowwise(target, function, operand):
            return (Row(target, operand, function),)
        case Elementwise(target, expression):
            return tuple(Scale(target, ref, factor) for ref, factor in gradient(expression).items())
