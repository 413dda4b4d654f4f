"""The words of an equation: a small immutable tree, and the functions it may call.

A tree keeps the order in which the paper wrote its terms; SymPy, which would reorder them, is only asked
for derivatives (`calculus`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Place = tuple[int, int]  # line and column, both from 1
NOWHERE: Place = (0, 0)

LAYERNORM_EPSILON = 1e-5  # inside the root, as torch.nn.LayerNorm has it


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: float


@dataclass(frozen=True, slots=True)
class Ref:
    """A name, and how many steps back it is read.

    `delay` is None for what has no time (a parameter, a fixed number, a line without `[t]`), 0 for
    `name[t]`, a positive number for `name[t-2]`, the declared name for `name[t-d]`.
    """

    name: str
    delay: int | str | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def is_past(self) -> bool:
        """Whether it reads an earlier step."""
        return self.delay is not None and self.delay != 0

    def __str__(self) -> str:
        if self.delay is None:
            return self.name
        return f"{self.name}[t]" if self.delay == 0 else f"{self.name}[t-{self.delay}]"


@dataclass(frozen=True, slots=True)
class Negate:
    """-operand."""

    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """left op right, with op one of + - * / ** @."""

    op: str
    left: Expr
    right: Expr
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """function(arguments)."""

    function: str
    args: tuple[Expr, ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """left op right as a condition, with op one of == != < <= > >=."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Phase:
    """t % period, t counted from 0 at the first step of a sequence."""

    period: Expr


Expr = Number | Ref | Negate | Binary | Call | Compare | Phase


def children(expr: Expr) -> tuple[Expr, ...]:
    """Return what stands directly under a node."""
    match expr:
        case Negate(operand):
            return (operand,)
        case Binary(_, left, right) | Compare(_, left, right):
            return (left, right)
        case Call(_, args):
            return args
        case Phase(period):
            return (period,)
        case _:
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield a node and all under it, from left to right."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def refs(expr: Expr) -> Iterator[Ref]:
    """Yield each name that an expression reads, as often as it stands there."""
    return (node for node in walk(expr) if isinstance(node, Ref))


def rebuild(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """Return a copy with `change` applied to every direct child."""
    match expr:
        case Negate(operand):
            return Negate(change(operand))
        case Binary(op, left, right, place):
            return Binary(op, change(left), change(right), place)
        case Compare(op, left, right):
            return Compare(op, change(left), change(right))
        case Call(function, args, place):
            return Call(function, tuple(change(arg) for arg in args), place)
        case Phase(period):
            return Phase(change(period))
        case _:
            return expr
