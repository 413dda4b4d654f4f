"""The lines inside a kernel's functions: expressions over vectors, and the pointers that they read and write.

Shapes in the text: b first row, r row from there, u first unit of a vector.
"""

from __future__ import annotations

from unvanish.engine.native.places import Places, local, variable
from unvanish.equations.expression import Binary, Call, Compare, Expr, Negate, Number, Phase, Ref


def text(expr: Expr) -> str:
    """Write an elementwise expression over vectors."""
    match expr:
        case Number(value):
            return f"set1(real({value!r}))"
        case Ref():
            return local(expr)
        case Negate(operand):
            return f"(-{text(operand)})"
        case Binary("**", left, Number(value)):
            return f"power_({text(left)}, {int(value)})"
        case Binary(op, left, right) | Compare(op, left, right):
            return f"({text(left)} {op} {text(right)})"
        case Call("where", (condition, yes, no)):
            return f"select({text(condition)}, {text(yes)}, {text(no)})"
        case Call(function, args):
            return f"{function}_({', '.join(text(arg) for arg in args)})"
        case Phase(period):
            return f"remainder_(v_t, {text(period)})"
    raise AssertionError(expr)  # pragma: no cover


def pulled(total: str, factor: Expr, adjoint: str) -> str:
    """Write total + factor · adjoint; where a condition makes the factor nothing, nothing is multiplied."""
    match factor:
        case Number(0.0):
            return total
        case Number(1.0):
            return f"{total} + {adjoint}"
        case Number(-1.0) | Negate(Number(1.0)):
            return f"{total} - {adjoint}"
        case Number():
            return f"{total} + {text(factor)} * {adjoint}"
        case Call("where", (condition, yes, no)):
            return f"select({text(condition)}, {pulled(total, yes, adjoint)}, {pulled(total, no, adjoint)})"
    return f"pulled({total}, {text(factor)}, {adjoint})"


class Body:
    """The body of a function over rows: pointers first, then lines."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.pointers: dict[str, str] = {}
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def pointer(self, role: str, ref: Ref, place: tuple[str, str], offset: str = "") -> str:
        """Declare where a value of the first row begins; return where that of row r is."""
        base, stride = place
        name = variable(role, ref)
        self.pointers[name] = f"{base} + b * {stride}{f' + {offset}' if offset else ''} + u"
        return f"{name} + r * {stride}"

    def value(self, ref: Ref) -> str:
        """The address of a value in row r."""
        base, stride, offset = self.places.step(ref)
        return self.pointer("at", ref, (base, stride), offset)

    def finished(self) -> list[str]:
        return [f"  real* const {name} = {place};" for name, place in self.pointers.items()] + self.lines
