"""Plan -> phases: what a step does in C++, forward and backward, before any text is written.

Every costly function gets a statement of its own, so that its derivative can be told from its value and the
value is kept, not recomputed; so does every function that blanks adjoints. A phase is a set of products
whose operands are ready, followed by elementwise statements of one width that can stay in registers; or one
row-wise function.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeGuard

from unvanish.engine.ir.plan import Group, Plan, Stage, grouped, stages_of
from unvanish.engine.shared import shared
from unvanish.equations.calculus import Scale, partials
from unvanish.equations.expression import Call, Compare, Expr, Number, Ref, rebuild, refs
from unvanish.equations.slopes import read, slopes
from unvanish.equations.system import Elementwise, Product, Rowwise, Statement, map_refs
from unvanish.equations.words import COSTLY, GATES, WORDS

X = Ref("x", 0)


@dataclass(frozen=True, slots=True)
class KernelPhase:
    """Products of ready operands, then statements of one width; or one row-wise function."""

    width: str
    groups: tuple[Group, ...]
    statements: tuple[Elementwise, ...]
    rowwise: Rowwise | None = None

    @property
    def made(self) -> tuple[Ref, ...]:
        """What the phase defines."""
        products = [product.target for group in self.groups for product in group.products]
        return (*products, *([self.rowwise.target] if self.rowwise else ()), *(s.target for s in self.statements))

    @property
    def read_by_unit(self) -> tuple[Ref, ...]:
        """What its statements, or its row-wise function, read."""
        found = [ref for s in self.statements for ref in refs(s.expression)]
        return tuple(dict.fromkeys([*found, self.rowwise.operand] if self.rowwise else found))

    @property
    def read(self) -> tuple[Ref, ...]:
        """What the phase reads, the operands of its products too."""
        return tuple(dict.fromkeys([*self.read_by_unit, *(group.operand for group in self.groups)]))


@dataclass(eq=False)
class Kernel:
    """What is emitted: phases, what the backward pass reads again, and who gives and takes what.

    `pulls` are the terms of the reverse derivative, phase by phase: adjoint[operand] += factor · adjoint[target].
    `streams` are products with the input that are worked out before the loop, for many steps at once; where the
    kernel is folded there are none, and the input is multiplied inside. `vectors` are (name, width) of arrays
    without time or batch.
    """

    plan: Plan
    phases: tuple[KernelPhase, ...]
    pulls: tuple[tuple[Scale, ...], ...]
    saved: tuple[Ref, ...]
    streams: tuple[Group, ...]
    vectors: tuple[tuple[str, str], ...]
    widths: dict[str, str]

    def __post_init__(self) -> None:
        self.groups = tuple(group for phase in self.phases for group in phase.groups)
        # All groups: those inside the loop, then the streams.
        self.all_groups = self.groups + self.streams
        self._pulls_of: dict[Ref, list[Scale]] = {}
        for pull in itertools.chain(*self.pulls):
            self._pulls_of.setdefault(pull.operand, []).append(pull)
        self.crossing = _crossing(self.phases)
        system = self.plan.system
        # What has an adjoint that does not come from the lines of its step alone, and a value that others read.
        between = {ref for phase in self.phases for ref in phase.made if ref in self.crossing}
        self._own = between | {Ref(state.name, 0) for state in system.states} | {system.output}
        # For each group, the first of all groups that has the same adjoint: an LSTM's W @ x[t] has that of its
        # U @ h[t-1]; and the first vector that has the same one: torch's two biases.
        self.same_adjoint = tuple(self._first_alike(number) for number in range(len(self.all_groups)))
        of_vectors = [(self.source(Ref(name)), width) for name, width in self.vectors]
        self.same_vector = {
            vector: self.vectors[of_vectors.index(source)]
            for vector, source in zip(self.vectors, of_vectors, strict=True)
        }
        read = [ref for phase in self.phases for ref in phase.read_by_unit]
        self.reads_x_by_unit = X in read

    def _first_alike(self, number: int) -> int:
        group = self.all_groups[number]
        phase = next((phase for phase in self.phases if group in phase.groups), None)
        sources = [self.source(product.target) for product in group.products]
        for other, candidate in enumerate(self.all_groups[:number]):
            # Inside the loop the adjoint must be there when the phase ends: a stream's is read after the loop.
            near = phase is None or candidate in phase.groups
            if near and [self.source(product.target) for product in candidate.products] == sources:
                return other
        return number

    def source(self, ref: Ref) -> Ref:
        """The value whose adjoint is also that of `ref`: where `ref` is just added to it, and nowhere else read."""
        match self._pulls_of.get(ref):
            case [Scale(target, _, Number(1.0))] if ref not in self._own:
                return self.source(target)
        return ref

    def label(self, name: str, width: str) -> str:
        """Name a vector apart from the same number at another width: that gets a number before its name."""
        widths = [of for other, of in self.vectors if other == name]
        return name if len(widths) == 1 else f"{1 + widths.index(width)} {name}"

    def is_written_once(self, ref: Ref) -> bool:
        """Whether an adjoint comes to a value in exactly one phase."""
        return sum(any(pull.operand == ref for pull in pulls) for pulls in self.pulls) == 1


@shared(256)
def lower(plan: Plan, fold: bool) -> Kernel:
    """Bring a plan into phases; `fold` multiplies the input inside the loop, step by step."""
    once = {statement.target for statement in plan.once}
    statements = [s for s in plan.system.statements if s.target not in once]
    given = {state.name for state in plan.system.states} | {plan.system.output.name}
    outside = [s for s in statements if isinstance(s, Product) and s.operand == X and s.target.name not in given]
    outside = [] if fold else outside
    inside = [s for s in statements if s not in outside]
    phases = _phases(stages_of(inside), _Atoms(_names(plan)))
    again = _read_again(phases) | _read_whole(phases)
    if any(product.target in again for product in outside):
        # A stream is gone when the backward pass comes, and its adjoint has a place for single units alone: what
        # is read again, or by whole rows, is copied into the step, and so kept.
        outside, copies = _copied(outside, again, _Atoms(_names(plan)))
        phases = _phases(stages_of([*copies, *inside]), _Atoms(_names(plan)))
    streams = tuple(g for part in grouped(list(outside)) if isinstance(part, Group) for g in _by_width(part))
    widths = {"x": "input", **{state.name: state.width for state in plan.system.states}}
    widths |= {product.target.name: product.width for stream in streams for product in stream.products}
    widths |= {mask.name: mask.width for mask in plan.system.masks}
    for phase in phases:
        widths |= {ref.name: phase.width for ref in phase.made}
    pulls = _all_pulls(phases)
    saved = _saved(phases, {state.name for state in plan.system.states}, plan.system.output)
    vectors = [
        (ref.name, phase.width)
        for phase in phases
        for ref in phase.read
        if ref.name not in widths and _timeless(ref)
    ]
    return Kernel(plan, phases, pulls, saved, streams, tuple(dict.fromkeys(vectors)), widths)


def _copied(products: list[Product], again: set[Ref], atoms: _Atoms) -> tuple[list[Product], list[Elementwise]]:
    """Give products that are read again a name of their own, and statements that copy them to the old one."""
    changed, copies = [], []
    for product in products:
        if product.target in again:
            fresh = atoms.fresh(product.target)
            copies.append(Elementwise(product.target, fresh, product.width))
            product = Product(fresh, product.matrix, product.operand, product.width)
        changed.append(product)
    return changed, copies


def _all_pulls(phases: tuple[KernelPhase, ...]) -> tuple[tuple[Scale, ...], ...]:
    return tuple(tuple(p for s in reversed(phase.statements) for p in _pulls(s)) for phase in phases)


def _read_again(phases: tuple[KernelPhase, ...]) -> set[Ref]:
    """What the factors of the backward pass read."""
    return {ref for pulls in _all_pulls(phases) for pull in pulls for ref in refs(pull.factor)}


def _read_whole(phases: tuple[KernelPhase, ...]) -> set[Ref]:
    """What row-wise functions and products read."""
    rows = {phase.rowwise.operand for phase in phases if phase.rowwise}
    return rows | {group.operand for phase in phases for group in phase.groups}


def _timeless(ref: Ref) -> bool:
    return ref.delay is None


def _by_width(group: Group) -> list[Group]:
    """Cut a group where its products have different widths."""
    widths = dict.fromkeys(product.width for product in group.products)
    return [Group(group.operand, tuple(p for p in group.products if p.width == width)) for width in widths]


def _names(plan: Plan) -> set[str]:
    system = plan.system
    named = {s.target.name for s in system.statements} | {p.name for p in system.parameters}
    return named | {mask.name for mask in system.masks} | {*system.numbers, "x"}


def _phases(stages: tuple[Stage, ...], atoms: _Atoms) -> tuple[KernelPhase, ...]:
    phases: list[KernelPhase] = []
    for stage in stages:
        pending = [group for mixed in stage.groups for group in _by_width(mixed)]
        for phase in _statement_phases(stage.statements, atoms):
            alone = [
                g for g in pending if phase.rowwise and phase.rowwise.operand in [p.target for p in g.products]
            ]
            phases += [KernelPhase(group.products[0].width, (group,), ()) for group in alone]
            here = [] if phase.rowwise else [g for g in pending if g.products[0].width == phase.width]
            pending = [group for group in pending if group not in here + alone]
            phases.append(KernelPhase(phase.width, tuple(here), phase.statements, phase.rowwise))
        phases += [KernelPhase(group.products[0].width, (group,), ()) for group in pending]
    return tuple(phases)


def _statement_phases(statements: tuple[Statement, ...], atoms: _Atoms) -> list[KernelPhase]:
    """Statements that follow one another with one width go together; a row-wise function stands alone."""
    phases: list[KernelPhase] = []
    for rowwise, some in itertools.groupby(statements, key=lambda s: isinstance(s, Rowwise)):
        if rowwise:
            for statement in some:
                assert isinstance(statement, Rowwise)
                # A state is written by an elementwise statement: that is where its adjoint is begun.
                bare = atoms.fresh(statement.target)
                row = Rowwise(bare, statement.function, statement.operand, statement.width)
                phases.append(KernelPhase(statement.width, (), (), row))
                phases.append(
                    KernelPhase(statement.width, (), (Elementwise(statement.target, bare, statement.width),))
                )
            continue
        assigns = [assign for s in some if isinstance(s, Elementwise) for assign in atoms.split(s)]
        for width, alike in itertools.groupby(assigns, key=lambda assign: assign.width):
            phases.append(KernelPhase(width, (), tuple(alike)))
    return _joined(phases)


def _joined(phases: list[KernelPhase]) -> list[KernelPhase]:
    """Put elementwise phases of one width that follow one another into one."""
    joined: list[KernelPhase] = []
    for phase in phases:
        last = joined[-1] if joined else None
        if last and last.width == phase.width and last.rowwise is None and phase.rowwise is None:
            joined[-1] = KernelPhase(phase.width, (), last.statements + phase.statements)
        else:
            joined.append(phase)
    return joined


class _Atoms:
    """Cuts statements at their costly calls and gates, giving the pieces names that nothing else has."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken

    def fresh(self, whole: Ref) -> Ref:
        """Return a name for a piece of what `whole` names."""
        name = next(n for n in (f"{whole.name}_{k}" for k in itertools.count(1)) if n not in self.taken)
        self.taken.add(name)
        return Ref(name)

    def split(self, statement: Elementwise) -> list[Elementwise]:
        """Give every call that is cut a statement of its own; one that is the whole line keeps its name."""
        made: list[Elementwise] = []

        def named(expr: Expr) -> Ref:
            made.append(Elementwise(self.fresh(statement.target), expr, statement.width))
            return made[-1].target

        def visit(expr: Expr) -> Expr:
            expr = rebuild(expr, visit)
            return named(atom(expr)) if _is_cut(expr) else expr

        def atom(call: Call) -> Call:
            simple = (Ref, Number, Compare)
            return Call(call.function, tuple(a if isinstance(a, simple) else named(a) for a in call.args))

        whole = rebuild(statement.expression, visit)
        final = atom(whole) if _is_cut(whole) else whole
        made.append(Elementwise(statement.target, final, statement.width))
        return made


