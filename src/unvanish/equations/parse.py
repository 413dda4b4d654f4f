"""Text -> lines of expressions. Python's `ast` reads it; nothing in it is ever executed.

The text may come from a configuration file of a stranger, so its size is bounded before Python's parser sees
it, and every node that is not on the list below is refused with its place.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
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
    walk,
)
from unvanish.equations.typed import MATRIX_FIRST, is_matrix, meant
from unvanish.equations.words import ROWWISE, SPOKEN, SURROGATES
from unvanish.errors import CellError, nearest

MAX_CHARACTERS = 20_000
MAX_LINES = 400
MAX_DEPTH = 60
MAX_NODES = 300  # in one line: a derivative has up to the square of it
MAX_EXPONENT = 8
MAX_POWER = 64  # of exponents inside exponents, which SymPy multiplies out
MAX_NUMBER = 1e30

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@"}
_COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
FUNCTIONS = (*SPOKEN, "heaviside", *ROWWISE)
RESERVED = frozenset({"t", *FUNCTIONS})


@dataclass(frozen=True, slots=True)
class Line:
    """One assignment as written: `name = expression` or, carried in time, `name[t] = expression`."""

    name: str
    timed: bool
    expression: Expr
    place: Place


def parse(text: str, functions: frozenset[str] = frozenset()) -> tuple[Line, ...]:
    """Read the equations of a cell.

    `functions` are names of function slots that the cell declares. Raises `CellError`, and nothing else,
    on anything that is not a list of assignments in the language.

    >>> [line.name for line in parse("h[t] = tanh(W @ x[t] + U @ h[t-1])")]
    ['h']
    """
    if not isinstance(text, str):
        raise CellError(f"equations are a text, not a {type(text).__name__}", "pass a str")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_size(text)
    reader = _Reader(text, functions)
    tree = _syntax_tree(reader)
    if not tree.body:
        raise CellError("there is no equation in the text", "write at least h[t] = …")
    if len(tree.body) > MAX_LINES:  # two may stand in one line
        raise CellError(f"the text has more than {MAX_LINES} equations", "split it into several cells")
    return tuple(reader.line(node) for node in tree.body)


def _check_size(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise CellError(
            f"the text has {len(text):,} characters, more than the {MAX_CHARACTERS:,} a cell may have",
            "split it into several cells",
        )
    if text.count("\n") > MAX_LINES:
        raise CellError(f"the text has more than {MAX_LINES} lines", "split it into several cells")
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise CellError(f"brackets are nested deeper than {MAX_DEPTH}", "name the inner parts in lines")


def _syntax_tree(reader: _Reader) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like: refused below as nodes
            return ast.parse("\n".join(reader.body))
    except SyntaxError as fault:
        line, column = fault.lineno or 1, fault.offset or 1
        if (found := reader.meant(line)) is not None:
            raise found from None
        place = line, max(column, 1) + reader.margin(line)
        raise reader.error(f"not an equation: {fault.msg}", "write name = expression", place) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as fault:
        reason = str(fault) or "nested too deeply"
        raise CellError(f"the text cannot be read: {reason}", "write one plain assignment a line") from None


class _Reader:
    """Turns `ast` nodes into expressions, refusing what is not in the language."""

    def __init__(self, text: str, functions: frozenset[str]) -> None:
        self.lines = text.split("\n")
        self.body = [line.lstrip(" \t\f") for line in self.lines]  # an equation means the same at any indentation
        self.functions = functions

    def margin(self, line: int) -> int:
        return len(self.lines[line - 1]) - len(self.body[line - 1]) if 0 < line <= len(self.lines) else 0

    def error(self, what: str, mend: str, place: Place) -> CellError:
        line, column = place
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return CellError(what, mend, line=line, column=column, source=source)

    def meant(self, line: int) -> CellError | None:
        """The fault of a line that was typed as a paper has it, where that can be told."""
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        found = meant(source, source.find("=") + 1)
        return None if found is None else self.error(found[0], found[1], (line, found[2]))

    def place(self, node: ast.expr | ast.stmt) -> Place:
        """Line and column in the text as given; `ast` counts the column in UTF-8 bytes of the unindented line."""
        source = self.body[node.lineno - 1] if node.lineno <= len(self.body) else ""
        before = source.encode(errors="replace")[: node.col_offset]
        return node.lineno, len(before.decode(errors="ignore")) + 1 + self.margin(node.lineno)

    def line(self, node: ast.stmt) -> Line:
        place = self.place(node)
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            raise self.error("not an assignment", "write name = expression or name[t] = expression", place)
        target = node.targets[0]
        timed = isinstance(target, ast.Subscript)
        left = target.value if isinstance(target, ast.Subscript) else target
        if not isinstance(left, ast.Name):
            raise self.error("the left side is not a name", "write name = … or name[t] = …", self.place(target))
        if isinstance(target, ast.Subscript) and not _is_time(target.slice):
            raise self.error("a line defines the present step", f"write {left.id}[t] = …", self.place(target))
        name = self.name(left.id, self.place(left))
        if name in RESERVED or name == "x" or name in self.functions:
            raise self.error(f"'{name}' cannot be defined", "take another name for it", place)
        expression = self.expression(node.value, 0)
        if sum(1 for _ in walk(expression)) > MAX_NODES:
            raise self.error(f"more than {MAX_NODES} names and operations in one line", "split the line", place)
        return Line(name, timed, expression, place)

    def name(self, name: str, place: Place) -> str:
        if not _NAME.match(name):
            raise self.error(f"'{name}' is not a name", "use ASCII letters, digits and _, a letter first", place)
        return name

    def expression(self, node: ast.expr, depth: int) -> Expr:
        place = self.place(node)
        if depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH}", "name the inner parts in lines of their own", place)
        match node:
            case ast.Constant(value):
                return self.number(value, place)
            case ast.Name(name):
                return self.plain_name(name, place)
            case ast.Subscript(ast.Name(name), index):
                return Ref(self.name(name, place), self.delay(index), place)
            case ast.UnaryOp(ast.USub(), operand):
                return Negate(self.expression(operand, depth + 1))
            case ast.UnaryOp(ast.UAdd(), operand):
                return self.expression(operand, depth + 1)
            case ast.BinOp():
                return self.binary(node, depth)
            case ast.Call():
                return self.call(node, depth)
            case ast.Compare():
                raise self.error("a comparison stands alone", "use it inside where(condition, a, b)", place)
        raise self.error(
            f"{type(node).__name__} is not part of the language",
            "use + - * / @ **, names, numbers, name[t-1] and the functions of the language",
            place,
        )

    def plain_name(self, name: str, place: Place) -> Ref:
        self.name(name, place)
        if name == "t":
            raise self.error("t stands only in an index and in t % period", "write where(t % p == 0, …)", place)
        if name in RESERVED or name in self.functions:
            raise self.error(f"'{name}' is a function", f"call it: {name}(…)", place)
        return Ref(name, None, place)

    def number(self, value: object, place: Place) -> Number:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{type(value).__name__} is not a number", "use a plain number", place)
        if abs(value) > MAX_NUMBER or not math.isfinite(value):
            raise self.error(f"a number is larger than {MAX_NUMBER:g}", "scale the equation", place)
        return Number(float(value))

    def delay(self, index: ast.expr) -> int | str:
        """Read what stands in the brackets: t, t-1, t-d."""
        match index:
            case ast.Name("t"):
                return 0
            case ast.BinOp(ast.Name("t"), ast.Sub(), ast.Constant(int(steps))) if not isinstance(steps, bool):
                if 1 <= steps <= 1_000_000:
                    return steps
            case ast.BinOp(ast.Name("t"), ast.Sub(), ast.Name(name)):
                return self.name(name, self.place(index))
        raise self.error("an index is t, t-1, … or t-d", "read a past step as name[t-1]", self.place(index))

    def binary(self, node: ast.BinOp, depth: int) -> Expr:
        place = self.place(node)
        op = _BINARY.get(type(node.op))
        if op is None:
            mends: dict[type, str] = {ast.Mod: "write t % period inside where", ast.BitXor: "a power is written **"}
            mend = mends.get(type(node.op), "use + - * / @ **")
            raise self.error(f"the operator {type(node.op).__name__} stands where it has no meaning", mend, place)
        if op == "**":
            base, exponent = self.expression(node.left, depth + 1), self.exponent(node.right)
            if abs(exponent.value) * _power(base) > MAX_POWER:
                raise self.error(f"the exponents multiply to more than {MAX_POWER}", "scale the equation", place)
            return Binary(op, base, exponent, place)
        left = self.expression(node.left, depth + 1)
        if op == "@" and not (isinstance(left, Ref) and left.delay is None):
            what = "the left side of @ is not the name of a matrix"
            raise self.error(what, self.turned(node), self.place(node.left))
        return Binary(op, left, self.expression(node.right, depth + 1), place)

    def turned(self, node: ast.BinOp) -> str:
        """How to write a product whose left side is not a matrix."""
        match node.right:
            case ast.Name(name) if is_matrix(name):
                left = (
                    ast.unparse(node.left).replace("t - ", "t-") if isinstance(node.left, ast.Subscript) else "(…)"
                )
                return f"write {name} @ {left}: {MATRIX_FIRST}"
        return "@ binds as tightly as *: put the product in parentheses, a * (M @ v)"

    def exponent(self, node: ast.expr) -> Number:
        sign, inner = 1, node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, inner = -1, node.operand
        value = inner.value if isinstance(inner, ast.Constant) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_EXPONENT:
            raise self.error(
                f"an exponent is a whole number from 1 to {MAX_EXPONENT}, or its negative",
                "use sqrt, exp and log for other powers",
                self.place(node),
            )
        return Number(float(sign * value))

    def call(self, node: ast.Call, depth: int) -> Expr:
        place = self.place(node)
        if not isinstance(node.func, ast.Name):
            raise self.error("only the functions of the language can be called", "name one directly", place)
        name = node.func.id
        if name == "heaviside":
            return self.heaviside(node, depth)
        arity = 1 if name in ROWWISE or name in self.functions else SPOKEN.get(name)
        if arity is None:
            raise self.error(f"unknown function '{name}'", self.instead_of(name), place)
        if node.keywords or len(node.args) != arity:
            raise self.error(f"{name} takes {arity} argument{'s' * (arity > 1)}", "give just those", place)
        if name == "where":
            head: Expr = self.condition(node.args[0], depth + 1)
            return Call(name, (head, *(self.expression(arg, depth + 1) for arg in node.args[1:])), place)
        return Call(name, tuple(self.expression(arg, depth + 1) for arg in node.args), place)

    def instead_of(self, name: str) -> str:
        """What to write in the place of a function that there is not."""
        if name in ("σ", "sigma"):
            return "the logistic function is written sigmoid"
        if is_matrix(name):
            return f"a matrix product is written {name} @ …"
        return nearest(name, [*FUNCTIONS, *self.functions])

    def heaviside(self, node: ast.Call, depth: int) -> Call:
        """Read heaviside(a, NAME(b)), with the surrogate slope of that name and the number b."""
        match node.args:
            case [argument, ast.Call(ast.Name(name), [ast.Constant() as steepness], [])] if not node.keywords:
                if name in SURROGATES:
                    number = self.number(steepness.value, self.place(steepness))
                    return Call(
                        f"heaviside_{name}", (self.expression(argument, depth + 1), number), self.place(node)
                    )
        raise self.error(
            "heaviside takes an argument and a surrogate slope",
            f"write heaviside(v, sigmoid(4)), or one of {', '.join(SURROGATES)}",
            self.place(node),
        )

    def condition(self, node: ast.expr, depth: int) -> Compare:
        if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in _COMPARE:
            raise self.error(
                "the first argument of where is one comparison", "write where(a < b, …)", self.place(node)
            )
        left = self.comparand(node.left, depth)
        return Compare(_COMPARE[type(node.ops[0])], left, self.comparand(node.comparators[0], depth))

    def comparand(self, node: ast.expr, depth: int) -> Expr:
        match node:
            case ast.BinOp(ast.Name("t"), ast.Mod(), period):
                return Phase(self.expression(period, depth + 1))
        return self.expression(node, depth + 1)


def _power(expr: Expr) -> float:
    """Return the product of exponents inside exponents, where it is largest; a function starts anew."""
    match expr:
        case Call():
            return 1
        case Binary("**", base, Number(exponent)):
            return abs(exponent) * _power(base)
    return max(map(_power, children(expr)), default=1)


def _is_time(index: ast.expr) -> bool:
    return isinstance(index, ast.Name) and index.id == "t"
