"""What says how much a state keeps: the gates of its factor, or its leak, found with SymPy.

SymPy takes half a second to import, so this file is imported late.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sympy

from unvanish.equations.expression import Binary, Call, Expr, Negate, Number, Ref, rebuild
from unvanish.equations.gates import Gate, Keep, keep_factors, lines_of_states
from unvanish.equations.symbolic import Bridge
from unvanish.equations.system import Elementwise, System, map_refs

_MAX_NODES = 300  # of a factor with its lines written out, which may double in length with each of them


@functools.lru_cache(maxsize=256)
def keeps(system: System) -> tuple[Keep, ...]:
    """Say of each state that keeps itself directly what says how much.

    >>> from unvanish.cells import find
    >>> [(keep.gates[0].opener, keep.gates[0].keeps) for keep in keeps(find("mgu").system())]
    [('b_f', -1)]
    >>> [keep.leak for keep in keeps(find("leaky_rnn").system())]
    ['alpha']
    >>> keeps(find("lstm").system())[0].lets_in.opener
    'b_i'
    """
    lines = {statement.target.name: statement for statement in lines_of_states(system)}
    return tuple(_Reader(system).keep(lines[state], factor) for state, factor in keep_factors(system))


class _Reader:
    """Writes out the lines of a system down to its gates, each of which becomes a name."""

    def __init__(self, system: System) -> None:
        states = {state.name for state in system.states}
        self.system = system
        self.vectors = {p.name: p for p in system.parameters if p.columns is None}
        self.made = {
            s.target: s.expression
            for s in system.statements
            if isinstance(s, Elementwise) and s.target.name not in states
        }
        self.found: dict[Ref, Gate] = {}
        self.names: dict[Expr, Ref] = {}
        self.left = _MAX_NODES
        self.bridge = Bridge()

    def keep(self, statement: Elementwise, factor: Expr) -> Keep:
        whole = self.bridge.to_sympy(self.opened(factor, statement.target.name))
        inside = {ref for ref in self.found if self.bridge.symbol(ref) in whole.free_symbols}
        gates = {ref: replace(self.found[ref], keeps=self.direction(whole, ref)) for ref in self.found}
        of_factor = {ref: gate for ref, gate in gates.items() if ref in inside and gate.keeps}
        keep = Keep(statement.target.name, factor, tuple(of_factor.values()))
        by = self.only(whole, set(of_factor))
        if by is None or inside - set(of_factor):
            return keep
        slope = sympy.diff(whole, self.bridge.symbol(by))
        offset = sympy.expand(whole - slope * self.bridge.symbol(by))
        return replace(
            keep,
            leak=None if of_factor else by.name,
            offset=self.bridge.from_sympy(offset),
            slope=self.bridge.from_sympy(slope),
            lets_in=self.lets_in(statement, of_factor),
        )

    def opened(self, expr: Expr, line: str) -> Expr:
        """Write out what an expression reads, with a name for each sigmoid that it comes to."""
        self.left -= 1
        if self.left < 0:
            return expr
        match expr:
            case Call("sigmoid", (argument,)):
                if expr not in self.names:
                    self.names[expr] = Ref(f"__gate_{len(self.names)}")
                    self.found[self.names[expr]] = self.gate(line, argument)
                return self.names[expr]
            case Ref() if expr in self.made:
                return self.opened(self.made[expr], expr.name)
        return rebuild(expr, lambda child: self.opened(child, line))

    def gate(self, line: str, argument: Expr) -> Gate:
        added = list(self.addends(argument, 1))
        offset = sum((sign * term.value for sign, term in added if isinstance(term, Number)), 0.0)
        vectors = [(sign, t.name) for sign, t in added if isinstance(t, Ref) and t.name in self.vectors]
        vectors.sort(key=lambda found: self.vectors[found[1]].role != "bias")
        if not vectors:
            return Gate(line, None, 1, offset, ())
        (sign, opener), *others = vectors
        return Gate(line, opener, sign, offset, tuple(name for _, name in others))

    def addends(self, expr: Expr, sign: int) -> Iterator[tuple[int, Expr]]:
        self.left -= 1
        match expr:
            case Binary("+", left, right):
                yield from self.addends(left, sign)
                yield from self.addends(right, sign)
            case Binary("-", left, right):
                yield from self.addends(left, sign)
                yield from self.addends(right, -sign)
            case Negate(operand):
                yield from self.addends(operand, -sign)
            case Ref() if expr in self.made and self.left > 0:
                yield from self.addends(self.made[expr], sign)
            case _:
                yield sign, expr

    def direction(self, whole: Any, ref: Ref) -> int:
        """Say whether more of a gate keeps more: the sign of the derivative, tried at values of all else.

        Gates lie between 0 and 1, and fixed numbers are taken to be positive, as time steps and shares are.
        """
        slope = sympy.diff(whole, self.bridge.symbol(ref))
        if any(self.meaning(symbol) is None for symbol in slope.free_symbols):
            return 0
        symbols = sorted(slope.free_symbols, key=str)
        signs = set()
        for turn in range(3):
            values = {symbol: (0.2, 0.5, 0.8)[(turn + i) % 3] for i, symbol in enumerate(symbols)}
            try:
                signs.add(int(sympy.sign(float(slope.subs(values)))))
            except TypeError:  # a function of the language, which stays as it stands
                return 0
        return signs.pop() if len(signs) == 1 else 0

    def meaning(self, symbol: Any) -> Ref | None:
        """Return the gate or fixed number that a symbol stands for, None for anything else."""
        ref = self.bridge.from_symbol[symbol]
        known = isinstance(ref, Ref) and (ref in self.found or ref.name in self.system.numbers)
        return ref if known and isinstance(ref, Ref) else None

    def only(self, whole: Any, gates: set[Ref]) -> Ref | None:
        """Return the one gate, else the one name, in which the factor is a straight line."""
        names = [self.bridge.from_symbol[symbol] for symbol in whole.free_symbols]
        candidates = list(gates) or names
        if len(candidates) != 1 or not isinstance(candidates[0], Ref):
            return None
        by = candidates[0]
        others = [ref for ref in names if ref != by]
        settable = gates or by.name in self.system.numbers or by.name in self.vectors
        straight = sympy.diff(whole, self.bridge.symbol(by), 2) == 0
        fixed = all(isinstance(ref, Ref) and ref.name in self.system.numbers for ref in others)
        return by if settable and straight and fixed else None

    def lets_in(self, statement: Elementwise, of_factor: dict[Ref, Gate]) -> Gate | None:
        """Return the gate that all which is taken in is a multiple of, as wide as the one that keeps."""
        before = Ref(statement.target.name, 1)
        taken = map_refs(statement.expression, lambda ref: Number(0.0) if ref == before else ref)
        rest = self.bridge.to_sympy(self.opened(taken, statement.target.name))
        for ref, gate in self.found.items():
            symbol = self.bridge.symbol(ref)
            if ref in of_factor or symbol not in rest.free_symbols or not of_factor:
                continue
            if sympy.expand(sympy.diff(rest, symbol) * symbol - rest) == 0 and self.as_wide(gate, of_factor):
                return gate
        return None

    def as_wide(self, gate: Gate, of_factor: dict[Ref, Gate]) -> bool:
        openers = [gate.opener, *(other.opener for other in of_factor.values())]
        apart = None not in openers and len(set(openers)) == len(openers)
        return apart and len({self.vectors[name].rows for name in openers if name}) == 1
