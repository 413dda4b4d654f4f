"""One recurrence by itself: a layer of a stack in one direction, or a module that is called once a step.

What is measured along time (Jacobians, Lyapunov exponents, gates) is measured of such a part with its input held
fixed, whatever model it sits in.

Shapes: T time, B batch, I input, N full state (all of a part's states side by side, with the earlier values of a
state that is read several steps back).
"""

from __future__ import annotations

import abc
import copy
import math
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.engine import Tap
from unvanish.equations.gates import periods
from unvanish.errors import FlowError, nearest
from unvanish.flow.finding.convert import as_layer
from unvanish.nn import part as nn_part

SAME_ROWS = 1e-6  # of a state's size: rows that differ by less are the same but for rounding
Hx = Tensor | Sequence[Tensor] | None


class Part(abc.ABC):
    """A recurrence with the input that it was given.

    Attributes:
        name: `l0`, `encoder.l1_reverse`, `decoder.cell`.
        changed_between: for a module that is called once a step, by how much of its norm a state differs from what
            the call before gave: something stands between the calls.
        squares_DKS: what is left of random directions k steps back, squared, by direction and state, where that was
            measured in the graph of the model's own run.
        direct: what each unit of each state keeps of itself in a step, past all else, where that was estimated.
        whole: the rate at which a gradient shrinks, in nats a step, were all of one state kept that way.
    """

    name: str
    changed_between: float = 0.0
    squares_DKS: NDArray[np.float64] | None = None
    direct: Mapping[str, Tensor] = types.MappingProxyType({})
    whole: Mapping[str, float] = types.MappingProxyType({})

    @property
    @abc.abstractmethod
    def widths(self) -> dict[str, int]:
        """How many numbers of the full state each state takes, in their order."""

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """How many steps the input has: T."""

    def slices(self) -> dict[str, slice]:
        """Where each state lies in the full state."""
        found, start = {}, 0
        for name, width in self.widths.items():
            found[name] = slice(start, start + width)
            start += width
        return found

    def newest(self) -> dict[str, slice]:
        """Where the newest value of each state lies in the full state."""
        return self.slices()

    @property
    def period(self) -> int:
        """After how many steps the recurrence does the same again: by its delays, or by a period of its own."""
        return 1


class SteppedPart(Part):
    """A part of which any step can be run by itself."""

    _trajectory: Tensor | None = None
    _exact: SteppedPart | None = None

    @abc.abstractmethod
    def _initial(self) -> Tensor:
        """Return the full state before the first step, (B, N)."""

    @abc.abstractmethod
    def _run_through(self) -> Tensor:
        """Work `trajectory` out."""

    @abc.abstractmethod
    def _in_double(self) -> SteppedPart:
        """Make what `double` returns."""

    @abc.abstractmethod
    def step(self, t: int) -> Callable[[Tensor], Tensor]:
        """Return step t as a map of the full state, (B, N) -> (B, N)."""

    def trajectory(self) -> Tensor:
        """Return the full state before every step, and after the last, (T + 1, B, N); worked out once."""
        if self._trajectory is None:
            with torch.no_grad():
                self._trajectory = self._run_through()
        return self._trajectory

    def sizes(self) -> dict[str, float]:
        """How large each state is along the trajectory, see `size_of`."""
        s_TBN = self.trajectory()
        return {name: size_of(s_TBN[..., place]) for name, place in self.newest().items()}

    def state_before(self, t: int) -> Tensor:
        """Return the full state before step t, (B, N); that before the first is known without a run."""
        return self.trajectory()[t] if t else self._initial()

    def double(self) -> SteppedPart:
        """Return the same part in double precision; made once, and itself where it was made so."""
        if self._exact is None:
            self._exact = self._in_double()
            self._exact._exact = self._exact
        return self._exact

    def push(self, t: int, s_BN: Tensor, tangents_BNK: Tensor) -> Tensor:
        """Send K directions through step t: J(s) · tangents, (B, N, K)."""

        def one(direction_BN: Tensor) -> Tensor:
            moved: Tensor = torch.func.jvp(self.step(t), (s_BN,), (direction_BN,))[1]
            return moved

        with warnings.catch_warnings():  # torch loads its own derivatives through what it warns of
            warnings.simplefilter("ignore", DeprecationWarning)
            found: Tensor = torch.func.vmap(one, -1, -1, randomness="same")(tangents_BNK)
        return found


