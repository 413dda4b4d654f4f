"""What a state keeps of itself from step to step, and what says so: a gate, a leak, or neither.

A state keeps by its direct path, s[t] = keep · s[t-1] + …, past all activations and matrices. A gate is a sigmoid
somewhere in that factor; what opens it is the vector that is added inside the sigmoid, its bias as a rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unvanish.equations.calculus import Scale, partials
from unvanish.equations.expression import Expr, Phase, Ref, refs, walk
from unvanish.equations.system import Elementwise, System


@dataclass(frozen=True, slots=True)
class Gate:
    """One sigmoid of a cell: sigmoid(sign · opener + offset + others + …).

    Attributes:
        line: the line that it stands in.
        opener: the bias, or other vector, that moves it; None where it has none (a cell without biases).
        sign: of the opener inside the sigmoid.
        offset: the plain number inside the sigmoid.
        others: further vectors that are added there (`bh_f`).
        keeps: +1 where more of it keeps more of the state, -1 where less, 0 for a gate that keeps nothing.
    """

    line: str
    opener: str | None
    sign: int
    offset: float
    others: tuple[str, ...]
    keeps: int = 0


@dataclass(frozen=True, slots=True)
class Keep:
    """What a state keeps of itself in a step.

    Attributes:
        state: its name.
        factor: the share that is kept.
        gates: those in the factor.
        leak: the fixed number or parameter that alone says what is kept, where no gate does.
        offset, slope: factor = offset + slope · (the one gate, or the leak), in fixed numbers; None where the
            factor has no such form.
        lets_in: the gate that multiplies all that is taken in, where that is another one.
    """

    state: str
    factor: Expr
    gates: tuple[Gate, ...] = ()
    leak: str | None = None
    offset: Expr | None = None
    slope: Expr | None = None
    lets_in: Gate | None = None


def periods(system: System) -> list[str]:
    """The fixed numbers that say after how many steps a unit does the same again, as p in t % p."""
    lines = [s.expression for s in system.statements if isinstance(s, Elementwise)]
    phases = [node for line in lines for node in walk(line) if isinstance(node, Phase)]
    return [ref.name for phase in phases for ref in refs(phase.period) if ref.name in system.numbers]


def keep_factors(system: System) -> Iterator[tuple[str, Expr]]:
    """Yield what each state keeps of itself directly, by its name.

    That is its factor, where the state before it stands in its own line, and neither an activation nor a product
    with a matrix comes between.

    >>> from unvanish.cells import find
    >>> [(state, str(factor)) for state, factor in keep_factors(find("lstm").system())]
    [('c', 'f')]
    """
    for statement in lines_of_states(system):
        for term in partials(statement):
            if not isinstance(term, Scale) or term.operand != Ref(statement.target.name, 1):
                continue
            if not any(ref.name.startswith("_") for ref in refs(term.factor)):
                yield statement.target.name, term.factor


def lines_of_states(system: System) -> Iterator[Elementwise]:
    """Yield the lines that make the states."""
    names = {state.name for state in system.states}
    for statement in system.statements:
        if isinstance(statement, Elementwise) and statement.target.name in names:
            yield statement
