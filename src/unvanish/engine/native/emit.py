"""Kernel -> C++: a small printer over phases. The text keeps the names of the equations.

What a phase does with the units of one vector is a function over rows, compiled twice: for whole vectors and for
the last one. Only the products before it are compiled for register blocks of several sizes.

Shapes in the text: t step, b first row, r row from there, u first unit of a vector, n its units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unvanish.engine.ir.lower import Kernel, KernelPhase
from unvanish.engine.ir.plan import Group
from unvanish.engine.native.body import Body, pulled, text
from unvanish.engine.native.loop import Loop
from unvanish.engine.native.places import TABLES, Places, Slot, adjoint, identifier, local, variable
from unvanish.engine.shared import shared
from unvanish.equations.calculus import Scale
from unvanish.equations.expression import Phase, Ref, refs, walk

# Accumulators of a product, by bytes in a vector; the other registers hold weights and a broadcast value.
REGISTERS = {64: 24, 32: 12}


@dataclass(frozen=True)
class Emitted:
    """A kernel's text, and what the structure that it takes holds, in order."""

    text: str
    vector: int
    pointers: tuple[Slot, ...]
    tables: tuple[str, ...]
    sizes: tuple[str, ...]


@shared(256)
def emit(kernel: Kernel, double: bool, vector: int) -> Emitted:
    """Write a kernel's forward and backward pass; a vector of the processor has so many bytes."""
    return _Emitter(kernel, vector).emit(double)


