"""Are the lines of a cell a recurrence? Every name defined once, every state updated, no idle line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unvanish.equations.expression import Binary, Call, Expr, Place, Ref, children, refs, walk
from unvanish.equations.parse import Line
from unvanish.equations.typed import MATRIX_FIRST, is_matrix, step_meant
from unvanish.equations.words import ROWWISE
from unvanish.errors import CellError


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a cell says beside its lines."""

    output: str
    scalars: frozenset[str]
    numbers: frozenset[str]
    per_unit: frozenset[str]
    delays: Mapping[str, int]
    widths: Mapping[str, str]


def error_at(what: str, mend: str, place: Place) -> CellError:
    return CellError(what, mend, line=place[0] or None, column=place[1] or None)


def matrices(expr: Expr) -> list[tuple[Ref, Expr]]:
    """Return each `matrix @ operand` in an expression."""
    return [
        (node.left, node.right)
        for node in walk(expr)
        if isinstance(node, Binary) and node.op == "@" and isinstance(node.left, Ref)
    ]


def _vector_refs(expr: Expr) -> Iterator[Ref]:
    """Yield each name that is read as a vector: all but those left of @."""
    if isinstance(expr, Ref):
        yield expr
    elif isinstance(expr, Binary) and expr.op == "@":
        yield from _vector_refs(expr.right)
    else:
        for child in children(expr):
            yield from _vector_refs(child)


