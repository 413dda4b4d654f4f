"""Equations as LaTeX, in the order in which the paper wrote their terms."""

from __future__ import annotations

from collections.abc import Mapping

from unvanish.equations.expression import Binary, Call, Compare, Expr, Negate, Number, Phase, Ref
from unvanish.equations.parse import Line
from unvanish.equations.words import WORDS

_ROWS = {"layernorm": "LayerNorm"}
_RELATIONS = {"==": "=", "!=": r"\ne", "<": "<", "<=": r"\le", ">": ">", ">=": r"\ge"}
_SUM, _PRODUCT, _POWER, _ATOM = 1, 2, 3, 4


def latex_lines(lines: tuple[Line, ...], functions: Mapping[str, str]) -> tuple[str, ...]:
    """Typeset each line; `functions` says what stands in the cell's function slots.

    >>> from unvanish.equations.parse import parse
    >>> latex_lines(parse("h[t] = tanh(W @ x[t] + p * h[t-1])"), {})
    ('h_{t} = \\\\tanh\\\\left(W x_{t} + p \\\\odot h_{t-1}\\\\right)',)
    """
    printer = _Printer(functions)
    return tuple(
        f"{_name(line.name, 0 if line.timed else None)} = {printer.text(line.expression)}" for line in lines
    )


def aligned(lines: tuple[str, ...]) -> str:
    r"""Set lines below each other at their first equals sign, as notebooks typeset it.

    >>> print(aligned(("i_{t} = x_{t}", "h_{t} = i_{t}")))
    $$\begin{aligned}
    i_{t} &= x_{t} \\
    h_{t} &= i_{t}
    \end{aligned}$$
    """
    body = " \\\\\n".join(line.replace(" = ", " &= ", 1) for line in lines)
    return f"$$\\begin{{aligned}}\n{body}\n\\end{{aligned}}$$"


def _name(name: str, delay: int | str | None) -> str:
    import sympy  # half a second, which a list of cells need not wait for

    symbol = str(sympy.latex(sympy.Symbol(name)))
    if delay is None:
        return symbol
    index = "t" if delay == 0 else f"t-{delay}"
    stem, _, subscript = symbol.partition("_{")
    return f"{stem}_{{{subscript[:-1]},{index}}}" if subscript else f"{symbol}_{{{index}}}"


def _number(value: float) -> tuple[int, str]:
    mantissa, _, exponent = f"{value:.12g}".partition("e")
    if not exponent:
        return _ATOM, mantissa
    power = f"10^{{{int(exponent)}}}"
    return (_POWER, power) if mantissa == "1" else (_PRODUCT, rf"{mantissa} \cdot {power}")


class _Printer:
    def __init__(self, functions: Mapping[str, str]) -> None:
        self.functions = functions

    def text(self, expr: Expr, outer: int = 0) -> str:
        inner, text = self.parts(expr)
        return rf"\left({text}\right)" if inner < outer else text

    def parts(self, expr: Expr) -> tuple[int, str]:
        """Return how tightly an expression binds, and its text."""
        match expr:
            case Number(value):
                return _number(value)
            case Ref(name, delay):
                return _ATOM, _name(name, delay)
            case Negate(operand):
                return _SUM, f"-{self.text(operand, _PRODUCT)}"
            case Binary():
                return self.binary(expr)
            case Call(function, args):
                return self.call(self.functions.get(function, function), args)
            case Compare(op, left, right):
                return _SUM, f"{self.text(left)} {_RELATIONS[op]} {self.text(right)}"
            case Phase(period):
                return _PRODUCT, rf"t \bmod {self.text(period, _ATOM)}"
        raise AssertionError(expr)  # pragma: no cover

    def binary(self, expr: Binary) -> tuple[int, str]:
        left, right = expr.left, expr.right
        match expr.op:
            case "+":
                return _SUM, f"{self.text(left, _SUM)} + {self.text(right, _SUM)}"
            case "-":
                return _SUM, f"{self.text(left, _SUM)} - {self.text(right, _PRODUCT)}"
            case "*":
                sign = r" \odot " if not isinstance(left, Number) else r" \, "
                return _PRODUCT, f"{self.text(left, _PRODUCT)}{sign}{self.text(right, _PRODUCT)}"
            case "@":
                return _PRODUCT, f"{self.text(left)} {self.text(right, _POWER)}"
            case "/":
                return _POWER, rf"\frac{{{self.text(left)}}}{{{self.text(right)}}}"
        return _POWER, f"{{{self.text(left, _ATOM)}}}^{{{self.text(right)}}}"

    def call(self, function: str, args: tuple[Expr, ...]) -> tuple[int, str]:
        if function == "identity":
            return self.parts(args[0])
        if function == "sqrt":
            return _ATOM, rf"\sqrt{{{self.text(args[0])}}}"
        if function == "abs":
            return _ATOM, rf"\left|{self.text(args[0])}\right|"
        if function == "where":
            condition, yes, no = (self.text(arg) for arg in args)
            cases = rf"{yes} & \text{{if }} {condition} \\ {no} & \text{{otherwise}}"
            return _ATOM, rf"\begin{{cases}} {cases} \end{{cases}}"
        word = WORDS.get(function)
        if word and word.surrogate:
            args = args[:1]  # its steepness is of the derivative alone
        name = word.latex if word and word.latex else rf"\operatorname{{{_ROWS.get(function, function)}}}"
        inside = ", ".join(self.text(arg) for arg in args)
        return _ATOM, rf"{name}\left({inside}\right)"