class _Emitter:
    def __init__(self, kernel: Kernel, vector: int) -> None:
        self.kernel, self.places, self.vector = kernel, Places(kernel), vector
        self.slots, self.depth = self.places.slots, self.places.depth
        self.vectors = {name for name, _ in kernel.vectors}
        self.lines: list[str] = []

    def emit(self, double: bool) -> Emitted:
        for number, phase in enumerate(self.kernel.phases):
            name = "row" if phase.rowwise else "phase"
            getattr(self, f"forward_{name}")(number, phase)
            getattr(self, f"backward_{name}")(number, phase)
        loop = Loop(self.kernel, self.places)
        self.lines += loop.forward() + loop.backward()
        sizes: tuple[str, ...] = (
            "first",
            "last",
            "start",
            "T",
            "B",
            "threads",
            "parts",
            "by_units",
            "pack",
            "settle",
            "vectors",
        )
        sizes += tuple(f"w {width}" for width in sorted(set(self.kernel.widths.values())))
        tables = (*TABLES, *(f"at {state.name}" for state in self.kernel.plan.system.states), "share")
        self.slots(Slot("norms"))
        head = [f"typedef {'double' if double else 'float'} real;", f"#define SINGLE {int(not double)}"]
        head += [f"#define VECTOR {self.vector}"]
        head += ['#include "runtime.h"', "", "struct Call {"]
        head += [f"  real* {identifier(str(slot))};  // {slot}" for slot in self.slots.index]
        head += [f"  const int64_t* {identifier(table)};" for table in tables]
        head += [f"  int64_t {identifier(size)};" for size in sizes]
        head += ["};", ""]
        return Emitted("\n".join(head + self.lines) + "\n", self.vector, tuple(self.slots.index), tables, sizes)

    # -- forward ---------------------------------------------------------------------------------------

    def forward_phase(self, number: int, phase: KernelPhase) -> None:
        body, merged, name = Body(self.places), self.merged(phase), f"forward_{number}"
        sums = {self.kernel.groups.index(group): group for group in phase.groups if group not in merged}
        known: set[str] = set()
        for statement in phase.statements:
            self.load_vectors(refs(statement.expression), phase, body, known)
        body("  for (int64_t r = 0; r < rows; r++) {")
        self.load_time(phase, body, known)
        for group in phase.groups:
            for part, product in enumerate(group.products):
                index, count = self.kernel.groups.index(group), len(group.products)
                value = f"p{index}[r * {count}{f' + {part}' if part else ''}]" if index in sums else "V{}"
                self.define(body, product.target, value, known)
        for statement in phase.statements:
            self.load(refs(statement.expression), phase, body, known)
            self.define(body, statement.target, text(statement.expression), known)
        body("  }")
        more = "".join(f", const V* p{index}" for index in sums)
        self.function(f"{name}_rows", f"phase {number}: {', '.join(map(str, phase.made))}", body, more)
        if sums:
            self.products(name, phase, merged, sums)
        else:
            self.all_rows(name, f"{name}_rows", phase)

    def products(
        self, name: str, phase: KernelPhase, merged: dict[Group, Group], sums: Mapping[int, Group]
    ) -> None:
        """Before the rows come the products, a register block at a time, the largest first."""
        body = Body(self.places)
        for index, group in sums.items():
            body(f"  V p{index}[R][{len(group.products)}] = {{}};")
        for group in phase.groups:
            self.product(body, group, merged)
        call = f"{name}_rows<%s>(a, part, t, b, R, u, n{''.join(f', p{index}[0]' for index in sums)})"
        body(f"  n == LANES ? {call % 'true'} : {call % 'false'};")
        self.lines += [
            "template <int R>",
            f"static void {name}_block(",
            "    const Call& a, const Part& part, int64_t t, int64_t b, int64_t u, int64_t n) {",
            *body.finished(),
            "}",
        ]
        self.begin_units(name, phase)
        most = self.rows(phase, merged)
        self.lines.append("    int64_t b = part.first;")
        for size in dict.fromkeys([most, *(size for size in (8, 6, 4, 3, 2, 1) if size <= most)]):
            self.lines.append(
                f"    for (; b + {size} <= part.last; b += {size}) {name}_block<{size}>(a, part, t, b, u, n);"
            )
        self.lines += ["  }", "}", ""]

    def merged(self, phase: KernelPhase) -> dict[Group, Group]:
        """Groups that are only added to another one's products, and can share its accumulators."""
        found: dict[Group, Group] = {}
        for group in phase.groups:
            first = self.kernel.all_groups[self.same_adjoint(group)]
            if first != group and first in phase.groups and not any(self.kept(p.target) for p in group.products):
                found[group] = first
        return found

    def same_adjoint(self, group: Group) -> int:
        return self.kernel.same_adjoint[self.kernel.groups.index(group)]

    def product(self, body: Body, group: Group, merged: dict[Group, Group]) -> None:
        index, count = self.kernel.groups.index(group), len(group.products)
        into = self.kernel.groups.index(merged.get(group, group))
        k = self.places.width(group.operand)
        base, stride, offset = self.places.step(group.operand)
        rows = f"{base} + b * {stride}{f' + {offset}' if offset else ''}"
        body(f"  // {', '.join(group.matrices)} @ {group.operand}")
        panel = f"{self.slots(Slot('panel', index))} + u * {count} * {k}"
        body(f"  product<R, {count}>(p{into}, {rows}, {stride}, {panel}, {k});")

    def define(self, body: Body, target: Ref, value: str, known: set[str]) -> None:
        body(f"    const V {local(target)} = {value};")
        known.add(local(target))
        if target.name in self.depth or target in self.kernel.saved:
            place = body.value(target)
            guard = "" if self.always_kept(target) else f"if ({self.slots(Slot('saved', target.name))}) "
            body(f"    {guard}store<WHOLE>({place}, {local(target)}, n);")

    def kept(self, ref: Ref) -> bool:
        return ref.name in self.depth or ref in self.kernel.saved

    def always_kept(self, ref: Ref) -> bool:
        """Whether a value goes through memory in the forward pass too."""
        return ref.name in self.depth or ref == self.kernel.plan.system.output or ref in self.kernel.crossing

    def load(self, wanted: Iterable[Ref], phase: KernelPhase, body: Body, known: set[str]) -> None:
        for ref in wanted:
            if local(ref) in known:
                continue
            known.add(local(ref))
            body(f"    const V {local(ref)} = load<WHOLE>({body.value(ref)}, n);")

    def load_vectors(self, wanted: Iterable[Ref], phase: KernelPhase, body: Body, known: set[str]) -> None:
        """Load the vectors, which are the same in all rows."""
        for ref in wanted:
            if ref.name in self.vectors and local(ref) not in known:
                known.add(local(ref))
                place = self.slots(Slot("vector", self.kernel.label(ref.name, phase.width)))
                body(f"  const V {local(ref)} = load<WHOLE>({place} + u, n);")

    def load_time(self, phase: KernelPhase, body: Body, known: set[str]) -> None:
        if any(isinstance(node, Phase) for s in phase.statements for node in walk(s.expression)):
            body(f"    const V v_t = set1(real(((const int64_t*){self.slots(Slot('time'))})[b + r] + t));")
            known.add("v_t")

    def function(self, name: str, comment: str, body: Body, more: str = "") -> None:
        self.lines += [
            f"// {comment}",
            "template <bool WHOLE>",
            f"static void {name}(",
            "    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,",
            f"    int64_t n{more}) {{",
            *body.finished(),
            "}",
        ]

    def begin_units(self, name: str, phase: KernelPhase) -> None:
        """Go through the units, a vector at a time."""
        self.begin(name)
        self.lines += [
            f"  const int64_t width = a.{identifier(f'w {phase.width}')};",
            "  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {",
            "    const int64_t n = width - u < LANES ? width - u : LANES;",
        ]

    def all_rows(self, name: str, rows: str, phase: KernelPhase) -> None:
        """Do all rows of a vector of units at once."""
        self.begin_units(name, phase)
        call = f"{rows}<%s>(a, part, t, part.first, part.last - part.first, u, n)"
        self.lines += [f"    n == LANES ? {call % 'true'} : {call % 'false'};", "  }", "}", ""]

    def begin(self, name: str) -> None:
        self.lines.append(f"static void {name}(const Call& a, const Part& part, int64_t t) {{")

    def rows(self, phase: KernelPhase, merged: dict[Group, Group]) -> int:
        columns = sum(len(group.products) for group in phase.groups if group not in merged)
        return max(1, min(8, REGISTERS[self.vector] // columns)) if columns else 4

    # -- backward --------------------------------------------------------------------------------------

    def backward_phase(self, number: int, phase: KernelPhase) -> None:
        pulls, body = self.kernel.pulls[number], Body(self.places)
        vectors = self.pulled_vectors(phase, pulls)
        states = [ref for ref in phase.made if ref.name in self.depth]
        for name in vectors:
            body(f"  V {identifier(f'sum {name}')}{{}};")
        for ref in states:
            body(f"  V {variable('square', ref)}{{}};")
        opened, loaded = set[str](), set[str]()
        for pull in pulls:
            self.load_vectors(refs(pull.factor), phase, body, loaded)
        body("  for (int64_t r = 0; r < rows; r++) {")
        self.load_time(phase, body, loaded)
        for ref in phase.made:
            self.begin_adjoint(body, ref, opened)
        for pull in pulls:
            self.pull(body, phase, pull, opened, loaded)
        self.flush(body, phase, pulls, vectors)
        body("  }")
        for name in vectors:
            label = self.kernel.label(name, phase.width)
            place = f"{self.slots(Slot('adjoint vector', label))} + part.index * a.vectors + u"
            body(f"  add<WHOLE>({place}, {identifier(f'sum {name}')}, n);")
        names = [state.name for state in self.kernel.plan.system.states]
        for ref in states:
            where = f"(part.index * a.T + t) * {len(names)} + {names.index(ref.name)}"
            body(f"  if ({self.slots(Slot('norms'))}) add_square(a.norms, {where}, {variable('square', ref)});")
        name = f"backward_{number}"
        self.function(f"{name}_rows", f"phase {number}, backward", body)
        self.all_rows(name, f"{name}_rows", phase)
        self.through(number, phase)

    def pulled_vectors(self, phase: KernelPhase, pulls: tuple[Scale, ...]) -> list[str]:
        """The vectors to which this phase sends adjoints; of those that have the same one, the first."""
        names = dict.fromkeys(pull.operand.name for pull in pulls if pull.operand.name in self.vectors)
        return [name for name in names if self.kernel.same_vector[name, phase.width] == (name, phase.width)]

    def begin_adjoint(self, body: Body, ref: Ref, opened: set[str]) -> None:
        """Open the adjoint of a value that this phase makes: what later steps and phases have sent to it."""
        name = adjoint(ref)
        opened.add(name)
        body(f"    V {name}{{}};")
        if ref.name in self.depth:
            carry = body.pointer("carry", ref, self.places.carry(ref.name, 0))
            body(f"    {name} = load<WHOLE>({carry}, n);")
            body(f"    store<WHOLE>({carry}, V{{}}, n);")
        if ref.name in self.depth or ref == self.kernel.plan.system.output:
            gradient = body.pointer("gradient", ref, self.places.gradient(ref.name))
            body(f"    if ({self.slots(Slot('gradient', ref.name))}) {name} += load<WHOLE>({gradient}, n);")
        if ref.name in self.depth:
            body(f"    {variable('square', ref)} += {name} * {name};")
        if ref in self.kernel.crossing:
            scratch = body.pointer("scratch", ref, self.places.scratch(ref))
            body(f"    {name} += load<WHOLE>({scratch}, n);")
            body(f"    store<WHOLE>({scratch}, V{{}}, n);")

    def pull(self, body: Body, phase: KernelPhase, pull: Scale, opened: set[str], loaded: set[str]) -> None:
        self.load(refs(pull.factor), phase, body, loaded)
        name, target = adjoint(pull.operand), adjoint(pull.target)
        if name not in opened:
            body(f"    V {name}{{}};")
            opened.add(name)
        body(f"    {name} = {pulled(name, pull.factor, target)};")

    def flush(self, body: Body, phase: KernelPhase, pulls: tuple[Scale, ...], vectors: list[str]) -> None:
        """Send the adjoints on: to the products, to earlier steps and phases, to the input and vectors."""
        for group in phase.groups:
            number = self.kernel.groups.index(group)
            if self.same_adjoint(group) == number:
                for part, product in enumerate(group.products):
                    self.keep_adjoint(body, number, part, product.target, "store")
        for ref in dict.fromkeys(pull.operand for pull in pulls):
            if ref.name in self.vectors:
                if ref.name in vectors:
                    body(f"    {identifier(f'sum {ref.name}')} += {adjoint(ref)};")
            elif ref.name in self.places.stream_of:
                self.flush_stream(body, ref)
            elif ref not in phase.made and ref.name not in self.places.mask_of:
                place = body.pointer("to", ref, self.adjoint_place(ref))
                body(f"    add<WHOLE>({place}, {adjoint(ref)}, n);")

    def flush_stream(self, body: Body, ref: Ref) -> None:
        stream, part, _ = self.places.stream_of[ref.name]
        number = len(self.kernel.groups) + stream
        if self.kernel.same_adjoint[number] == number:
            self.keep_adjoint(body, number, part, ref, "store" if self.kernel.is_written_once(ref) else "add")

    def adjoint_place(self, ref: Ref) -> tuple[str, str]:
        """Where an adjoint is added up that leaves the phase: for an earlier step, another phase, the input."""
        if ref.is_past:
            return self.places.carry(ref.name, int(ref.delay or 0))
        if ref.name == "x":
            width = self.places.width(ref)
            return f"{self.slots(Slot('adjoint', 'x'))} + a.at[t] * {width}", width
        return self.places.scratch(ref)

    def keep_adjoint(self, body: Body, number: int, part: int, ref: Ref, how: str) -> None:
        place = body.pointer("kept", ref, self.places.adjoint(number), f"{part} * {self.places.width(ref)}")
        body(f"    {how}<WHOLE>({place}, {adjoint(ref)}, n);")

    def through(self, number: int, phase: KernelPhase) -> None:
        """Send the adjoints of a phase's products back through their matrices."""
        self.begin(f"through_{number}")
        for group in phase.groups:
            if group.operand.name == "x":  # the gradient of the input is one product over all steps, outside
                continue
            index, k = self.kernel.groups.index(group), self.places.width(group.operand)
            rows, height = self.places.adjoint(self.same_adjoint(group))
            target, _ = self.adjoint_place(group.operand)
            self.lines.append(f"  // adjoint of {group.operand} through {', '.join(group.matrices)}")
            self.lines.append(
                f"  back_all(part, {target}, {k}, {rows}, {height}, {self.slots(Slot('back panel', index))});"
            )
        self.lines += ["}", ""]

    # -- row-wise functions ----------------------------------------------------------------------------

    def forward_row(self, number: int, phase: KernelPhase) -> None:
        assert phase.rowwise is not None
        self.lines.append(
            f"// phase {number}: {phase.rowwise.target} = {phase.rowwise.function}({phase.rowwise.operand})"
        )
        self.begin(f"forward_{number}")
        self.row_call(phase, f"{phase.rowwise.function}_row", [])
        self.lines += ["}", ""]

    def backward_row(self, number: int, phase: KernelPhase) -> None:
        assert phase.rowwise is not None
        places = [self.places.scratch(phase.rowwise.target), self.adjoint_place(phase.rowwise.operand)]
        self.lines.append(f"// phase {number}, backward")
        self.begin(f"backward_{number}")
        self.row_call(phase, f"{phase.rowwise.function}_back", places)
        self.lines += ["}", "", f"static void through_{number}(const Call&, const Part&, int64_t) {{}}", ""]

    def row_call(self, phase: KernelPhase, function: str, more: list[tuple[str, str]]) -> None:
        assert phase.rowwise is not None
        places = [self.places.step(phase.rowwise.operand), self.places.step(phase.rowwise.target)]
        found = [f"{base} + b * {stride}{f' + {offset}' if offset else ''}" for base, stride, offset in places]
        found += [f"{base} + b * {stride}" for base, stride in more]
        width = self.places.width(phase.rowwise.target)
        self.lines.append("  for (int64_t b = part.first_row; b < part.last_row; b++)")
        self.lines.append(f"    {function}({', '.join(found)}, {width});")


__all__ = ["Emitted", "emit"]
