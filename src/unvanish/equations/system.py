"""Lines -> a checked system: one statement after the other, each of one kind.

Every matrix product and every row-wise function gets a statement of its own, so that whoever reads a system
(the engine, the derivatives) meets three kinds of statement and, inside them, only elementwise expressions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from unvanish.equations.check import Checker, Declarations, error_at
from unvanish.equations.expression import (
    Binary,
    Call,
    Expr,
    Negate,
    Number,
    Phase,
    Ref,
    rebuild,
    refs,
    walk,
)
from unvanish.equations.parse import Line
from unvanish.equations.rewrites.parameters import vector_role
from unvanish.equations.widths import INPUT, Widths, solve
from unvanish.equations.words import ROWWISE

Role = Literal["input", "recurrent", "bias", "hidden_bias", "vector", "scalar"]


@dataclass(frozen=True, slots=True)
class Elementwise:
    """target = expression, unit by unit."""

    target: Ref
    expression: Expr
    width: str


@dataclass(frozen=True, slots=True)
class Product:
    """target = matrix @ operand."""

    target: Ref
    matrix: str
    operand: Ref
    width: str


@dataclass(frozen=True, slots=True)
class Rowwise:
    """target = function(operand), over all units of a row at once."""

    target: Ref
    function: str
    operand: Ref
    width: str


Statement = Elementwise | Product | Rowwise


def reads(statement: Statement) -> tuple[Ref, ...]:
    """Return what a statement reads: variables, states and elementwise parameters (not its matrix)."""
    if isinstance(statement, Elementwise):
        return tuple(dict.fromkeys(refs(statement.expression)))
    return (statement.operand,)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trained array: its name, its part in the equations, its width (rows) and, for a matrix, its columns."""

    name: str
    role: Role
    rows: str
    columns: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What is carried: its width, and how many steps back it is read."""

    name: str
    width: str
    depth: int


@dataclass(frozen=True, slots=True)
class Mask:
    """An array that is drawn for a pass and multiplied in: one value a unit, for each row or for each step."""

    name: str
    width: str
    of: Literal["row", "step"]


@dataclass(frozen=True)
class System:
    """A checked cell. `states` begins with the output where that is a state, as torch returns (h, c)."""

    statements: tuple[Statement, ...]
    states: tuple[State, ...]
    parameters: tuple[Parameter, ...]
    numbers: tuple[str, ...]
    output: Ref
    output_width: str
    uses_time: bool
    masks: tuple[Mask, ...] = ()

    def __hash__(self) -> int:
        """Worked out once: it takes 30 µs, and each pass of a layer asks for it a few times."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, one.name) for one in dataclasses.fields(self)))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the hash behind: that of a text is another in every process."""
        return {name: value for name, value in vars(self).items() if name != "_hash"}

    @property
    def widths(self) -> frozenset[str]:
        """All widths that occur."""
        found = {statement.width for statement in self.statements} | {state.width for state in self.states}
        for parameter in self.parameters:
            found |= {parameter.rows} | ({parameter.columns} if parameter.columns else set())
        return frozenset(found)


def build(lines: tuple[Line, ...], declared: Declarations) -> System:
    """Check the lines and put them into statements. Raises `CellError`."""
    lines = tuple(_resolve_delays(line, declared) for line in lines)
    Checker(lines, declared).check()
    fits_anywhere = declared.scalars | (declared.numbers - declared.per_unit)
    widths = solve(
        lines,
        output=declared.output,
        declared=declared.widths,
        scalars=fits_anywhere,
        per_unit=declared.per_unit,
    )
    flattener = _Flattener(widths)
    for line in lines:
        flattener.line(line)
    return System(
        statements=tuple(flattener.statements),
        states=_states(lines, declared.output, widths),
        parameters=_parameters(lines, declared, widths),
        numbers=tuple(name for name in _names_in_order(lines) if name in declared.numbers),
        output=Ref(declared.output, 0),
        output_width=widths.vectors[declared.output],
        uses_time=any(isinstance(node, Phase) for line in lines for node in walk(line.expression)),
    )


def map_refs(expr: Expr, change: Callable[[Ref], Expr]) -> Expr:
    """Return a copy with `change` applied to every name."""
    if isinstance(expr, Ref):
        return change(expr)
    return rebuild(expr, lambda child: map_refs(child, change))


