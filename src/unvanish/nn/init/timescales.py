"""Initialisers of a layer: they find what keeps a state, from the equations, and say how long it keeps.

A unit with the time scale τ keeps a share of itself in every step. For chrono that is 1 - 1/τ, as in its paper,
where τ = 1 + u is 1 / (what a gate lets go). For leaks it is exp(-1/τ): after τ steps just 1/e is left, and the
share lies between 0 and 1 for any τ above 0, where 1 - 1/τ would forget all at τ = 1.

Shapes: H units.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from unvanish.checks import finite, positive
from unvanish.engine import evaluate
from unvanish.equations import Cell, System
from unvanish.equations.expression import refs
from unvanish.equations.gates import Gate, Keep
from unvanish.errors import OptionError

if TYPE_CHECKING:
    from unvanish.nn.part import Part


def _keeps(layer: Fillable) -> tuple[Keep, ...]:
    from unvanish.equations.keeping import keeps  # which imports SymPy

    return keeps(layer.system)


class Fillable(Protocol):
    """What an initialiser needs of a layer: `Recurrent` is one."""

    cell: Cell
    bias: bool
    options: dict[str, Any]

    @property
    def system(self) -> System:
        """The equations that a part runs."""
        ...

    def parts(self) -> tuple[Part, ...]:
        """Return the parts, whose arrays are read and set by their names in the equations."""
        ...


class LayerInitialiser(abc.ABC):
    """What sets the gates and leaks of a layer that keep its states."""

    @property
    @abc.abstractmethod
    def word(self) -> str:
        """As `init=` takes it."""

    def __repr__(self) -> str:
        return f"<initialiser {self.word}>"

    def fill(self, layer: Fillable, name: str | None = None) -> None:
        """Set what keeps the states of every part, or of that the one parameter or fixed number that is named.

        Raises:
            OptionError: the cell has nothing that keeps a state, or nothing that this could set.
        """
        for one in layer.parts():
            part = _Arrays(layer, one, self.word)
            found = [keep for keep in _keeps(layer) if self.refusal(part, keep) is None]
            if name is None and not found:
                raise OptionError(self._why_not(part))
            if name is not None:
                found = [keep for keep in found if name in self.names(keep)]
                if not found:
                    raise OptionError(self._why_not_this(part, name))
            for keep in found:
                self.set(part, keep, name)

    def names(self, keep: Keep) -> list[str]:
        """Name the parameters and fixed numbers of a state that can be set."""
        return [gate.opener for gate in keep.gates if gate.opener]

    @abc.abstractmethod
    def refusal(self, part: _Arrays, keep: Keep) -> str | None:
        """Say why a state's share cannot be set, None if it can."""

    @abc.abstractmethod
    def set(self, part: _Arrays, keep: Keep, only: str | None) -> None:
        """Set what keeps one state; `only` what is named."""

    def _why_not(self, part: _Arrays) -> str:
        cell, found = part.layer.cell.name, _keeps(part.layer)
        reasons = [reason for keep in found if (reason := self.refusal(part, keep)) is not None]
        if reasons:
            return f"'{self.word}' can set nothing in {cell}: {'; '.join(reasons)}"
        return (
            f"{cell} has no gate that keeps a state, and no leak, so '{self.word}' has nothing to set: take a cell "
            "with a line such as c[t] = f * c[t-1] + …, f = sigmoid(…) (lstm, gru, leaky_rnn)"
        )

    def _why_not_this(self, part: _Arrays, name: str) -> str:
        settable = [n for keep in _keeps(part.layer) if not self.refusal(part, keep) for n in self.names(keep)]
        if not settable:
            return self._why_not(part)
        return (
            f"{name} of {part.layer.cell.name} does not say what a state keeps, so '{self.word}' means nothing for "
            f"it: give it to {' or '.join(settable)}"
        )


