"""Plan -> phases: what a step does in C++, forward and backward, before any text is written.

Every costly function gets a statement of its own, so that its derivative can be told from its value and the
value is kept, not worked out again. A phase is a set of products whose operands are ready, followed by
elementwise statements of one width that can stay in registers.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

from unvanish.engine.plan import Group, Plan
from unvanish.equations.calculus import Scale, partials
from unvanish.equations.expression import Binary, Call, Expr, Number, Ref, rebuild, refs
from unvanish.equations.system import Elementwise, Rowwise

COSTLY = ("sigmoid", "tanh", "exp", "log", "softplus", "sqrt", "sin", "cos")


@dataclass(frozen=True, slots=True)
class Assign:
    """target = expression, of one width."""

    target: Ref
    expression: Expr
    width: str


@dataclass(frozen=True, slots=True)
class KernelPhase:
    """Products of ready operands, then statements of one width."""

    width: str
    groups: tuple[Group, ...]
    statements: tuple[Assign, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """adjoint[operand] += factor · adjoint[target]."""

    target: Ref
    operand: Ref
    factor: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """What is emitted: phases, what the backward pass reads again, and who gives and takes what.

    `streams` are hoisted arrays, one value a step; `vectors` are arrays without time or batch.
    """

    plan: Plan
    phases: tuple[KernelPhase, ...]
    pulls: tuple[tuple[Pull, ...], ...]
    saved: tuple[Ref, ...]
    streams: tuple[Group | Ref, ...]
    vectors: tuple[str, ...]
    widths: dict[str, str]

    @property
    def groups(self) -> tuple[Group, ...]:
        """All recurrent groups, in order of phases."""
        return tuple(group for phase in self.phases for group in phase.groups)


def refusal(plan: Plan) -> str | None:
    """Say why a plan cannot be lowered, or None."""
    if any(isinstance(s, Rowwise) for stage in plan.stages for s in stage.statements):
        return "row-wise functions are not emitted yet"
    if not plan.stages:
        return "nothing depends on an earlier step"
    groups = [group for stage in plan.stages for group in stage.groups]
    groups += [part for part in plan.hoisted if isinstance(part, Group)]
    if any(len({product.width for product in group.products}) > 1 for group in groups):
        return "products of one operand have different widths"
    phases = _phases(plan)
    if any(group.products[0].width != phase.width for phase in phases for group in phase.groups):
        return "a product is not as wide as the statements that follow"
    names = {r.name for phase in phases for s in phase.statements for r in refs(s.expression)}
    if any(len(_used_in(name, phases)) > 1 for name in names & {*plan.system.numbers, *_scalars(plan)}):
        return "a number is used in two widths"
    return None


def _scalars(plan: Plan) -> set[str]:
    return {p.name for p in plan.system.parameters if p.role == "scalar"} | {s.target.name for s in plan.once}


@functools.lru_cache(maxsize=256)
def lower(plan: Plan) -> Kernel:
    """Bring a plan into phases."""
    phases = _phases(plan)
    widths = {s.target.name: s.width for phase in phases for s in phase.statements}
    widths |= {p.target.name: p.width for phase in phases for group in phase.groups for p in group.products}
    widths |= {state.name: state.width for state in plan.system.states}
    stepped = {s.target.name for phase in phases for s in phase.statements}
    products = {p.target.name for phase in phases for group in phase.groups for p in group.products}
    states = {state.name for state in plan.system.states}
    outer: dict[str, Ref] = {}
    for phase in phases:
        for ref in [r for s in phase.statements for r in refs(s.expression)] + [g.operand for g in phase.groups]:
            if ref.name not in stepped | products | states:
                outer[ref.name] = ref
    hoisted = {p.target.name for p in plan.hoisted if not isinstance(p, Group)} | {"x"}
    streams: list[Group | Ref] = []
    for part in plan.hoisted:
        if isinstance(part, Group) and any(p.target.name in outer for p in part.products):
            streams.append(part)
            outer = {name: ref for name, ref in outer.items() if name not in {p.target.name for p in part.products}}
            widths |= {p.target.name: p.width for p in part.products}
    for name in [name for name in outer if name in hoisted]:
        streams.append(outer.pop(name))
        widths[name] = (
            "input"
            if name == "x"
            else next(s.width for s in plan.hoisted if not isinstance(s, Group) and s.target.name == name)
        )
    widths |= {name: width for name in outer for width in _used_in(name, phases)}
    pulls = tuple(tuple(p for s in reversed(phase.statements) for p in _pulls(s)) for phase in phases)
    saved = _saved(phases, pulls, states)
    return Kernel(plan, phases, pulls, saved, tuple(streams), tuple(outer), widths)


def _used_in(name: str, phases: tuple[KernelPhase, ...]) -> set[str]:
    """The widths of the statements that read a name."""
    return {p.width for p in phases for s in p.statements for r in refs(s.expression) if r.name == name}


def _phases(plan: Plan) -> tuple[KernelPhase, ...]:
    phases: list[KernelPhase] = []
    for stage in plan.stages:
        pending = list(stage.groups)
        statements: list[Assign] = []
        atoms = _Atoms()
        for statement in stage.statements:
            assert isinstance(statement, Elementwise)
            statements += atoms.split(statement)
        for width, alike in itertools.groupby(statements, key=lambda assign: assign.width):
            phases.append(KernelPhase(width, tuple(pending), tuple(alike)))
            pending = []
        if pending:
            phases.append(KernelPhase(pending[0].products[0].width, tuple(pending), ()))
    return tuple(phases)


class _Atoms:
    def __init__(self) -> None:
        self.count = 0

    def split(self, statement: Elementwise) -> list[Assign]:
        """Give every costly call a statement of its own; a call that is the whole line keeps its name."""
        made: list[Assign] = []

        def named(expr: Expr) -> Ref:
            self.count += 1
            made.append(Assign(Ref(f"{statement.target.name}_{self.count}"), expr, statement.width))
            return made[-1].target

        def visit(expr: Expr) -> Expr:
            expr = rebuild(expr, visit)
            if isinstance(expr, Call) and expr.function in COSTLY:
                return named(atom(expr))
            return expr

        def atom(call: Call) -> Call:
            (argument,) = call.args
            return call if isinstance(argument, Ref) else Call(call.function, (named(argument),))

        whole = statement.expression
        if isinstance(whole, Call) and whole.function in COSTLY:
            final: Expr = atom(Call(whole.function, (visit(whole.args[0]),)))
        else:
            final = visit(whole)
        made.append(Assign(statement.target, final, statement.width))
        return made


def _pulls(statement: Assign) -> list[Pull]:
    """The partial derivatives of a statement, those of costly functions told from their value."""
    match statement.expression:
        case Call(function, (Ref() as argument,)) if function in COSTLY:
            return [Pull(statement.target, argument, _by_value(function, statement.target, argument))]
    terms = partials(Elementwise(statement.target, statement.expression, statement.width))
    return [Pull(term.target, term.operand, term.factor) for term in terms if isinstance(term, Scale)]


def _by_value(function: str, y: Ref, p: Ref) -> Expr:
    one = Number(1.0)
    match function:
        case "sigmoid":
            return Binary("*", y, Binary("-", one, y))
        case "tanh":
            return Binary("-", one, Binary("*", y, y))
        case "exp":
            return y
        case "sqrt":
            return Binary("/", Number(0.5), y)
        case "softplus":
            return Binary("-", one, Call("exp", (Binary("-", Number(0.0), y),)))
        case "log":
            return Binary("/", one, p)
        case "sin":
            return Call("cos", (p,))
    return Binary("-", Number(0.0), Call("sin", (p,)))


def _saved(
    phases: tuple[KernelPhase, ...], pulls: tuple[tuple[Pull, ...], ...], states: set[str]
) -> tuple[Ref, ...]:
    """What goes through memory and is no state: what the backward pass reads, or another phase."""
    made = {s.target for phase in phases for s in phase.statements if s.target.name not in states}
    products = {p.target for phase in phases for group in phase.groups for p in group.products}
    wanted = {ref for one in pulls for pull in one for ref in refs(pull.factor)}
    wanted |= {group.operand for phase in phases for group in phase.groups}
    for phase in phases:
        own = {s.target for s in phase.statements} | {p.target for g in phase.groups for p in g.products}
        wanted |= {ref for s in phase.statements for ref in refs(s.expression)} - own
    order = [s.target for phase in phases for s in phase.statements]
    order += [p.target for phase in phases for group in phase.groups for p in group.products]
    return tuple(ref for ref in order if ref in wanted and ref in made | products)