def _resolve_delays(line: Line, declared: Declarations) -> Line:
    def resolve(ref: Ref) -> Ref:
        if not isinstance(ref.delay, str):
            return ref
        if ref.delay not in declared.delays:
            raise error_at(f"the delay '{ref.delay}' is not declared", f"delays={{'{ref.delay}': 2}}", ref.place)
        return Ref(ref.name, declared.delays[ref.delay], ref.place)

    return Line(line.name, line.timed, map_refs(line.expression, resolve), line.place)


def fold(expr: Expr) -> Expr:
    """Work out arithmetic on plain numbers, refusing what has no finite value."""
    expr = rebuild(expr, fold)
    match expr:
        case Negate(Number(value)):
            return Number(-value)
        case Binary("/", _, Number(0.0), place):
            raise error_at("division by zero", "divide by something that is not always 0", place)
        case Binary(op, Number(left), Number(right), place):
            try:
                value = _ARITHMETIC[op](left, right)
            except (OverflowError, ZeroDivisionError, KeyError):
                value = math.inf
            if not math.isfinite(value):
                raise error_at(f"{left:g} {op} {right:g} has no finite value", "write a number that has", place)
            return Number(value)
    return expr


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


class _Flattener:
    """Takes products and row-wise functions out of the expressions."""

    def __init__(self, widths: Widths) -> None:
        self.widths = widths
        self.statements: list[Statement] = []
        self.done: dict[tuple[str, Ref], Ref] = {}
        self.taken: set[str] = set()

    def line(self, line: Line) -> None:
        target = Ref(line.name, 0 if line.timed else None)
        expression = fold(self.flat(line.expression))
        self.statements.append(Elementwise(target, expression, self.widths.vectors[line.name]))

    def flat(self, expr: Expr) -> Expr:
        match expr:
            case Binary("@", Ref(matrix), operand):
                return self.apart(matrix, operand, self.widths.matrices[matrix][0])
            case Call(function, (operand,)) if function in ROWWISE:
                return self.apart(function, operand, None)
            case _:
                return rebuild(expr, self.flat)

    def apart(self, head: str, operand: Expr, width: str | None) -> Ref:
        flat = fold(self.flat(operand))
        source = flat if isinstance(flat, Ref) else self.name_operand(head, flat)
        if (head, source) not in self.done:
            target = Ref(self.fresh(f"_{head}"))
            if width is None:
                statement: Statement = Rowwise(target, head, source, self.width(source))
            else:
                statement = Product(target, head, source, width)
            self.statements.append(statement)
            self.done[head, source] = target
        return self.done[head, source]

    def name_operand(self, head: str, flat: Expr) -> Ref:
        target = Ref(self.fresh(f"_{head}_operand"))
        width = next((self.width(ref) for ref in refs(flat) if self.width(ref)), "")
        self.statements.append(Elementwise(target, flat, width))
        return target

    def width(self, ref: Ref) -> str:
        made = (s.width for s in self.statements if s.target.name == ref.name)
        return self.widths.vectors.get(ref.name) or next(made, "")

    def fresh(self, stem: str) -> str:
        name, count = stem, 2
        while name in self.taken:
            name, count = f"{stem}_{count}", count + 1
        self.taken.add(name)
        return name


def _states(lines: tuple[Line, ...], output: str, widths: Widths) -> tuple[State, ...]:
    depth: dict[str, int] = {}
    for line in lines:
        for ref in refs(line.expression):
            if isinstance(ref.delay, int) and ref.delay > 0:
                depth[ref.name] = max(depth.get(ref.name, 0), ref.delay)
    names = [line.name for line in lines if line.name in depth]
    names.sort(key=lambda name: name != output)
    return tuple(State(name, widths.vectors[name], depth[name]) for name in names)


def _names_in_order(lines: tuple[Line, ...]) -> list[str]:
    return list(dict.fromkeys(ref.name for line in lines for ref in refs(line.expression)))


def _parameters(lines: tuple[Line, ...], declared: Declarations, widths: Widths) -> tuple[Parameter, ...]:
    defined = {line.name for line in lines} | declared.numbers | {"x"}
    found: dict[str, Parameter] = {}
    for name in _names_in_order(lines):
        if name in widths.matrices:
            rows, columns = widths.matrices[name]
            if name in widths.vectors:
                place = next(ref.place for line in lines for ref in refs(line.expression) if ref.name == name)
                raise error_at(f"'{name}' is used as a matrix and as a vector", "take two names", place)
            found[name] = Parameter(name, "input" if columns == INPUT else "recurrent", rows, columns)
        elif name in declared.scalars:
            found[name] = Parameter(name, "scalar", "one")
        elif name not in defined:
            found[name] = Parameter(name, vector_role(name), widths.vectors[name])
    return tuple(found.values())
