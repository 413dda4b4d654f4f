"""Is this one of the three cells that torch has fused? Told from the equations, not from names.

Every sum of products and biases (a pre-activation) becomes one symbol; what is left of an LSTM, a GRU or an
RNN is a short expression, compared with torch's for every way to assign its pre-activations to gates.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import sympy

from unvanish.equations.calculus import FUNCTIONS, Bridge
from unvanish.equations.expression import Compare, Phase, Ref, walk
from unvanish.equations.system import Elementwise, Product, System
from unvanish.equations.transform import PROJECTION

# Torch's cells are small. What is larger is none of them, and would be slow to multiply out: a value doubles
# with every line that reads it twice.
_MOST_NODES, _MOST_OPERATIONS = 60, 24


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
        self.bridge = Bridge()
        self.sums: dict[Any, _Sum] = {}
        self.symbols: dict[_Sum, Any] = {}
        self.products: dict[str, Product] = {}
        self.value: dict[str, Any] = {}
        self.readable = all(self.read(statement) for statement in system.statements)

    def read(self, statement: object) -> bool:
        match statement:
            case Product():
                self.products[statement.target.name] = statement
                return True
            case Elementwise(target, expression):
                if any(isinstance(node, Compare | Phase) for node in walk(expression)):
                    return False
                if sum(1 for _ in walk(expression)) > _MOST_NODES:
                    return False
                whole = self.abstract(self.bridge.to_sympy(expression))
                known = {self.bridge.symbol(ref): self.value[ref.name] for ref in self.present(expression)}
                self.value[target.name] = whole.subs(known)
                return int(sympy.count_ops(self.value[target.name])) <= _MOST_OPERATIONS
        return False

    def present(self, expression: Any) -> list[Ref]:
        return [
            node
            for node in walk(expression)
            if isinstance(node, Ref) and not node.is_past and node.name in self.value
        ]

    def abstract(self, expr: Any) -> Any:
        """Replace every sum that holds a product by one symbol."""
        if not expr.args:
            return self.gathered([expr]) if self.is_product(expr) else expr
        if expr.is_Add:
            parts = [arg for arg in expr.args if self.is_product(arg) or self.is_bias(arg)]
            if any(self.is_product(part) for part in parts):
                return self.gathered(parts) + sum(self.abstract(arg) for arg in expr.args if arg not in parts)
        return expr.func(*(self.abstract(arg) for arg in expr.args))

    def gathered(self, parts: list[Any]) -> Any:
        refs = [self.bridge.from_symbol[part] for part in parts]
        found = [self.products[ref.name] for ref in refs if isinstance(ref, Ref) and ref.name in self.products]
        total = _Sum(
            frozenset(p.matrix for p in found if p.operand == Ref("x", 0)),
            frozenset(p.matrix for p in found if p.operand == Ref(self.system.output.name, 1)),
            frozenset(ref.name for ref in refs if isinstance(ref, Ref) and ref.name not in self.products),
        )
        if len(total.inputs) + len(total.recurrents) < len(found):  # a product of something else
            return sympy.Dummy("foreign")
        if total not in self.symbols:
            self.symbols[total] = sympy.Dummy(f"pre{len(self.symbols)}", real=True)
            self.sums[self.symbols[total]] = total
        return self.symbols[total]

    def is_product(self, expr: Any) -> bool:
        ref = self.bridge.from_symbol.get(expr)
        return isinstance(ref, Ref) and ref.name in self.products

    def is_bias(self, expr: Any) -> bool:
        ref = self.bridge.from_symbol.get(expr)
        return isinstance(ref, Ref) and ref.name in {p.name for p in self.system.parameters}

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

    def gate(self, symbol: Any) -> Gate | None:
        """Return a plain gate: one input matrix, one recurrent matrix, at most two biases."""
        total = self.sums[symbol]
        if len(total.inputs) != 1 or len(total.recurrents) != 1 or len(total.biases) > 2:
            return None
        biases = self.ordered(total.biases)
        return Gate(min(total.inputs), min(total.recurrents), biases[:1], biases[1:])

    def ordered(self, names: frozenset[str]) -> tuple[str, ...]:
        """The input's bias first: the one not marked as the state's."""
        roles = {p.name: p.role for p in self.system.parameters}
        return tuple(sorted(names, key=lambda name: (roles[name] == "hidden_bias", name)))

    def old(self, name: str) -> Any:
        return self.bridge.symbol(Ref(name, 1))

    def match_rnn(self, output: str) -> Fused | None:
        if len(self.system.states) != 1 or len(self.sums) != 1:
            return None
        (symbol,) = self.sums
        for function in ("tanh", "relu"):
            gate = self.gate(symbol)
            if gate is not None and self.value[output] == FUNCTIONS[function](symbol):
                return Fused(f"rnn_{function}", (gate,), (self.system.output.name,))
        return None

    def match_gru(self, output: str) -> Fused | None:
        if len(self.system.states) != 1 or len(self.sums) != 4:
            return None
        sigmoid, tanh = FUNCTIONS["sigmoid"], FUNCTIONS["tanh"]
        wanted, old = sympy.expand(self.value[output]), self.old(output)
        for r, z, n_input, n_recurrent in itertools.permutations(self.sums):
            new = tanh(n_input + sigmoid(r) * n_recurrent)
            if wanted == sympy.expand((1 - sigmoid(z)) * new + sigmoid(z) * old):
                gates = (self.gate(r), self.gate(z), self.split_gate(n_input, n_recurrent))
                whole = tuple(gate for gate in gates if gate is not None)
                return Fused("gru", whole, (output,)) if len(whole) == 3 else None
        return None

    def split_gate(self, from_input: Any, from_state: Any) -> Gate | None:
        x, h = self.sums[from_input], self.sums[from_state]
        if (len(x.inputs), len(x.recurrents), len(h.inputs), len(h.recurrents)) != (1, 0, 0, 1):
            return None
        return Gate(min(x.inputs), min(h.recurrents), self.ordered(x.biases), self.ordered(h.biases))

    def match_lstm(self, output: str) -> Fused | None:
        memories = [state.name for state in self.system.states if state.name != self.system.output.name]
        if len(memories) != 1 or len(self.sums) != 4:
            return None
        sigmoid, tanh, memory = FUNCTIONS["sigmoid"], FUNCTIONS["tanh"], memories[0]
        wanted_memory, wanted_output = self.value[memory], self.value[output]
        for i, f, g, o in itertools.permutations(self.sums):
            new = sigmoid(f) * self.old(memory) + sigmoid(i) * tanh(g)
            if wanted_memory == new and wanted_output == sigmoid(o) * tanh(new):
                gates = tuple(gate for gate in map(self.gate, (i, f, g, o)) if gate is not None)
                states = (self.system.output.name, memory)
                return Fused("lstm", gates, states) if len(gates) == 4 else None
        return None
