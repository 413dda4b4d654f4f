"""Kernel -> C++: a small printer over phases. The text keeps the names of the equations.

Shapes in the text: T time, B batch, W width of a phase, K width of an operand, R rows of a register block.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

from unvanish.engine.native.lower import Kernel, KernelPhase, Pull
from unvanish.engine.plan import Group
from unvanish.equations.expression import Binary, Call, Compare, Expr, Negate, Number, Phase, Ref, refs, walk

REGISTERS = 24  # accumulators of a product; the rest of 32 hold weights and a broadcast value


@dataclass
class Slots:
    """The pointers that a kernel takes, by what they mean; the order is that of first use in the text."""

    index: dict[str, int] = field(default_factory=dict)

    def __call__(self, meaning: str) -> str:
        self.index.setdefault(meaning, len(self.index))
        return "a." + identifier(meaning)


@dataclass(frozen=True)
class Emitted:
    """A kernel's text and the order of its pointers and sizes."""

    text: str
    pointers: tuple[str, ...]
    sizes: tuple[str, ...]


def identifier(text: str) -> str:
    """Return a name in C++ for what something means."""
    return "".join(c if c.isalnum() else "_" for c in text.replace("[t]", "_now"))


def local(ref: Ref) -> str:
    """Return the local variable that holds a value."""
    return "v_" + identifier(ref.name) + (f"_{ref.delay}_back" if ref.is_past else "")


@functools.lru_cache(maxsize=256)
def emit(kernel: Kernel, double: bool) -> Emitted:
    """Write a kernel's forward and backward pass."""
    return _Emitter(kernel).emit(double)


