"""Is this one of the three cells that torch has fused? Told from the equations, not from names.

Every sum of products and biases (a pre-activation) becomes one symbol; what is left of an LSTM, a GRU or an
RNN is a short expression, compared with torch's for every way to assign its pre-activations to gates.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from unvanish.equations.expression import Binary, Call, Compare, Expr, Negate, Number, Phase, Ref, walk
from unvanish.equations.rewrites.parameters import PROJECTION
from unvanish.equations.system import Elementwise, Product, Statement, System

# Torch's cells are small. What is larger is none of them, and would be slow to multiply out: a value doubles
# with every line that reads it twice.
_MOST_NODES, _MOST_TERMS = 60, 12


@dataclass(frozen=True, slots=True)
class Gate:
    """What goes into one gate: a matrix for the input, one for the state, and biases on either side."""

    input_matrix: str
    recurrent_matrix: str
    input_biases: tuple[str, ...]
    hidden_biases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fused:
    """One of torch's cells: its kernel, the gates in torch's order, the states in torch's order."""

    kernel: str  # lstm, gru, rnn_tanh, rnn_relu
    gates: tuple[Gate, ...]
    states: tuple[str, ...]
    projection: str | None = None


@dataclass(frozen=True, slots=True)
class _Sum:
    """A pre-activation: the matrices and biases that are added up in it."""

    inputs: frozenset[str]
    recurrents: frozenset[str]
    biases: frozenset[str]


Monomial = frozenset[tuple[Hashable, int]]  # what is multiplied: symbols and calls, with their powers


@dataclass(frozen=True, slots=True)
class _Polynomial:
    """An expression multiplied out: its monomials with their factors. Equal ones are equal objects."""

    terms: frozenset[tuple[Monomial, float]]

    def __add__(self, other: _Polynomial) -> _Polynomial:
        return _added([*self.terms, *other.terms])

    def __sub__(self, other: _Polynomial) -> _Polynomial:
        return self + _number(-1.0) * other

    def __mul__(self, other: _Polynomial) -> _Polynomial:
        return _added([(_joined(a, b), x * y) for a, x in self.terms for b, y in other.terms])


def _added(terms: Iterable[tuple[Monomial, float]]) -> _Polynomial:
    total: dict[Monomial, float] = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0.0) + factor
    return _Polynomial(frozenset((monomial, factor) for monomial, factor in total.items() if factor))


def _joined(one: Monomial, other: Monomial) -> Monomial:
    return frozenset((Counter(dict(one)) + Counter(dict(other))).items())


def _number(value: float) -> _Polynomial:
    return _added([(frozenset(), value)])


def _symbol(meaning: Hashable) -> _Polynomial:
    return _added([(frozenset({(meaning, 1)}), 1.0)])


def _call(function: str, *args: _Polynomial) -> _Polynomial:
    return _symbol((function, *args))


@functools.lru_cache(maxsize=256)
def recognise(system: System) -> Fused | None:
    """Return torch's fused cell that computes just this system, or None.

    >>> from unvanish.cells import find
    >>> recognise(find("lstm").system()).kernel, recognise(find("peephole_lstm").system())
    ('lstm', None)
    """
    if system.uses_time or system.numbers or any(state.depth != 1 for state in system.states):
        return None
    if len(system.states) > 2 or system.output.name not in {state.name for state in system.states}:
        return None
    if system.widths - {"input", "hidden", PROJECTION}:
        return None
    reader = _Reader(system)
    return reader.match() if reader.readable else None


