"""Expressions on torch tensors: what each word of the language means.

Shapes: T time, B batch, H any width. A value has its width last; parameters (H,) broadcast against (B, H).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.engine.words import TORCH
from unvanish.equations.expression import (
    LAYERNORM_EPSILON,
    Binary,
    Call,
    Compare,
    Expr,
    Negate,
    Number,
    Phase,
    Ref,
    refs,
)
from unvanish.equations.slopes import read, slopes
from unvanish.equations.words import GATES, WORDS

Value = Tensor | float
Lookup = Callable[[Ref], Tensor]


_OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def rowwise(function: str, operand_BH: Tensor) -> Tensor:
    """Apply a function that couples all units of a row."""
    if function == "softmax":
        return torch.softmax(operand_BH, -1)
    return F.layer_norm(operand_BH, operand_BH.shape[-1:], eps=LAYERNORM_EPSILON)


Program = Callable[[Lookup, Tensor | None, Tensor], Value]


def evaluate(expr: Expr, lookup: Lookup, time: Tensor | None, like: Tensor) -> Value:
    """Work out an elementwise expression; `like` gives dtype and device to plain numbers in functions."""
    return program(expr)(lookup, time, like)


@functools.lru_cache(maxsize=4096)
def program(expr: Expr, guarded: bool = True) -> Program:
    """Turn an expression into nested closures, so that its tree is not walked again at every step.

    Where it is not `guarded` it is for values alone: what a branch that is not taken sends back is nobody's care.
    """
    match expr:
        case Number(value):
            return lambda lookup, time, like: value
        case Ref():
            return lambda lookup, time, like: lookup(expr)
        case Negate(operand):
            inner = program(operand, guarded)
            return lambda lookup, time, like: -inner(lookup, time, like)
        case Binary(op, left, right) | Compare(op, left, right):
            return _binary(_OPERATORS[op], program(left, guarded), program(right, guarded))
        case Call("where", (condition, yes, no)):
            return _where(program(condition, guarded), _branch(yes, guarded), _branch(no, guarded))
        case Call(function, args) if guarded and function in GATES and not all(map(is_linear, args)):
            return _gate(function, tuple(map(program, args)), tuple(map(_branch, args)))
        case Call(function, args):
            called = _surrogate(function) if guarded and WORDS[function].surrogate else TORCH[function]
            return _call(called, tuple(program(arg, guarded) for arg in args))
        case Phase(period):
            return _phase(program(period, guarded))
    raise AssertionError(expr)  # pragma: no cover  (the parser makes nothing else)


def _binary(operation: Callable[[Value, Value], Value], left: Program, right: Program) -> Program:
    return lambda lookup, time, like: operation(left(lookup, time, like), right(lookup, time, like))


def _call(function: Callable[..., Tensor], args: tuple[Program, ...]) -> Program:
    return lambda lookup, time, like: function(*[as_tensor(arg(lookup, time, like), like) for arg in args])


def is_linear(expr: Expr) -> bool:
    """Whether an expression only adds what it reads, so that a zero adjoint stays zero on its way back."""
    match expr:
        case Number() | Ref():
            return True
        case Binary("+" | "-", left, right):
            return is_linear(left) and is_linear(right)
        case Binary("*", Number(), inner) | Binary("*" | "/", inner, Number()) | Negate(inner):
            return is_linear(inner)
    return False


Branch = Callable[[Lookup, Tensor | None, Tensor, Tensor], Value]


def _branch(expr: Expr, guarded: bool = True) -> Branch:
    """An expression that is taken where a mask says so: elsewhere it sends nothing to what it reads, not even NaN.

    Torch sends zero there, times the slope of what was not taken: 0 · inf.
    """
    inner, linear = program(expr, guarded), is_linear(expr) or not guarded

    def run(lookup: Lookup, time: Tensor | None, like: Tensor, taken: Tensor) -> Value:
        def masked(ref: Ref) -> Tensor:
            found = lookup(ref)
            return torch.where(taken, found, found.detach())

        return inner(lookup if linear else masked, time, like)

    return run


def _where(condition: Program, yes: Branch, no: Branch) -> Program:
    def run(lookup: Lookup, time: Tensor | None, like: Tensor) -> Value:
        chosen = as_tensor(condition(lookup, time, like), like).bool()
        return torch.where(
            chosen,
            as_tensor(yes(lookup, time, like, chosen), like),
            as_tensor(no(lookup, time, like, ~chosen), like),
        )

    return run


def _gate(function: str, args: tuple[Program, ...], branches: tuple[Branch, ...]) -> Program:
    """A function that lets an adjoint through or blanks it: where it blanks it, the branch sends nothing at all."""
    slopes_of = [read(gate) for gate in WORDS[function].gates]
    gates, reads_value = list(map(program, slopes_of)), any(ref.name == "y" for s in slopes_of for ref in refs(s))

    def run(lookup: Lookup, time: Tensor | None, like: Tensor) -> Value:
        values = [as_tensor(arg(lookup, time, like), like) for arg in args]
        known = dict(zip("ab", values, strict=False))
        if reads_value:
            known["y"] = TORCH[function](*values)
        sent = [as_tensor(gate(lambda ref: known[ref.name], None, like), like) for gate in gates]
        taken = [branch(lookup, time, like, share != 0) for branch, share in zip(branches, sent, strict=True)]
        return TORCH[function](*(as_tensor(value, like) for value in taken))

    return run


def _phase(period: Program) -> Program:
    def run(lookup: Lookup, time: Tensor | None, like: Tensor) -> Value:
        if time is None:
            raise AssertionError("a plan that reads t runs with a time index")  # pragma: no cover
        kind = torch.promote_types(like.dtype, torch.float32)  # a half cannot count past 2048
        return torch.remainder(time.to(kind), as_tensor(period(lookup, time, like), like).to(kind))

    return run


def as_tensor(value: Value, like: Tensor) -> Tensor:
    """Return a plain number as a tensor of the type of `like`, a tensor as it is."""
    return value if isinstance(value, Tensor) else like.new_full((), value)  # an operator: a graph can hold it


def _surrogate(function: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A step by sign, with the slope of its row in place of its own, which is zero."""
    step, slope = TORCH[function], program(slopes(function)[0])

    def run(a: Tensor, b: Tensor) -> Tensor:
        known = {"a": a.detach(), "b": b.detach()}
        steepness = as_tensor(slope(lambda ref: known[ref.name], None, a), a)
        zero = torch.where(torch.isfinite(a), a - a.detach(), 0.0)  # with the gradient of a
        return step(a, b) + steepness * zero

    return run
