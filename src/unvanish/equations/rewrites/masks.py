"""Changes to a checked system that a layer's regularisers ask for: recurrent dropout, zoneout.

What is drawn for a pass stands in `System.masks`. The names made here begin with two underscores, as no other does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unvanish.equations.expression import Binary, Expr, Number, Ref
from unvanish.equations.system import Elementwise, Mask, Product, Rowwise, Statement, System, map_refs, reads


def dropout_mask(state: str) -> str:
    """Name the mask that recurrent dropout multiplies a state with."""
    return f"__dropout_{state}"


def zoneout_mask(state: str) -> str:
    """Name the mask that says which units of a state zoneout keeps."""
    return f"__zoneout_{state}"


def with_recurrent_dropout(system: System) -> System:
    """Multiply every past state that a matrix meets with a mask, one for each row, the same at all steps.

    U @ h[t-1] becomes U @ (m_h * h[t-1]), and U @ (r * h[t-1]) becomes U @ (r * (m_h * h[t-1])); what reads a state
    unit by unit keeps it whole. A system without such a product comes back without masks.

    Source: Gal, Y., Ghahramani, Z. (2016). A theoretically grounded application of dropout in recurrent neural
    networks. NIPS 2016, 1019-1027.

    >>> from unvanish.cells import find
    >>> dropped = with_recurrent_dropout(find("rnn").system(bias=False))
    >>> [str(statement.target) for statement in dropped.statements], dropped.masks
    (['_W_h', '__dropped_1_h', '_U_h', 'h[t]'], (Mask(name='__dropout_h', width='hidden', of='row'),))
    """
    dropper = _Dropper(system)
    for statement in system.statements:
        if isinstance(statement, Product):
            statement = replace(statement, operand=dropper.entering(statement.operand))
        dropper.statements.append(statement)
    met = {ref.name for ref in dropper.dropped if ref.is_past}
    masks = tuple(Mask(dropout_mask(s.name), s.width, "row") for s in system.states if s.name in met)
    return replace(system, statements=_needed(dropper.statements, system), masks=system.masks + masks)


class _Dropper:
    """Gives what enters a product a copy in which past states are masked."""

    def __init__(self, system: System) -> None:
        self.widths = {state.name: state.width for state in system.states}
        self.made = {s.target: s for s in system.statements if s.target.name not in self.widths}
        self.dropped: dict[Ref, Ref] = {}
        self.statements: list[Statement] = []

    def entering(self, ref: Ref) -> Ref:
        """Return what a product is to read instead: the line that makes its operand is followed, no further."""
        if ref.is_past:
            return self.masked(ref)
        copy = Ref(f"__dropped_{ref.name}")
        match self.made.get(ref):
            case Elementwise(_, expression, width) as line if any(read.is_past for read in reads(line)):
                changed: Statement = Elementwise(copy, map_refs(expression, self.masked), width)
            case Rowwise(_, function, operand, width) if (entering := self.entering(operand)) != operand:
                changed = Rowwise(copy, function, entering, width)
            case _:
                return ref
        return self.once(ref, changed)

    def masked(self, ref: Ref) -> Ref:
        """Return a past state times its mask, and anything else as it is."""
        if not ref.is_past:
            return ref
        product = Binary("*", Ref(dropout_mask(ref.name)), ref)
        return self.once(ref, Elementwise(Ref(f"__dropped_{ref.delay}_{ref.name}"), product, self.widths[ref.name]))

    def once(self, ref: Ref, statement: Statement) -> Ref:
        if ref not in self.dropped:
            self.dropped[ref] = statement.target
            self.statements.append(statement)
        return self.dropped[ref]


def _needed(statements: list[Statement], system: System) -> tuple[Statement, ...]:
    """Leave out what nothing reads any more."""
    wanted, kept = {system.output.name, *(state.name for state in system.states)}, list[Statement]()
    for statement in reversed(statements):
        if statement.target.name in wanted:
            kept.append(statement)
            wanted |= {ref.name for ref in reads(statement) if not ref.is_past}
    return tuple(reversed(kept))


def with_zoneout(system: System, shares: Mapping[str, float], *, drawn: bool) -> System:
    """Let each unit of the states named keep its old value with a probability p, its share.

    With s' for what the equations make of a state s, s[t] = z * s[t-1] + (1 - z) * s', where z is a mask with one
    value a unit and step where it is `drawn`, and p itself, its expectation, where not. What the cell reads of s
    within the step is s'; later steps, and the output, have s[t].

    Source: Krueger, D. et al. (2017). Zoneout: regularizing RNNs by randomly preserving hidden activations.
    ICLR 2017.

    >>> from unvanish.cells import find
    >>> zoned = with_zoneout(find("lstm").system(), {"c": 0.5}, drawn=True)
    >>> [str(statement.target) for statement in zoned.statements[-3:]], zoned.masks
    (['__new_c', 'h[t]', 'c[t]'], (Mask(name='__zoneout_c', width='hidden', of='step'),))
    """
    new = {Ref(name, 0): Ref(f"__new_{name}") for name in shares}
    statements = [_redirected(statement, new) for statement in system.statements]
    masks = []
    for state in system.states:
        if state.name in shares:
            share = shares[state.name]
            keeps: Expr = Ref(zoneout_mask(state.name), 0) if drawn else Number(share)
            takes: Expr = Binary("-", Number(1.0), keeps) if drawn else Number(1.0 - share)
            target = Ref(state.name, 0)
            mixed = Binary("+", Binary("*", keeps, Ref(state.name, 1)), Binary("*", takes, new[target]))
            statements.append(Elementwise(target, mixed, state.width))
            masks += [Mask(zoneout_mask(state.name), state.width, "step")] if drawn else []
    return replace(system, statements=tuple(statements), masks=system.masks + tuple(masks))


def _redirected(statement: Statement, new: Mapping[Ref, Ref]) -> Statement:
    target = new.get(statement.target, statement.target)
    if isinstance(statement, Elementwise):
        expression = map_refs(statement.expression, lambda ref: new.get(ref, ref))
        return Elementwise(target, expression, statement.width)
    return replace(statement, target=target, operand=new.get(statement.operand, statement.operand))