@dataclass(frozen=True)
class _Arrays:
    """The arrays of one part of a layer, which are read and set by name."""

    layer: Fillable
    part: Part
    word: str

    def array(self, name: str) -> Tensor:
        return self.part[name]

    def number(self, expr: Any) -> Tensor:
        """Work out what is said by fixed numbers, in double precision."""
        like = torch.empty((), dtype=torch.float64, device=self.part[self.part.system.parameters[0].name].device)
        value = evaluate(expr, lambda ref: self.array(ref.name).double(), None, like)
        return value if isinstance(value, Tensor) else like.new_tensor(value)

    @torch.no_grad()
    def put(self, name: str, value: Tensor | float) -> None:
        array = self.array(name)
        array.copy_(torch.as_tensor(value, device=array.device).expand(array.shape))

    def open(self, gate: Gate, logit_H: Tensor | float, alone: bool) -> None:
        """Let a gate stand at sigmoid(logit) where the input and the state add nothing."""
        assert gate.opener is not None
        self.put(gate.opener, gate.sign * (logit_H - gate.offset))
        for other in () if alone else gate.others:
            self.put(other, 0.0)

    def refusal(self, keep: Keep) -> str | None:
        """Say why neither a gate nor a leak of a state can be set, None if one can."""
        shut = [gate for gate in keep.gates if gate.opener is None]
        if shut:
            why = "" if self.layer.bias else ", for the layer has bias=False: leave that out"
            return f"the gate {shut[0].line} has no bias to set{why}"
        if not keep.gates and keep.leak is None:
            by = ", ".join(dict.fromkeys(ref.name for ref in refs(keep.factor)))
            return f"{keep.state} keeps " + (
                f"by {by}, no gate or leak: set that by name" if by else "a fixed share"
            )
        if keep.leak is None:
            return None
        if keep.leak in self.layer.options:
            return f"{keep.leak} was given to the layer: leave that out, or '{self.word}'"
        if self.array(keep.leak).dim() == 0:
            return (
                f"{keep.leak} is one number for all units, which cannot have a time scale each: declare it as "
                "Drawn or Grouped"
            )
        return None


@dataclass(frozen=True, repr=False)
class ForgetBias(LayerInitialiser):
    """See `forget_bias`."""

    bias: float

    @property
    def word(self) -> str:
        return f"forget:{self.bias:g}"

    def refusal(self, part: _Arrays, keep: Keep) -> str | None:
        if keep.leak is not None:
            return f"{keep.state} keeps by {keep.leak}, which is not a gate with a bias: give 'leaks:1:1000'"
        return part.refusal(keep)

    def set(self, part: _Arrays, keep: Keep, only: str | None) -> None:
        for gate in keep.gates:
            if only in (None, gate.opener):
                part.open(gate, gate.keeps * self.bias, only is not None)


@dataclass(frozen=True, repr=False)
class _TimeScales(LayerInitialiser):
    """Draws how much each unit keeps, and sets its gate or leak to that."""

    @abc.abstractmethod
    def draw(self, like_H: Tensor, fastest: float) -> Tensor:
        """Draw the shares that are kept, like an array; `fastest` is the time scale of a gate that is half open."""

    def names(self, keep: Keep) -> list[str]:
        beside = [keep.leak, keep.lets_in.opener if keep.lets_in else None]
        return [*super().names(keep), *(name for name in beside if name)]

    def refusal(self, part: _Arrays, keep: Keep) -> str | None:
        if len(keep.gates) > 1 or (keep.gates and keep.slope is None):
            lines = ", ".join(gate.line for gate in keep.gates)
            return f"what {keep.state} keeps is said by more than {lines} alone: set the biases by name"
        return part.refusal(keep)

    def set(self, part: _Arrays, keep: Keep, only: str | None) -> None:
        name = keep.leak or keep.gates[0].opener
        assert name is not None
        array = part.array(name)
        if array.is_meta:
            return
        offset, slope = part.number(keep.offset), part.number(keep.slope)
        fastest = 2.0 if keep.leak else float((1 / (1 - (offset + slope / 2))).max())
        keep_H = self.draw(torch.empty_like(array, dtype=torch.float64), fastest)
        at_H = (keep_H - offset) / slope
        if keep.leak is not None:
            part.put(keep.leak, at_H)
            return
        if not bool(((at_H > 0) & (at_H < 1)).all()):
            raise OptionError(
                f"'{self.word}' wants the gate {keep.gates[0].line} of {part.layer.cell.name} outside 0 … 1: the "
                f"fixed numbers {', '.join(part.layer.system.numbers)} set bounds to how fast a state may change"
            )
        if only in (None, name):
            part.open(keep.gates[0], at_H.logit(), only is not None)
        if keep.lets_in is not None and only in (None, keep.lets_in.opener):
            part.open(keep.lets_in, -keep_H.logit(), only is not None)


