"""Expressions to SymPy and back. SymPy takes half a second to import, so this file is imported late."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import sympy

from unvanish.equations.expression import Binary, Call, Compare, Expr, Negate, Number, Phase, Ref, refs
from unvanish.equations.slopes import slopes
from unvanish.equations.words import WORDS
from unvanish.errors import CellError


def gradient(expression: Expr) -> dict[Ref, Expr]:
    """Return the derivative of an expression by each name that it reads, where it is not nothing."""
    bridge = Bridge(keeps_quotients=True)
    whole = bridge.to_sympy(expression)
    found = {}
    for ref in dict.fromkeys(refs(expression)):
        factor = sympy.diff(whole, bridge.symbol(ref))
        if factor != 0:
            found[ref] = bridge.from_sympy(factor)
    return found


def _function(name: str) -> Any:
    """A function of which SymPy knows the derivative only: its own ones rewrite tanh(-x), and know exact values."""

    def fdiff(self: Any, argindex: int = 1) -> Any:
        known = {"y": self, **dict(zip("ab", self.args, strict=False))}
        return _Filled(known).to_sympy(slopes(name)[argindex - 1])

    title = "_" + "".join(part.title() for part in name.split("_"))
    return type(title, (sympy.Function,), {"fdiff": fdiff})


class _Where(sympy.Function):  # type: ignore[misc]
    """The condition is a symbol that stands for a comparison; nothing is differentiated through it."""

    def fdiff(self, argindex: int = 1) -> Any:
        condition = self.args[0]
        return _Where(condition, int(argindex == 2), int(argindex == 3)) if argindex > 1 else sympy.Integer(0)


class _Quotient(sympy.Function):  # type: ignore[misc]
    """a / b. SymPy would differentiate a · b⁻¹ to -a / b², which overflows where -(a / b) / b does not."""

    def fdiff(self, argindex: int = 1) -> Any:
        below = self.args[1]
        return _Quotient(1, below) if argindex == 1 else -_Quotient(self, below)


class _Inverse(sympy.Function):  # type: ignore[misc]
    """a⁻ⁿ for a whole number n, kept together for the same reason."""

    def fdiff(self, argindex: int = 1) -> Any:
        base, exponent = self.args
        return -exponent * _Quotient(self, base)


FUNCTIONS: dict[str, Any] = {name: _function(name) for name in WORDS} | {"where": _Where}
_NAMES = {function: name for name, function in FUNCTIONS.items()}


class Bridge:
    """Carries expressions to SymPy and back; each name, with its delay, is one real symbol.

    Where it `keeps_quotients`, SymPy does not cancel, expand or merge them.
    """

    def __init__(self, keeps_quotients: bool = False) -> None:
        self.keeps_quotients = keeps_quotients
        self.to_symbol: dict[Ref | Compare, Any] = {}
        self.from_symbol: dict[Any, Ref | Compare] = {}

    def symbol(self, meaning: Ref | Compare) -> Any:
        if meaning not in self.to_symbol:
            symbol = sympy.Symbol(f"s{len(self.to_symbol)}", real=True)
            self.to_symbol[meaning], self.from_symbol[symbol] = symbol, meaning
        return self.to_symbol[meaning]

    def to_sympy(self, expr: Expr) -> Any:
        match expr:
            case Number(value):
                return sympy.Integer(int(value)) if value.is_integer() and abs(value) < 1e9 else sympy.Float(value)
            case Ref() | Compare():
                return self.symbol(expr)
            case Negate(operand):
                return -self.to_sympy(operand)
            case Binary("/", left, right) if self.keeps_quotients and not isinstance(right, Number):
                return _Quotient(self.to_sympy(left), self.to_sympy(right))
            case Binary("**", base, Number(exponent)) if self.keeps_quotients and exponent < 0:
                return _Inverse(self.to_sympy(base), -int(exponent))
            case Binary(op, left, right):
                return _OPERATORS[op](self.to_sympy(left), self.to_sympy(right))
            case Call("identity", (operand,)):
                return self.to_sympy(operand)
            case Call(function, args):
                return FUNCTIONS[function](*(self.to_sympy(arg) for arg in args))
            case Phase():
                raise AssertionError("t % period stands only inside a comparison")  # pragma: no cover

    def from_sympy(self, expr: Any) -> Expr:
        if expr.is_Symbol:
            return self.from_symbol[expr]
        if _divides_by_zero(expr):
            return self.number(sympy.zoo)
        if expr.is_Number or expr is sympy.zoo:
            return self.number(expr)
        if expr.is_Add:
            return self.fold_sum(expr)
        if expr.is_Mul:
            return self.fold_product(expr)
        if expr.is_Pow:
            return self.power(self.from_sympy(expr.base), int(expr.exp))
        if isinstance(expr, _Quotient):
            above, below = map(self.from_sympy, expr.args)
            return Binary("/", above, below)
        if isinstance(expr, _Inverse):
            return Binary("**", self.from_sympy(expr.args[0]), Number(-float(expr.args[1])))
        return Call(_NAMES[type(expr)], tuple(self.from_sympy(arg) for arg in expr.args))

    def number(self, expr: Any) -> Number:
        value = float(expr) if expr.is_finite else math.inf
        if not math.isfinite(value):
            raise CellError("a derivative of the equations has no finite value", "scale the equation")
        return Number(value)

    def fold_sum(self, expr: Any) -> Expr:
        terms = sorted(expr.args, key=_looks_negative)  # a - b rather than -b + a
        total = self.from_sympy(terms[0])
        for term in terms[1:]:
            if _looks_negative(term):
                total = Binary("-", total, self.from_sympy(-term))
            else:
                total = Binary("+", total, self.from_sympy(term))
        return total

    def fold_product(self, expr: Any) -> Expr:
        above, below = sympy.fraction(expr, exact=True)
        if below != 1:
            return Binary("/", self.from_sympy(above), self.from_sympy(below))
        if _looks_negative(expr):
            return Negate(self.from_sympy(-expr))
        factors = [self.from_sympy(factor) for factor in expr.args]
        total = factors[0]
        for factor in factors[1:]:
            total = Binary("*", total, factor)
        return total

    def power(self, base: Expr, exponent: int) -> Expr:
        if exponent < 0:
            return Binary("/", Number(1.0), self.power(base, -exponent))
        return base if exponent == 1 else Binary("**", base, Number(float(exponent)))


class _Filled(Bridge):
    """Carries a derivative to SymPy, with what its names stand for put in."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__(keeps_quotients=True)
        self.known = known

    def symbol(self, meaning: Ref | Compare) -> Any:
        assert isinstance(meaning, Ref)
        return self.known[meaning.name]


def _divides_by_zero(expr: Any) -> bool:
    divisor = expr.args[1] if isinstance(expr, _Quotient) else expr.args[0] if isinstance(expr, _Inverse) else None
    return bool(divisor == 0)


def _looks_negative(expr: Any) -> bool:
    return bool(expr.could_extract_minus_sign()) if expr.is_Mul or expr.is_Number else False


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
}