class _Emitter:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.slots = kernel, Slots()
        self.depth = {state.name: state.depth for state in kernel.plan.system.states}
        self.phase_of: dict[str, int] = {}
        for number, phase in enumerate(kernel.phases):
            for name in self.made(phase):
                self.phase_of[name] = number
        self.stream_of: dict[str, tuple[int, int, int]] = {}  # name -> stream, part, parts
        for number, stream in enumerate(kernel.streams):
            names = [p.target.name for p in stream.products] if isinstance(stream, Group) else [stream.name]
            self.stream_of |= {name: (number, part, len(names)) for part, name in enumerate(names)}
        self.lines: list[str] = []

    @staticmethod
    def made(phase: KernelPhase) -> list[str]:
        """The names that a phase defines."""
        products = [product.target.name for group in phase.groups for product in group.products]
        return products + [statement.target.name for statement in phase.statements]

    def emit(self, double: bool) -> Emitted:
        for number, phase in enumerate(self.kernel.phases):
            self.forward_phase(number, phase)
            self.backward_phase(number, phase)
        self.driver("forward", range(len(self.kernel.phases)))
        self.driver("backward", reversed(range(len(self.kernel.phases))))
        sizes = ("T", "B", *(f"w_{width}" for width in sorted(set(self.kernel.widths.values()))))
        head = [f"typedef {'double' if double else 'float'} real;", '#include "runtime.h"', "#include <omp.h>", ""]
        head += ["struct Call {"]
        head += [f"  real* {identifier(meaning)};  // {meaning}" for meaning in self.slots.index]
        head += [f"  long {size};" for size in sizes]
        head += ["};", ""]
        pointers = tuple(self.slots.index)
        return Emitted("\n".join(head + self.lines) + "\n", pointers, sizes)

    def w(self, width: str) -> str:
        return f"a.w_{width}"

    # -- expressions -----------------------------------------------------------------------------------

    def text(self, expr: Expr) -> str:
        match expr:
            case Number(value):
                return f"set1(real({value!r}))"
            case Ref():
                return local(expr)
            case Negate(operand):
                return f"(-{self.text(operand)})"
            case Binary("**", left, Number(value)):
                return f"power_({self.text(left)}, {int(value)})"
            case Binary(op, left, right) | Compare(op, left, right):
                return f"({self.text(left)} {op} {self.text(right)})"
            case Call("where", (condition, yes, no)):
                return f"select({self.text(condition)}, {self.text(yes)}, {self.text(no)})"
            case Call(function, args):
                return f"{function}_({', '.join(self.text(arg) for arg in args)})"
            case Phase(period):
                return f"remainder_(v_t, {self.text(period)})"
        raise AssertionError(expr)  # pragma: no cover

    # -- where values live -----------------------------------------------------------------------------

    def place(self, ref: Ref, row: str = "row") -> str:
        """The address of a value at step t, row `row`, unit u."""
        name, width = ref.name, self.w(self.kernel.widths.get(ref.name, "hidden"))
        if name in self.depth:
            back = int(ref.delay or 0)
            return f"{self.slots(f'state {name}')} + ((t + {self.depth[name] - back}) * B + {row}) * {width} + u"
        if name in self.stream_of:
            number, part, parts = self.stream_of[name]
            return f"{self.slots(f'stream {number}')} + (t * B + {row}) * {parts} * {width} + {part} * {width} + u"
        return f"{self.slots(f'saved {name}')} + (t * B + {row}) * {width} + u"

    def read(self, ref: Ref) -> str:
        if ref.name in self.kernel.vectors:
            return f"load<WHOLE>({self.slots(f'vector {ref.name}')} + u, n)"
        return f"load<WHOLE>({self.place(ref)}, n)"

    def kept(self, ref: Ref) -> bool:
        return ref.name in self.depth or ref in self.kernel.saved

    # -- forward ---------------------------------------------------------------------------------------

    def forward_phase(self, number: int, phase: KernelPhase) -> None:
        out, w = self.lines.append, self.w(phase.width)
        out(f"// phase {number}: {', '.join(str(s.target) for s in phase.statements)}")
        out("template <int R, bool WHOLE>")
        out(f"static void forward_{number}(const Call& a, long t, long b, long u, long n) {{")
        out("  const long B = a.B;")
        known: set[str] = set()
        for at, group in enumerate(phase.groups):
            index, count = self.kernel.groups.index(group), len(group.products)
            k = self.w(self.kernel.widths[group.operand.name])
            out(f"  V p{at}[R][{count}] = {{}};  // {', '.join(group.matrices)} @ {group.operand}")
            start = self.place(group.operand, "b").removesuffix(" + u")
            panel = f"{self.slots(f'panel {index}')} + u * {count} * {k}"
            out(f"  product<R, {count}>(p{at}, {start}, {k}, {panel}, {k});")
        out("#pragma GCC unroll 8")
        out("  for (int r = 0; r < R; r++) {")
        out("    const long row = b + r;")
        if self.reads_time(phase):
            out(f"    const V v_t = set1({self.slots('time')}[row] + real(t));")
        for at, group in enumerate(phase.groups):
            for part, product in enumerate(group.products):
                out(f"    const V {local(product.target)} = p{at}[r][{part}];")
                known.add(local(product.target))
                if self.kept(product.target):
                    out(f"    store<WHOLE>({self.place(product.target)}, {local(product.target)}, n);")
        for statement in phase.statements:
            self.load_all(refs(statement.expression), known)
            out(f"    const V {local(statement.target)} = {self.text(statement.expression)};")
            known.add(local(statement.target))
            if self.kept(statement.target):
                out(f"    store<WHOLE>({self.place(statement.target)}, {local(statement.target)}, n);")
        out("  }")
        out("}")
        rows = self.rows(phase)
        out(f"static void forward_{number}(const Call& a, long t, long first, long last, int) {{")
        out(f"  for (long u = 0; u < {w}; u += LANES) {{")
        out(f"    const long n = {w} - u < LANES ? {w} - u : LANES;")
        self.row_blocks(f"forward_{number}", rows, "a, t, b, u, n", "    ")
        out("  }")
        out("}")
        out("")

    def row_blocks(self, name: str, rows: int, arguments: str, indent: str) -> None:
        """Go through the rows in register blocks, the largest first."""
        sizes = [size for size in (8, 6, 4, 3, 2, 1) if size <= rows]
        self.lines.append(f"{indent}long b = first;")
        for size in dict.fromkeys([rows, *sizes]):
            self.lines.append(
                f"{indent}for (; b + {size} <= last; b += {size}) "
                f"n == LANES ? {name}<{size}, true>({arguments}) : {name}<{size}, false>({arguments});"
            )

    @staticmethod
    def rows(phase: KernelPhase) -> int:
        columns = sum(len(group.products) for group in phase.groups)
        return max(1, min(8, REGISTERS // columns)) if columns else 4

    @staticmethod
    def reads_time(phase: KernelPhase) -> bool:
        return any(isinstance(node, Phase) for s in phase.statements for node in walk(s.expression))

    def load_all(self, wanted: Iterable[Ref], known: set[str]) -> None:
        for ref in wanted:
            if local(ref) not in known:
                self.lines.append(f"    const V {local(ref)} = {self.read(ref)};")
                known.add(local(ref))

    # -- backward --------------------------------------------------------------------------------------

    def backward_phase(self, number: int, phase: KernelPhase) -> None:
        out, w, pulls = self.lines.append, self.w(phase.width), self.kernel.pulls[number]
        vectors = [n for n in self.kernel.vectors if any(p.operand.name == n for p in pulls)]
        states = [s.target.name for s in phase.statements if s.target.name in self.depth]
        out("template <int R, bool WHOLE>")
        out(f"static void backward_{number}(const Call& a, long t, long b, long u, long n, int thread) {{")
        out("  const long B = a.B;")
        for name in vectors:
            out(f"  V sum_{identifier(name)}{{}};")
        for name in states:
            out(f"  V square_{identifier(name)}{{}};")
        out("#pragma GCC unroll 8")
        out("  for (int r = 0; r < R; r++) {")
        out("    const long row = b + r;")
        if self.reads_time(phase):
            out(f"    const V v_t = set1({self.slots('time')}[row] + real(t));")
        opened, loaded = set[str](), set[str]()
        for name in self.made(phase):
            self.begin_adjoint(name, opened)
        for pull in pulls:
            self.pull(pull, opened, loaded)
        self.flush(phase, pulls)
        out("  }")
        for name in vectors:
            place = f"{self.slots(f'adjoint vector {name}')} + thread * {w} + u"
            out(f"  add<WHOLE>({place}, sum_{identifier(name)}, n);")
        for name in states:
            position = [s.name for s in self.kernel.plan.system.states].index(name)
            norms = self.slots("norms")
            out(
                f"  if ({norms}) ((double*){norms})[(thread * a.T + t) * {len(self.depth)} + {position}] += "
                f"sum_all(square_{identifier(name)});"
            )
        out("}")
        self.backward_rows(number, phase)

    def begin_adjoint(self, name: str, opened: set[str]) -> None:
        """Open the adjoint of a name that this phase defines: what later steps and phases have sent to it."""
        out, key = self.lines.append, identifier(name)
        width = self.w(self.kernel.widths[name])
        out(f"    V a_{key}{{}};")
        opened.add(key)
        if name in self.depth:
            carry = self.carry(name, 0)
            out(f"    a_{key} = load<WHOLE>({carry}, n);")
            out(f"    store<WHOLE>({carry}, V{{}}, n);")
            grad = self.slots(f"gradient {name}")
            out(f"    if ({grad}) a_{key} += load<WHOLE>({grad} + (t * B + row) * {width} + u, n);")
            out(f"    square_{key} += a_{key} * a_{key};")
        elif name == self.kernel.plan.system.output.name:
            grad = self.slots(f"gradient {name}")
            out(f"    if ({grad}) a_{key} += load<WHOLE>({grad} + (t * B + row) * {width} + u, n);")
        if self.crosses(name):
            scratch = f"{self.slots(f'scratch {name}')} + row * {width} + u"
            out(f"    a_{key} += load<WHOLE>({scratch}, n);")
            out(f"    store<WHOLE>({scratch}, V{{}}, n);")

    def carry(self, name: str, back: int) -> str:
        """The address of the adjoint that waits for the state of step t - back."""
        ring = self.depth[name] + 1
        slot = f"((t - {back} + {ring}) % {ring})" if back else f"(t % {ring})"
        return f"{self.slots(f'carry {name}')} + ({slot} * B + row) * {self.w(self.kernel.widths[name])} + u"

    def crosses(self, name: str) -> bool:
        """Whether a value of this step is read in another phase than its own, or multiplied by a matrix."""
        for number, phase in enumerate(self.kernel.phases):
            here = {r.name for s in phase.statements for r in refs(s.expression) if not r.is_past}
            if number != self.phase_of[name] and name in here:
                return True
            if any(group.operand.name == name and not group.operand.is_past for group in phase.groups):
                return True
        return False

    def pull(self, pull: Pull, opened: set[str], loaded: set[str]) -> None:
        self.load_all(refs(pull.factor), loaded)
        out, key, target = self.lines.append, self.key(pull.operand), f"a_{identifier(pull.target.name)}"
        if key not in opened:
            out(f"    V a_{key}{{}};")
            opened.add(key)
        match pull.factor:
            case Number(1.0):
                out(f"    a_{key} += {target};")
            case Number(-1.0) | Negate(Number(1.0)):
                out(f"    a_{key} -= {target};")
            case _:
                out(f"    a_{key} += {self.text(pull.factor)} * {target};")

    @staticmethod
    def key(ref: Ref) -> str:
        return identifier(ref.name) + (f"_{ref.delay}_back" if ref.is_past else "")

    def flush(self, phase: KernelPhase, pulls: tuple[Pull, ...]) -> None:
        """Send the adjoints on: to the products, to earlier steps and phases, to streams and vectors."""
        out = self.lines.append
        for index, group in enumerate(self.kernel.groups):
            if group in phase.groups and aliased_stream(self.kernel, group) is None:
                for part, product in enumerate(group.products):
                    w = self.w(product.width)
                    count = len(group.products)
                    place = f"(t * B + row) * {count} * {w} + {part} * {w} + u"
                    adjoint = f"a_{identifier(product.target.name)}"
                    out(f"    store<WHOLE>({self.slots(f'adjoint group {index}')} + {place}, {adjoint}, n);")
        made = self.made(phase)
        for ref in dict.fromkeys(pull.operand for pull in pulls):
            adjoint = f"a_{self.key(ref)}"
            if ref.is_past:
                out(f"    add<WHOLE>({self.carry(ref.name, int(ref.delay or 0))}, {adjoint}, n);")
            elif ref.name in self.kernel.vectors:
                out(f"    sum_{identifier(ref.name)} += {adjoint};")
            elif ref.name in self.stream_of:
                place = self.place(ref).replace("a.stream_", "a.adjoint_stream_")
                self.slots(f"adjoint stream {self.stream_of[ref.name][0]}")
                once = sum(any(p.operand == ref for p in some) for some in self.kernel.pulls) == 1
                out(f"    {'store' if once else 'add'}<WHOLE>({place}, {adjoint}, n);")
            elif ref.name not in made:
                width = self.w(self.kernel.widths[ref.name])
                out(f"    add<WHOLE>({self.slots(f'scratch {ref.name}')} + row * {width} + u, {adjoint}, n);")

    def backward_rows(self, number: int, phase: KernelPhase) -> None:
        out, w = self.lines.append, self.w(phase.width)
        out(f"static void backward_{number}(const Call& a, long t, long first, long last, int thread) {{")
        out("  const long B = a.B;")
        out(f"  for (long u = 0; u < {w}; u += LANES) {{")
        out(f"    const long n = {w} - u < LANES ? {w} - u : LANES;")
        self.row_blocks(f"backward_{number}", 4, "a, t, b, u, n, thread", "    ")
        out("  }")
        for group in phase.groups:
            index = self.kernel.groups.index(group)
            k = self.w(self.kernel.widths[group.operand.name])
            height = f"{len(group.products)} * {self.w(group.products[0].width)}"
            stream = aliased_stream(self.kernel, group)
            rows = self.slots(f"adjoint group {index}" if stream is None else f"adjoint stream {stream}")
            if group.operand.is_past:
                target = self.carry(group.operand.name, int(group.operand.delay or 0))
                target = target.replace("row", "first").removesuffix(" + u")
            else:
                target = f"{self.slots(f'scratch {group.operand.name}')} + first * {k}"
            panel = self.slots(f"back panel {index}")
            out(f"  // adjoint of {group.operand} through {', '.join(group.matrices)}")
            out(
                f"  back_all(last - first, {target}, {k}, {k}, {rows} + (t * B + first) * {height}, {height}, "
                f"{panel}, {height});"
            )
        out("  (void)B;")
        out("}")
        out("")

    def driver(self, name: str, order: Iterable[int]) -> None:
        """The loop over time: every thread takes rows of its own through all steps, no barrier between."""
        out = self.lines.append
        steps = "long t = 0; t < a.T; t++" if name == "forward" else "long t = a.T - 1; t >= 0; t--"
        out(f'extern "C" void {name}(const Call* call, int threads) {{')
        out("  const Call& a = *call;")
        out("#pragma omp parallel num_threads(threads)")
        out("  {")
        out("    const int thread = omp_get_thread_num(), count = omp_get_num_threads();")
        out("    const long first = a.B * thread / count, last = a.B * (thread + 1) / count;")
        out(f"    for ({steps}) {{")
        for number in order:
            out(f"      {name}_{number}(a, t, first, last, thread);")
        out("    }")
        out("  }")
        out("}")
        out("")


@functools.lru_cache(maxsize=1024)
def aliased_stream(kernel: Kernel, group: Group) -> int | None:
    """Return the stream whose adjoint is that of a group, part by part: an LSTM's W @ x[t] + U @ h[t-1]."""
    for number, stream in enumerate(kernel.streams):
        if isinstance(stream, Group) and len(stream.products) == len(group.products):
            pairs = zip(stream.products, group.products, strict=True)
            if all(_same_adjoint(kernel, one.target, other.target) for one, other in pairs):
                return number
    return None


def _same_adjoint(kernel: Kernel, one: Ref, other: Ref) -> bool:
    found = [[p for pulls in kernel.pulls for p in pulls if p.operand == ref] for ref in (one, other)]
    return all(len(pulls) == 1 and pulls[0].factor == Number(1.0) for pulls in found) and (
        found[0][0].target == found[1][0].target
    )


__all__ = ["Emitted", "aliased_stream", "emit"]