@dataclass(frozen=True, repr=False)
class Chrono(_TimeScales):
    """See `chrono`."""

    steps: float

    @property
    def word(self) -> str:
        return f"chrono:{self.steps:g}"

    def draw(self, like_H: Tensor, fastest: float) -> Tensor:
        if fastest > self.steps:
            raise OptionError(
                f"'{self.word}' asks for time scales up to {self.steps:g} steps, and the fixed numbers let no gate "
                f"change a state in less than {fastest:.3g}: give 'chrono:{math.ceil(2 * fastest)}' or more"
            )
        return 1 - 1 / like_H.uniform_(fastest, self.steps)


@dataclass(frozen=True, repr=False)
class Leaks(_TimeScales):
    """See `leaks`."""

    shortest: float
    longest: float

    @property
    def word(self) -> str:
        return f"leaks:{self.shortest:g}:{self.longest:g}"

    def draw(self, like_H: Tensor, fastest: float) -> Tensor:
        return (-1 / like_H.uniform_(math.log(self.shortest), math.log(self.longest)).exp()).exp()


def forget_bias(bias: float = 1.0) -> LayerInitialiser:
    """Hold every gate that keeps a state open: it starts at sigmoid(bias), and at 1 minus that where it lets go.

    The gates and their biases are found from the equations (`f` of lstm, `z` of gru, `f` of mgu with the sign
    turned); a second bias of the gate is set to 0.

    Source: Gers, F. A., Schmidhuber, J., Cummins, F. (2000). Learning to forget. Neural Computation 12, 2451-2471;
    Jozefowicz, R., Zaremba, W., Sutskever, I. (2015). An empirical exploration of recurrent network architectures.
    ICML 2015, 2342-2350.

    >>> import unvanish
    >>> layer = unvanish.MGU(2, 3)
    >>> forget_bias(2.0).fill(layer)
    >>> layer["b_f"].tolist()
    [-2.0, -2.0, -2.0]
    """
    return ForgetBias(finite(bias, "the forget bias"))


def chrono(steps: float) -> LayerInitialiser:
    """Let the units keep for all times up to `steps`: b_f = log u, b_i = -b_f, u ~ U(1, steps - 1).

    A gate then keeps 1 - 1/(1 + u) in a step. Any gate that keeps a state is set so, and the gate that multiplies
    all which is taken in, where there is one, lets in what is let go. Where fixed numbers stand beside the gate, as
    dt of lem, its bias is solved for, and u begins where the gate is half open. A leak is set to 1 - 1/(1 + u).

    Source: Tallec, C., Ollivier, Y. (2018). Can recurrent neural networks warp time? ICLR 2018, eq. 16.

    >>> import unvanish
    >>> layer = unvanish.LSTM(2, 100)
    >>> chrono(784).fill(layer)
    >>> bool((layer["b_f"].exp() <= 783.1).all()), torch.equal(layer["b_i"], -layer["b_f"])
    (True, True)
    """
    if finite(steps, "the steps of chrono") < 2:
        raise OptionError(f"chrono takes the longest time to keep for, from 2 steps on, not {steps!r}")
    return Chrono(float(steps))


def leaks(shortest: float = 1.0, longest: float = 1000.0) -> LayerInitialiser:
    """Give each unit a time scale τ of its own, log-uniform in [shortest, longest]: it keeps exp(-1/τ) in a step.

    Set are the fixed numbers (`alpha` of leaky_rnn) or trained ones that say alone what a state keeps, else the
    biases of the gates that do, as `chrono` does.

    Source: Mozer, M. C. (1992). Induction of multiscale temporal structure. NIPS 4, 275-282; spread evenly on a
    logarithmic scale as in Tallec, Ollivier (2018), section 2.

    >>> import unvanish
    >>> layer = unvanish.LeakyRNN(2, 100)
    >>> leaks(10, 1000).fill(layer)
    >>> bool((layer.alpha_l0 >= math.exp(-1 / 10)).all()), bool((layer.alpha_l0 <= math.exp(-1 / 1000)).all())
    (True, True)
    """
    if positive(shortest, "shortest") > positive(longest, "longest"):
        raise OptionError(f"leaks takes the shortest time scale first, not {shortest:g} and {longest:g}")
    return Leaks(float(shortest), float(longest))