class _Reader:
    """Expresses each state's update by pre-activations and old states."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.sums: set[_Sum] = set()
        self.products: dict[str, Product] = {}
        self.value: dict[str, _Polynomial] = {}
        self.vectors = {parameter.name for parameter in system.parameters}
        self.readable = all(self.read(statement) for statement in system.statements)

    def read(self, statement: Statement) -> bool:
        match statement:
            case Product(target):
                self.products[target.name] = statement
                return True
            case Elementwise(target, expression):
                nodes = list(walk(expression))
                if len(nodes) > _MOST_NODES or any(isinstance(node, Compare | Phase) for node in nodes):
                    return False
                self.value[target.name] = self.polynomial(expression)
                return len(self.value[target.name].terms) <= _MOST_TERMS
        return False

    def polynomial(self, expr: Expr) -> _Polynomial:
        """Multiply out an expression in which every sum that holds a product is one symbol."""
        terms = list(_terms(expr))
        if terms != [(1.0, expr)]:
            return self.sum(terms)
        match expr:
            case Number(value):
                return _number(value)
            case Binary("*", left, right):
                return self.polynomial(left) * self.polynomial(right)
            case Binary(op, left, right):
                return _call(op, self.polynomial(left), self.polynomial(right))
            case Call(function, args):
                return _call(function, *map(self.polynomial, args))
            case Ref(name, delay) if name in self.value and not delay:
                return self.value[name]
            case Ref(name) if name in self.products:
                return self.sum([(1.0, expr)])
        return _symbol(expr)

    def sum(self, terms: list[tuple[float, Expr]]) -> _Polynomial:
        """Add up; products, and the vectors that are added to them, make one symbol."""
        parts = [term.name for factor, term in terms if factor == 1 and self.is_part(term)]
        total = _number(0.0)
        if any(part in self.products for part in parts):
            terms = [(factor, term) for factor, term in terms if factor != 1 or not self.is_part(term)]
            total = _symbol(self.gathered(parts))
        for factor, term in terms:
            total += _number(factor) * self.polynomial(term)
        return total

    def is_part(self, term: Expr) -> TypeGuard[Ref]:
        return isinstance(term, Ref) and (term.name in self.products or term.name in self.vectors)

    def gathered(self, parts: list[str]) -> Hashable:
        """A pre-activation; where it is not a plain one, what no template knows."""
        found = [self.products[part] for part in parts if part in self.products]
        total = _Sum(
            frozenset(p.matrix for p in found if p.operand == Ref("x", 0)),
            frozenset(p.matrix for p in found if p.operand == Ref(self.system.output.name, 1)),
            frozenset(part for part in parts if part not in self.products),
        )
        if len(total.inputs) + len(total.recurrents) + len(total.biases) < len(parts):  # one twice, or of another
            return tuple(sorted(parts))
        self.sums.add(total)
        return total

    def match(self) -> Fused | None:
        projection, output = None, self.system.output.name
        if PROJECTION in self.system.widths:
            product = next(p for p in self.products.values() if p.width == PROJECTION)
            projection, output = product.matrix, product.operand.name
        for template in (self.match_rnn, self.match_gru, self.match_lstm):
            found = template(output)
            if found is not None and (projection is None or found.kernel == "lstm"):
                return Fused(found.kernel, found.gates, found.states, projection)
        return None

    def gate(self, total: _Sum) -> Gate | None:
        """Return a plain gate: one input matrix, one recurrent matrix, at most two biases."""
        if len(total.inputs) != 1 or len(total.recurrents) != 1 or len(total.biases) > 2:
            return None
        biases = self.ordered(total.biases)
        return Gate(min(total.inputs), min(total.recurrents), biases[:1], biases[1:])

    def ordered(self, names: frozenset[str]) -> tuple[str, ...]:
        """The input's bias first: the one not marked as the state's."""
        roles = {p.name: p.role for p in self.system.parameters}
        return tuple(sorted(names, key=lambda name: (roles[name] == "hidden_bias", name)))

    def match_rnn(self, output: str) -> Fused | None:
        if len(self.system.states) != 1 or len(self.sums) != 1:
            return None
        (total,) = self.sums
        gate = self.gate(total)
        for function in ("tanh", "relu"):
            if gate is not None and self.value[output] == _call(function, _symbol(total)):
                return Fused(f"rnn_{function}", (gate,), (self.system.output.name,))
        return None

    def match_gru(self, output: str) -> Fused | None:
        if len(self.system.states) != 1 or len(self.sums) != 4:
            return None
        for sums in itertools.permutations(self.sums):
            r, z, n_input, n_recurrent = map(_symbol, sums)
            new, gate = _call("tanh", n_input + _call("sigmoid", r) * n_recurrent), _call("sigmoid", z)
            if self.value[output] == (_number(1.0) - gate) * new + gate * _symbol(Ref(output, 1)):
                gates = (self.gate(sums[0]), self.gate(sums[1]), self.split_gate(*sums[2:]))
                whole = tuple(gate for gate in gates if gate is not None)
                return Fused("gru", whole, (output,)) if len(whole) == 3 else None
        return None

    def split_gate(self, x: _Sum, h: _Sum) -> Gate | None:
        if (len(x.inputs), len(x.recurrents), len(h.inputs), len(h.recurrents)) != (1, 0, 0, 1):
            return None
        return Gate(min(x.inputs), min(h.recurrents), self.ordered(x.biases), self.ordered(h.biases))

    def match_lstm(self, output: str) -> Fused | None:
        memories = [state.name for state in self.system.states if state.name != self.system.output.name]
        if len(memories) != 1 or len(self.sums) != 4:
            return None
        (memory,) = memories
        for sums in itertools.permutations(self.sums):
            i, f, g, o = map(_symbol, sums)
            kept = _call("sigmoid", f) * _symbol(Ref(memory, 1))
            new = kept + _call("sigmoid", i) * _call("tanh", g)
            wanted = _call("sigmoid", o) * _call("tanh", new)
            if (self.value[memory], self.value[output]) == (new, wanted):
                gates = tuple(gate for gate in map(self.gate, sums) if gate is not None)
                return Fused("lstm", gates, (self.system.output.name, memory)) if len(gates) == 4 else None
        return None


def _terms(expr: Expr, factor: float = 1.0) -> Iterator[tuple[float, Expr]]:
    """What is added up in an expression, with its numeric factors."""
    match expr:
        case Binary("+", left, right):
            yield from _terms(left, factor)
            yield from _terms(right, factor)
        case Binary("-", left, right):
            yield from _terms(left, factor)
            yield from _terms(right, -factor)
        case Negate(operand):
            yield from _terms(operand, -factor)
        case Binary("*", Number(value), operand) | Binary("*" | "/", operand, Number(value)):
            yield from _terms(operand, factor * value if expr.op == "*" else factor / value)
        case Call("identity", (operand,)):
            yield from _terms(operand, factor)
        case _:
            yield factor, expr
