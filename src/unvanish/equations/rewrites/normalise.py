"""Changes to a checked system: normalisation inside the recurrence, and connections that skip steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from unvanish.equations.expression import Binary, Call, Expr, Ref, rebuild
from unvanish.equations.rewrites.parameters import PROJECTION
from unvanish.equations.system import Elementwise, Parameter, Product, Rowwise, State, Statement, System
from unvanish.errors import OptionError

Norm = Literal["layernorm", "batchnorm"]


def gain(name: str) -> str:
    """Name the vector that scales what is normalised: of a matrix's product, or of a state."""
    return f"gain_{name}"


def shift(name: str) -> str:
    """Name the vector that is added to a normalised state."""
    return f"shift_{name}"


def with_normalisation(system: System, norm: Norm) -> System:
    """Normalise what every matrix gives, and what a function reads of a state of the same step.

    M @ v becomes gain_M * N(M @ v), each matrix by itself, and f(c[t]) becomes f(gain_c * N(c[t]) + shift_c), where
    N takes the mean away and divides by the standard deviation: over the units of a row (`layernorm`), or, unit by
    unit, over the rows of the batch (`batchnorm`). Biases stay as they are, and what is carried on is the state.

    Source: Ba, J. L., Kiros, J. R., Hinton, G. E. (2016). Layer normalization. arXiv:1607.06450, equations
    (20)-(22); Cooijmans, T., Ballas, N., Laurent, C., Gulcehre, C., Courville, A. (2017). Recurrent batch
    normalization. ICLR 2017, equations (6)-(8).

    >>> from unvanish.cells import find
    >>> normed = with_normalisation(find("lstm").system(), "layernorm")
    >>> [parameter.name for parameter in normed.parameters if parameter.name.startswith(("gain", "shift"))][-4:]
    ['gain_W_o', 'gain_U_o', 'gain_c', 'shift_c']
    """
    normaliser = _Normaliser(system, norm)
    for statement in system.statements:
        normaliser.statement(statement)
    _check_free(system, {parameter.name for parameter in normaliser.parameters}, "normalisation")
    return replace(
        system,
        statements=tuple(normaliser.statements),
        parameters=(*system.parameters, *normaliser.parameters),
    )


class _Normaliser:
    def __init__(self, system: System, norm: Norm) -> None:
        self.norm = norm
        self.widths = {state.name: state.width for state in system.states}
        self.statements: list[Statement] = []
        self.parameters: list[Parameter] = []
        self.scaled: dict[str, Ref] = {}

    def statement(self, statement: Statement) -> None:
        match statement:
            case Product(target, matrix, operand, width) if width != PROJECTION:
                raw, normed = Ref(f"__raw{target.name}"), Ref(f"__normed{target.name}")
                self.parameter(gain(matrix), width)
                self.statements += [
                    Product(raw, matrix, operand, width),
                    Rowwise(normed, self.norm, raw, width),
                    Elementwise(target, Binary("*", Ref(gain(matrix)), normed), width),
                ]
            case Elementwise(target, expression, width):
                self.statements.append(Elementwise(target, self.read(expression), width))
            case _:
                self.statements.append(statement)

    def parameter(self, name: str, width: str) -> None:
        parameter = Parameter(name, "vector", width)
        if parameter not in self.parameters:
            self.parameters.append(parameter)

    def read(self, expression: Expr) -> Expr:
        """Let functions read normalised states."""
        match expression:
            case Call(function, (Ref(name, 0),), place) if name in self.widths:
                return Call(function, (self.state(name),), place)
        return rebuild(expression, self.read)

    def state(self, name: str) -> Ref:
        if name not in self.scaled:
            width, normed, scaled = self.widths[name], Ref(f"__normed_{name}"), Ref(f"__scaled_{name}")
            self.parameter(gain(name), width)
            self.parameter(shift(name), width)
            product = Binary("*", Ref(gain(name)), normed)
            self.statements.append(Rowwise(normed, self.norm, Ref(name, 0), width))
            self.statements.append(Elementwise(scaled, Binary("+", product, Ref(shift(name))), width))
            self.scaled[name] = scaled
        return self.scaled[name]


def with_skips(system: System, delays: Sequence[int]) -> System:
    """Let every matrix that meets a state of the last step meet those of `delays` steps back too.

    U @ h[t-1] becomes U @ h[t-1] + U_skip5 @ h[t-5] + …, with a matrix of its own for each delay: along one of them
    the gradient takes one step where it took so many. A product of anything but a bare state stays as it is.

    Source: Lin, T., Horne, B. G., Tiňo, P., Giles, C. L. (1996). Learning long-term dependencies in NARX recurrent
    neural networks. IEEE Transactions on Neural Networks 7, 1329-1338; Zhang, S. et al. (2016). Architectural
    complexity measures of recurrent neural networks. NIPS 2016.

    >>> from unvanish.cells import find
    >>> skipping = with_skips(find("rnn").system(bias=False), (5, 20))
    >>> [parameter.name for parameter in skipping.parameters], skipping.states
    (['W_h', 'U_h', 'U_h_skip5', 'U_h_skip20'], (State(name='h', width='hidden', depth=20),))
    """
    states = {state.name for state in system.states}
    statements: list[Statement] = []
    added: dict[str, list[Parameter]] = {}
    depths: dict[str, int] = {}
    for statement in system.statements:
        if not isinstance(statement, Product) or statement.operand not in {Ref(name, 1) for name in states}:
            statements.append(statement)
            continue
        matrix, state, total = statement.matrix, statement.operand.name, Ref(f"__near{statement.target.name}")
        statements.append(replace(statement, target=total))
        found: Expr = total
        for delay in delays:
            skip = Ref(f"__skip{delay}{statement.target.name}")
            name = f"{matrix}_skip{delay}"
            statements.append(Product(skip, name, Ref(state, delay), statement.width))
            added.setdefault(matrix, []).append(replace(_parameter(system, matrix), name=name))
            found = Binary("+", found, skip)
        statements.append(Elementwise(statement.target, found, statement.width))
        depths[state] = max(delays)
    if not depths:
        raise OptionError("no matrix of this cell meets a state of the last step: there is nothing to skip beside")
    _check_free(system, {parameter.name for some in added.values() for parameter in some}, "skips")
    parameters = [p for parameter in system.parameters for p in (parameter, *added.get(parameter.name, ()))]
    return replace(
        system,
        statements=tuple(statements),
        states=tuple(State(s.name, s.width, max(s.depth, depths.get(s.name, 1))) for s in system.states),
        parameters=tuple(dict.fromkeys(parameters)),
    )


def _check_free(system: System, added: set[str], what: str) -> None:
    """Refuse a change that would bring a name which the cell has."""
    lines = {statement.target.name for statement in system.statements}
    taken = added & (lines | {parameter.name for parameter in system.parameters} | {*system.numbers})
    if taken:
        raise OptionError(f"the cell has a name '{min(taken)}', which {what} would bring: rename it in the cell")


def _parameter(system: System, name: str) -> Parameter:
    return next(parameter for parameter in system.parameters if parameter.name == name)
