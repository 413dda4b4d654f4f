"""How wide is each name? Solved by unification over {input, hidden, declared widths}.

What `M @ v` needs: M has as many columns as v is wide, as many rows as the product is wide. What an
elementwise expression needs: all its parts are equally wide. What stays open is hidden-wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unvanish.equations.expression import (
    Binary,
    Call,
    Compare,
    Expr,
    Negate,
    Number,
    Phase,
    Place,
    Ref,
    children,
    refs,
)
from unvanish.equations.parse import Line
from unvanish.errors import CellError

INPUT, HIDDEN = "input", "hidden"


@dataclass(frozen=True, slots=True)
class Widths:
    """The solution: `vectors` maps a name to its width, `matrices` to (rows, columns)."""

    vectors: Mapping[str, str]
    matrices: Mapping[str, tuple[str, str]]


def solve(
    lines: tuple[Line, ...],
    *,
    output: str,
    declared: Mapping[str, str],
    scalars: frozenset[str],
    per_unit: frozenset[str],
) -> Widths:
    """Find the width of every name.

    `scalars` fit anywhere. `per_unit` are fixed numbers that are vectors of the hidden width.
    Raises `CellError` with both places where two uses contradict each other.
    """
    solver = _Solver(scalars)
    solver.fix(solver.vector("x"), INPUT, "x is input-wide", (0, 0))
    if output not in declared:
        solver.fix(solver.vector(output), HIDDEN, f"the output {output} is hidden-wide", (0, 0))
    for name in sorted(per_unit):
        solver.fix(solver.vector(name), HIDDEN, f"{name} holds one number a unit", (0, 0))
    for name, width in declared.items():
        solver.fix(solver.vector(name), width, f"{name} is declared {width}-wide", (0, 0))
    for line in lines:
        found = solver.visit(line.expression)
        if found is not None:
            solver.unify(solver.vector(line.name), found, line.name, line.place)
    return solver.solution()


class _Solver:
    """Union-find over width variables; each root may carry a width and where that was fixed."""

    def __init__(self, scalars: frozenset[str]) -> None:
        self.scalars = scalars
        self.parent: list[int] = []
        self.fixed: dict[int, tuple[str, str, Place]] = {}
        self.vectors: dict[str, int] = {}
        self.matrices: dict[str, tuple[int, int]] = {}

    def new(self) -> int:
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def vector(self, name: str) -> int:
        if name not in self.vectors:
            self.vectors[name] = self.new()
        return self.vectors[name]

    def root(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def fix(self, node: int, width: str, reason: str, place: Place) -> None:
        other = self.new()
        self.fixed[other] = (width, reason, place)
        self.unify(node, other, reason, place)

    def unify(self, a: int, b: int, what: str, place: Place) -> None:
        a, b = self.root(a), self.root(b)
        if a == b:
            return
        if a in self.fixed and b in self.fixed and self.fixed[a][0] != self.fixed[b][0]:
            raise _contradiction(self.fixed[a], self.fixed[b], what, place)
        self.parent[b] = a
        if b in self.fixed and a not in self.fixed:
            self.fixed[a] = self.fixed[b]
        self.fixed.pop(b, None)

    def visit(self, expr: Expr) -> int | None:
        """Return the width variable of an expression, None where it fits anywhere."""
        match expr:
            case Number() | Phase(Number()):
                return None
            case Ref(name):
                return self.visit_ref(expr) if name not in self.scalars else None
            case Binary("@", Ref(name), operand, place):
                return self.visit_product(name, operand, place)
            case Binary() | Call() | Compare() | Negate() | Phase():
                return self.visit_elementwise(expr)
        raise AssertionError(expr)  # pragma: no cover  (the parser makes nothing else)

    def visit_ref(self, ref: Ref) -> int:
        node = self.vector(ref.name)
        root = self.root(node)
        if root in self.fixed and self.fixed[root][2] == (0, 0):
            width, reason, _ = self.fixed[root]
            self.fixed[root] = (width, reason, ref.place)  # where it is first used tells more than nothing
        return node

    def visit_product(self, matrix: str, operand: Expr, place: Place) -> int:
        rows, columns = self.matrices.setdefault(matrix, (self.new(), self.new()))
        found = self.visit(operand)
        if found is not None:
            self.unify(columns, found, f"{matrix} @ …", place)
        return rows

    def visit_elementwise(self, expr: Expr) -> int | None:
        place = expr.place if isinstance(expr, Binary | Call) else next((r.place for r in refs(expr)), (0, 0))
        common: int | None = None
        for child in children(expr):
            found = self.visit(child)
            if found is None:
                continue
            if common is not None:
                self.unify(common, found, "an elementwise expression", place)
            common = found
        return common

    def width(self, node: int) -> str:
        return self.fixed.get(self.root(node), (HIDDEN, "", (0, 0)))[0]

    def solution(self) -> Widths:
        vectors = {name: self.width(node) for name, node in self.vectors.items()}
        matrices = {name: (self.width(r), self.width(c)) for name, (r, c) in self.matrices.items()}
        return Widths(vectors, matrices)


def _contradiction(
    first: tuple[str, str, Place], second: tuple[str, str, Place], what: str, place: Place
) -> CellError:
    def told(fixed: tuple[str, str, Place]) -> str:
        where = f" (line {fixed[2][0]}, column {fixed[2][1]})" if fixed[2] != (0, 0) else ""
        return f"{fixed[1]}{where}"

    # What is declared, or the output, stays; the input is what a matrix brings to another width.
    moved, kept = (first[0], second[0]) if first[0] == INPUT else (second[0], first[0])
    line, column = place if place != (0, 0) else (None, None)
    return CellError(
        f"widths contradict each other in {what}: {told(first)}, but {told(second)}",
        f"bring the {moved}-wide part to {kept} width with a matrix of its own: M @ …",
        line=line,
        column=column,
    )