class Checker:
    """Refuses, with its place, what is not a recurrence."""

    def __init__(self, lines: tuple[Line, ...], declared: Declarations) -> None:
        self.lines, self.declared = lines, declared
        # What is one number for all units, or may be made so by a layer's arguments.
        self.single = set(declared.scalars | declared.numbers)
        self.defined: dict[str, Line] = {}
        for line in lines:
            if line.name in self.defined:
                first = self.defined[line.name].place
                raise error_at(
                    f"'{line.name}' is defined a second time (first in line {first[0]})",
                    "give the second one a name of its own",
                    line.place,
                )
            self.defined[line.name] = line

    def check(self) -> None:
        self.check_declarations()
        seen: set[str] = set()
        for line in self.lines:
            for matrix, operand in matrices(line.expression):
                self.check_matrix(matrix, operand)
                self.check_vector(operand, "the right side of @", matrix.place)
            for node in walk(line.expression):
                if isinstance(node, Call) and node.function in ROWWISE:
                    self.check_vector(node.args[0], f"the argument of {node.function}", node.place)
            for ref in _vector_refs(line.expression):
                self.check_ref(ref, line, seen)
            seen.add(line.name)
            if not self.is_vector(line.expression):
                self.single.add(line.name)
        self.check_vector(Ref(self.declared.output, 0), "the output", self.defined[self.declared.output].place)
        self.check_use()

    def check_declarations(self) -> None:
        output = self.defined.get(self.declared.output)
        if output is None or not output.timed:
            raise CellError(
                f"no line defines the output {self.declared.output}[t]",
                f"write {self.declared.output}[t] = …, or declare output='…'",
            )
        used = {ref.name for line in self.lines for ref in refs(line.expression)}
        for name in sorted(self.declared.scalars | self.declared.numbers | set(self.declared.delays)):
            if name in self.defined:
                raise error_at(f"'{name}' is declared and defined", "keep one", self.defined[name].place)
            if name not in used and name not in self.declared.delays:
                raise CellError(f"'{name}' is declared but no line uses it", "use it or take it out")
        for name in sorted(self.declared.widths):
            if name not in used and name not in self.defined:
                raise CellError(f"a width is declared for '{name}', which does not occur", "take it out")

    def check_matrix(self, ref: Ref, operand: Expr) -> None:
        declared = self.declared.numbers | self.declared.scalars | set(self.declared.delays)
        if ref.name == "x" or ref.name in self.defined or ref.name in declared:
            mend = "name a matrix there"
            if isinstance(operand, Ref) and operand.name not in self.defined and is_matrix(operand.name):
                timed = ref.name == "x" or (ref.name in self.defined and self.defined[ref.name].timed)
                mend = f"write {operand.name} @ {ref.name}{'[t]' * timed}: {MATRIX_FIRST}"
            raise error_at(f"'{ref.name}' stands left of @ but is not a matrix", mend, ref.place)
        self.check_step(ref)

    def check_step(self, ref: Ref) -> None:
        """Refuse what papers write for a step of a signal: it would be learnt, and the signal not read at all."""
        declared = self.declared.numbers | self.declared.scalars | set(self.declared.widths)
        meant = None if ref.name in declared else step_meant(ref.name, {"x", "h", "c", *self.defined})
        if meant is None:
            return
        name, _, index = meant.partition("[")
        mend = f"write {meant}"
        if name == "x" and index != "t]":
            mend = f"carry the input: past[t] = x[t], then read past[{index}"
        elif index == "t]" and name in self.defined and not self.defined[name].timed:
            mend = f"write {name}"
        raise error_at("a step is not written as a subscript", mend, ref.place)

    def is_vector(self, expr: Expr) -> bool:
        return any(ref.is_past or ref.name not in self.single for ref in refs(expr))

    def check_vector(self, operand: Expr, what: str, place: Place) -> None:
        if not self.is_vector(operand):
            raise error_at(f"{what} is one number, not a vector", "take a state, x[t] or a line of them", place)

    def check_ref(self, ref: Ref, reader: Line, seen: set[str]) -> None:
        name, line = ref.name, self.defined.get(ref.name)
        if name == "x":
            if ref.delay is None or ref.is_past:
                mend = "write x[t]" if ref.delay is None else "carry it: past[t] = x[t], then read past[t-1]"
                raise error_at("the input is read at the present step only", mend, ref.place)
        elif name in self.declared.delays:
            raise error_at(f"the delay '{name}' stands only in an index", f"write h[t-{name}]", ref.place)
        elif ref.delay is not None and line is None:
            mend = f"add a line {name}[t] = …"
            if not ref.is_past:
                mend += "; the input is called x: write x[t] if that is meant"
            raise error_at(f"the state '{name}' is read but no line updates it", mend, ref.place)
        elif line is not None:
            self.check_line_ref(ref, line, reader, seen)
        else:
            self.check_step(ref)

    def check_line_ref(self, ref: Ref, line: Line, reader: Line, seen: set[str]) -> None:
        name = ref.name
        if not line.timed and ref.delay is not None:
            raise error_at(f"'{name}' is not carried in time", f"define it as {name}[t] = …", ref.place)
        if line.timed and ref.delay is None:
            raise error_at(f"'{name}' has steps", f"write {name}[t] or {name}[t-1]", ref.place)
        if not ref.is_past and name not in seen:
            before = f"read {name}[t-1]" if line.timed else f"define it as {name}[t] = … and read {name}[t-1]"
            mend = f"{before} if the step before is meant, or move line {line.place[0]} up"
            if reader.name in self.made_of(line):  # no order of the lines would do
                mend = f"{before}, the step before: {name} itself is made of {reader.name}"
            raise error_at(f"'{name}' is used before its definition", mend, ref.place)

    def made_of(self, line: Line) -> set[str]:
        """The names that a line reads at the present step, itself or through other lines."""
        found, lines = {line.name}, [line]
        while lines:
            read = {ref.name for ref in refs(lines.pop().expression) if not ref.is_past} - found
            found |= read
            lines += [self.defined[name] for name in read if name in self.defined]
        return found

    def check_use(self) -> None:
        live, found = {self.declared.output}, 0
        while found < len(live):
            found = len(live)
            live |= {ref.name for line in self.lines if line.name in live for ref in refs(line.expression)}
        for line in self.lines:
            if line.name not in live:
                raise error_at(f"the output does not depend on '{line.name}'", "use it or take it out", line.place)