def _is_cut(expr: Expr) -> TypeGuard[Call]:
    return isinstance(expr, Call) and expr.function in COSTLY + GATES


def _pulls(statement: Elementwise) -> list[Scale]:
    """The partial derivatives of a statement; those of a costly function or a gate as its row has them."""
    match statement.expression:
        case Call("where", (condition, yes, no)):
            none, one = Number(0.0), Number(1.0)
            taken, passed = Call("where", (condition, one, none)), Call("where", (condition, none, one))
            found: list[tuple[Expr, Expr]] = [(yes, taken), (no, passed)]
        case Call(function, args) if function in GATES + COSTLY:
            rows = map(read, WORDS[function].gates) if function in GATES else slopes(function)
            known = {"y": statement.target, **dict(zip("ab", args, strict=False))}
            found = [(arg, map_refs(row, lambda ref: known[ref.name])) for arg, row in zip(args, rows, strict=True)]
        case _:
            return [term for term in partials(statement) if isinstance(term, Scale)]
    return [Scale(statement.target, arg, factor) for arg, factor in found if isinstance(arg, Ref)]


def _saved(phases: tuple[KernelPhase, ...], states: set[str], output: Ref) -> tuple[Ref, ...]:
    """What goes through memory and is no state: the output, what the backward pass reads, or another phase."""
    order = dict.fromkeys(ref for phase in phases for ref in phase.made if ref.name not in states)
    wanted = _read_again(phases) | _crossing(phases)
    return tuple(ref for ref in order if ref in wanted or ref == output)


def _crossing(phases: tuple[KernelPhase, ...]) -> set[Ref]:
    """The values of a step that go from phase to phase: what one reads that it has not made, or multiplies."""
    found = {ref for phase in phases for ref in phase.read if ref not in phase.made}
    found |= {group.operand for phase in phases for group in phase.groups}
    return found | {phase.rowwise.target for phase in phases if phase.rowwise}