@dataclass
class LayerPart(SteppedPart):
    """A part whose equations are known: `layer_part`, with the states that it began with, (B, D·W) each, then t."""

    name: str
    layer_part: nn_part.Part
    x_TBI: Tensor
    initial: Sequence[Tensor]

    @property
    def widths(self) -> dict[str, int]:
        return {name: self.layer_part.widths[name] for name in self.layer_part.states}

    @property
    def steps(self) -> int:
        return self.x_TBI.shape[0]

    def newest(self) -> dict[str, slice]:
        depth = {state.name: state.depth for state in self.layer_part.system.states}
        return {
            name: slice(place.start, place.start + (place.stop - place.start) // depth[name])
            for name, place in self.slices().items()
        }

    @property
    def period(self) -> int:
        system = self.layer_part.system
        own = [state.depth for state in system.states]
        for name in periods(system):
            values = self.layer_part[name]
            own.append(math.ceil(float(values.detach().abs().max())))
        return max(own, default=1)

    def run(
        self,
        first: int,
        last: int,
        s_BN: Tensor,
        taps: tuple[Tap, ...] = (),
        engine: str | None = None,
        copies: int = 1,
    ) -> Tensor:
        """Run the steps from `first` up to `last` from a full state, (B, N) -> (B, N).

        With `copies` there are as many states for each row of the input: all rows, and then all once more.
        """
        states, x_TBI = list(torch.split(s_BN, list(self.widths.values()), -1)), self.x_TBI[first:last]
        count = len(states)
        if len(self.initial) > count:  # the cell reads t
            states.append((self.initial[-1] + first).repeat(copies, 1))
        x_TBI = x_TBI.repeat(1, copies, 1) if copies > 1 else x_TBI
        ran = self.layer_part.run(x_TBI, states, taps=taps, first=first, engine=engine)
        return torch.cat(ran.final[:count], -1)

    def step(self, t: int) -> Callable[[Tensor], Tensor]:
        return lambda s_BN: self.run(t, t + 1, s_BN, engine="reference")

    def push(self, t: int, s_BN: Tensor, tangents_BNK: Tensor) -> Tensor:
        """Send K directions through step t: the derivative of wᵀ J by w, which costs a third of forward mode."""
        start_BN = s_BN.detach().requires_grad_()
        with torch.enable_grad():
            end_BN = self.step(t)(start_BN)
            w_BN = torch.zeros_like(end_BN, requires_grad=True)
            if not end_BN.requires_grad:
                return torch.zeros_like(tangents_BNK)
            (pulled_BN,) = torch.autograd.grad(end_BN, start_BN, w_BN, create_graph=True, materialize_grads=True)
            if not pulled_BN.requires_grad:
                return torch.zeros_like(tangents_BNK)
        moved_KBN = torch.autograd.grad(pulled_BN, w_BN, tangents_BNK.permute(2, 0, 1), is_grads_batched=True)[0]
        return moved_KBN.permute(1, 2, 0)

    def _initial(self) -> Tensor:
        return torch.cat(list(self.initial[: len(self.widths)]), -1)

    def _run_through(self) -> Tensor:
        ran, found = self.layer_part.run(self.x_TBI, self.initial, every=True), []
        for (name, width), state in zip(self.widths.items(), self.initial, strict=False):
            newest_TBW = ran.every[name]
            depth = width // newest_TBW.shape[-1]
            past_TBW = torch.cat([torch.stack(state.chunk(depth, -1)[::-1]), newest_TBW])
            found += [past_TBW[depth - 1 - back : len(past_TBW) - back] for back in range(depth)]
        return torch.cat(found, -1)

    def _in_double(self) -> LayerPart:
        initial = [state.double() if state.is_floating_point() else state for state in self.initial]
        return LayerPart(self.name, self.layer_part.to(torch.float64), self.x_TBI.double(), initial)


@dataclass
class CallPart(SteppedPart):
    """A module that a model calls once a step, with what it was called with.

    `calls` holds the arguments of every step, `before` the states among them, `after` what the last step left;
    `put` exchanges the states among the arguments, `take` finds them in what is returned.
    """

    name: str
    module: nn.Module
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    before: list[list[Tensor]]
    after: Tensor
    names: tuple[str, ...]
    put: Callable[[tuple[Any, ...], dict[str, Any], list[Tensor]], tuple[tuple[Any, ...], dict[str, Any]]]
    take: Callable[[Any], list[Tensor]]

    @property
    def widths(self) -> dict[str, int]:
        return {name: state.shape[-1] for name, state in zip(self.names, self.before[0], strict=True)}

    @property
    def steps(self) -> int:
        return len(self.calls)

    def step(self, t: int) -> Callable[[Tensor], Tensor]:
        args, keywords = self.calls[t]

        def run(s_BN: Tensor) -> Tensor:
            parts = list(torch.split(s_BN, list(self.widths.values()), -1))
            put_args, put_keywords = self.put(args, keywords, parts)
            return torch.cat(self.take(self.module(*put_args, **put_keywords)), -1)

        return run

    def _initial(self) -> Tensor:
        return torch.cat(self.before[0], -1).detach()

    def _run_through(self) -> Tensor:
        before = [torch.cat(states, -1).detach() for states in self.before]
        return torch.stack([*before, self.after])

    def _in_double(self) -> CallPart:
        calls = [(_double(args), _double(keywords)) for args, keywords in self.calls]
        before = [[state.double() for state in states] for states in self.before]
        module = copy.deepcopy(self.module).double()
        return CallPart(self.name, module, calls, before, self.after.double(), self.names, self.put, self.take)


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _double(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_double(inner) for inner in value)
    return value


def parts_of(layer: nn.Module, x: Tensor, hx: Hx = None, training: bool = False) -> dict[str, LayerPart]:
    """Take a stack apart: every layer and direction by itself, with the input that it gets.

    Args:
        layer: a `Recurrent`, or torch.nn.RNN, LSTM or GRU.
        x: the input as the layer takes it, batched.
        hx: states to start from, as the layer takes them.
        training: whether they draw what the layer draws in training.

    Raises:
        FlowError: the layer is not recurrent, or the input is not batched.

    >>> import unvanish
    >>> found = parts_of(unvanish.Recurrent("gru_reset_before", 3, 4, num_layers=2), torch.randn(7, 2, 3))
    >>> {name: tuple(part.x_TBI.shape) for name, part in found.items()}
    {'l0': (7, 2, 3), 'l1': (7, 2, 4)}
    """
    ours = as_layer(layer)
    if x.dim() != 3:
        raise FlowError(
            f"the input has shape {tuple(x.shape)}: give a batch, time and width as the layer takes them"
        )
    given = ours.zero_states(x.shape[0 if ours.batch_first else 1]) if hx is None else as_states(hx)
    dtype = next(iter(ours.part("l0").arrays.values())).dtype  # under autocast an input may come in another
    x_TBI = (x.transpose(0, 1) if ours.batch_first else x).detach().to(dtype)
    given = tuple(state.to(dtype) if state.is_floating_point() else state for state in given)
    with torch.no_grad():
        ran = [one for layer in ours.walk(x_TBI, given, training) for one in layer.ran]
    return {one.part.name: LayerPart(one.part.name, one.part, one.x_TBI, one.states) for one in ran}


def as_states(hx: Hx) -> tuple[Tensor, ...]:
    """Return what a layer takes or gives as states as a tuple of them: none for None."""
    return () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)


