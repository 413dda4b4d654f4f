"""Expressions on torch tensors: what each word of the language means.

Shapes: T time, B batch, H any width. A value has its width last; parameters (H,) broadcast against (B, H).
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

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
)

Value = Tensor | float
Lookup = Callable[[Ref], Tensor]


def _half_step(a: Tensor) -> Tensor:
    return (a > 0).to(a.dtype) + 0.5 * (a == 0).to(a.dtype)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda a: a,
    "exp": torch.exp,
    "log": torch.log,
    "softplus": F.softplus,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "sign": torch.sign,
    "positive": lambda a: (a > 0).to(a.dtype),
    "half_step": _half_step,
}
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


def evaluate(expr: Expr, lookup: Lookup, time: Tensor | None, like: Tensor) -> Value:
    """Work out an elementwise expression; `like` gives dtype and device to plain numbers in functions."""

    def visit(node: Expr) -> Value:
        match node:
            case Number(value):
                return value
            case Ref():
                return lookup(node)
            case Binary(op, left, right) | Compare(op, left, right):
                return _OPERATORS[op](visit(left), visit(right))
            case Negate(operand):
                return -visit(operand)
            case Call("where", (condition, yes, no)):
                chosen = visit(condition)
                return torch.where(
                    _tensor(chosen, like).bool(), _tensor(visit(yes), like), _tensor(visit(no), like)
                )
            case Call(function, args):
                return FUNCTIONS[function](*(_tensor(visit(arg), like) for arg in args))
            case Phase(period):
                if time is None:
                    raise AssertionError("a plan that reads t runs with a time index")  # pragma: no cover
                return time % visit(period)
        raise AssertionError(node)  # pragma: no cover

    return visit(expr)


def _tensor(value: Value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else like.new_tensor(value)