def as_hx(states: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...] | None:
    """Return states as a layer takes them: one alone, several as a tuple, none as None."""
    return states if len(states) > 1 else states[0] if states else None


def size_of(values_TB: Tensor) -> float:
    """How large a state is: the root of the mean square of that by which the rows of the batch differ at each step.

    What all rows have in common tells nothing of the input, such as the running maximum that stabilises exponential
    gates. Where they do not differ, the root of the mean square of all; 1 where that is zero, or not finite.
    """
    values = values_TB.detach().double()
    whole = float(values.square().mean().sqrt())
    if values.dim() > 2 and values.shape[1] > 1:
        apart = float((values - values.mean(1, keepdim=True)).square().mean().sqrt())
        whole = apart if apart > SAME_ROWS * whole else whole
    return whole if 0 < whole < math.inf else 1.0


def chosen(found: Mapping[str, LayerPart], part: str | None) -> LayerPart:
    """Return the part asked for: the topmost that runs forwards, if none is."""
    forward = [name for name in found if not name.endswith("_reverse")]
    name = forward[-1] if part is None else part
    if name not in found:
        raise FlowError(f"the layer has no part '{name}': {nearest(name, found)}")
    if not found[name].widths:
        raise FlowError(f"{name} carries no state from step to step: there is no time to look back in")
    return found[name]


def identity(s_BN: Tensor) -> Tensor:
    """All directions of the full state, (B, N, N)."""
    return torch.eye(s_BN.shape[-1], dtype=s_BN.dtype, device=s_BN.device).expand(len(s_BN), -1, -1)
