"""Small models with a known fault, and sound ones, drawn from a seed.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import unvanish
from unvanish import Cell, Recurrent

B, I = 4, 2
SIGMOID_RNN = Cell("sigmoid_rnn", "h[t] = sigmoid(W_h @ x[t] + U_h @ h[t-1] + b_h)")
LINEAR = Cell("linear", "h[t] = W_h @ x[t] + U_h @ h[t-1]")


def near_one(y: Tensor) -> Tensor:
    return (y - 1).square().mean()


@dataclass
class Patient:
    """What `diagnose` takes."""

    model: nn.Module
    batch: Any
    need: int
    more: dict[str, Any] = field(default_factory=dict)
    loss: Callable[[Any], Tensor] = near_one


@dataclass(frozen=True)
class Case:
    """A patient to be drawn, the verdict that it deserves, and the cause that should be named first (or none).

    `kind` is what its siblings have in common; where it is empty, the cause.
    """

    name: str
    make: Callable[[int], Patient]
    verdict: str
    cause: str | None
    kind: str = ""


class Last(nn.Module):
    """A layer whose last output is read."""

    def __init__(self, layer: nn.Module, hidden: int, *, detached: bool = False) -> None:
        super().__init__()
        self.rnn, self.out, self.detached = layer, nn.Linear(hidden, 1), detached

    def forward(self, x_TBI: Tensor) -> Tensor:
        output = self.rnn(x_TBI)[0][-1]
        return self.out(output.detach() if self.detached else output)


class Windows(nn.Module):
    """A layer that is run over windows, its state handed on as it is, detached, or not at all."""

    def __init__(self, layer: nn.Module, hidden: int, window: int, hand_on: str) -> None:
        super().__init__()
        self.rnn, self.out, self.window, self.hand_on = layer, nn.Linear(hidden, 1), window, hand_on

    def forward(self, x_TBI: Tensor) -> Tensor:
        states = None
        for x in x_TBI.split(self.window):
            output, states = self.rnn(x, states)
            if self.hand_on == "detached":
                states = tuple(s.detach() for s in states) if isinstance(states, tuple) else states.detach()
            elif self.hand_on == "reset":
                states = None
        return self.out(output[-1])


class Loop(nn.Module):
    """A cell of torch that is called once a step."""

    def __init__(self, cell: nn.Module, hidden: int, hand_on: str = "joined") -> None:
        super().__init__()
        self.cell, self.out, self.hidden, self.hand_on = cell, nn.Linear(hidden, 1), hidden, hand_on

    def forward(self, x_TBI: Tensor) -> Tensor:
        zero = x_TBI.new_zeros(x_TBI.shape[1], self.hidden)
        states: Any = (zero, zero) if isinstance(self.cell, nn.LSTMCell) else zero
        for x_BI in x_TBI:
            states = self.cell(x_BI, self._handed(states))
        return self.out(states[0] if isinstance(states, tuple) else states)

    def _handed(self, states: Any) -> Any:
        change = {"joined": lambda s: s, "detached": Tensor.detach, "reset": torch.zeros_like}[self.hand_on]
        return tuple(change(s) for s in states) if isinstance(states, tuple) else change(states)


class OwnCell(nn.Module):
    """A recurrence that knows nothing of this package."""

    def __init__(self, hidden: int, scale: float) -> None:
        super().__init__()
        self.read, self.turn = nn.Linear(I, hidden), nn.Linear(hidden, hidden, bias=False)
        nn.init.orthogonal_(self.turn.weight)
        with torch.no_grad():
            self.turn.weight *= scale
            self.read.weight *= 0.1
            self.read.bias.zero_()

    def forward(self, x_BI: Tensor, h_BH: Tensor) -> Tensor:
        return torch.tanh(self.read(x_BI) + self.turn(h_BH))


# -- how they are made -----------------------------------------------------------------------------------------


def x_of(steps: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(steps, B, I)


def orthogonal(scale: float) -> Callable[[Tensor], None]:
    def fill(weight: Tensor) -> None:
        nn.init.orthogonal_(weight)
        weight.mul_(scale)

    return fill


def sized() -> int:
    """A hidden size, drawn."""
    return int(torch.randint(12, 25, ()))


def drawn(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))


def layer(
    cell: str | Cell, steps: int = 80, need: int = 40, scale: float = 0.1, **options: Any
) -> Callable[[int], Patient]:
    """A layer of ours; options may be functions, to be drawn."""

    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        given = {key: value() if callable(value) else value for key, value in options.items()}
        return Patient(Last(Recurrent(cell, I, hidden, **given), hidden), x_of(steps, scale), need)

    return make


def changed(
    kind: Callable[..., nn.Module],
    change: Callable[[Recurrent], None],
    steps: int = 80,
    need: int = 40,
    **options: Any,
) -> Callable[[int], Patient]:
    """A module of torch, changed through the names of the equations."""

    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        module = kind(I, hidden, **options)
        with torch.no_grad():
            change(unvanish.flow.as_ours(module))
        model = Loop(module, hidden) if isinstance(module, nn.RNNCellBase) else Last(module, hidden)
        return Patient(model, x_of(steps, 0.1), need)

    return make


def biased(**biases: float) -> Callable[[Recurrent], None]:
    def change(ours: Recurrent) -> None:
        for name, value in biases.items():
            ours[name].fill_(value)
            ours[name.replace("b_", "bh_")].zero_()

    return change


def turned(scale: Callable[[], float]) -> Callable[[Recurrent], None]:
    """The recurrent matrices orthogonal times a number, the rest small."""

    def change(ours: Recurrent) -> None:
        for parameter in ours.system.parameters:
            weight = ours[parameter.name]
            if parameter.role == "recurrent":
                orthogonal(scale())(weight)
            else:
                weight.mul_(0.1)

    return change


def open_gate(name: str, need: int = 40) -> Callable[[], dict[str, Any]]:
    return lambda: {name: math.log(need * drawn(2, 5)), "W_*": orthogonal_small, "U_*": orthogonal_small}


def orthogonal_small(weight: Tensor) -> None:
    weight.normal_(0, 0.05)


def cut(kind: type[nn.Module], hand_on: str, window: int, need: int = 30) -> Callable[[int], Patient]:
    """A sound layer that is run over windows."""

    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        module = kind(I, hidden)
        with torch.no_grad():
            keep_open(unvanish.flow.as_ours(module))
        return Patient(Windows(module, hidden, window, hand_on), x_of(80, 0.1), need)

    return make


def keep_open(ours: Recurrent) -> None:
    """Make a layer of torch sound: gates held open, or an orthogonal matrix and small inputs."""
    names = {p.name for p in ours.system.parameters}
    gate = next((gate for gate in ("b_f", "b_z") if gate in names), None)
    if gate is None:
        turned(lambda: 1.0)(ours)
    else:
        for name in names:
            ours[name].mul_(0.2)
        biased(**{gate: 5.0})(ours)


def looped(kind: type[nn.Module], hand_on: str) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        cell = kind(I, hidden)
        with torch.no_grad():
            keep_open(unvanish.flow.as_ours(cell))
        return Patient(Loop(cell, hidden, hand_on), x_of(60, 0.1), 30)

    return make


def own(scale: Callable[[], float], need: int = 40, hand_on: str = "joined") -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        return Patient(Loop(OwnCell(hidden, scale()), hidden, hand_on), x_of(80), need)

    return make


def sound(kind: type[nn.Module] = nn.LSTM, steps: int = 80, need: int = 40) -> Callable[[int], Patient]:
    return changed(kind, keep_open, steps, need)


def spoiled(
    spoil: Callable[[Patient], None], kind: type[nn.Module] = nn.LSTM, **sizes: int
) -> Callable[[int], Patient]:
    """A sound patient, with something done to it."""

    def make(seed: int) -> Patient:
        patient = sound(kind, **sizes)(seed)
        with torch.no_grad():
            spoil(patient)
        return patient

    return make


def _nan_input(patient: Patient) -> None:
    patient.batch[int(torch.randint(80, ())), 1, 0] = math.nan


def _inf_input(patient: Patient) -> None:
    patient.batch[int(torch.randint(80, ())), 2, 1] = math.inf


def _nan_weight(patient: Patient) -> None:
    next(patient.model.rnn.parameters())[1, 1] = math.nan


def _frozen(patient: Patient) -> None:
    for parameter in patient.model.rnn.parameters():
        parameter.requires_grad_(False)
    patient.model.rnn.bias_ih_l0.requires_grad_(True)


def _disconnected(patient: Patient) -> None:
    patient.model.detached = True


def trained(
    rate: float, clip: str = "", threshold: float = 1.0, kind: Any = torch.optim.SGD
) -> Callable[[Patient], None]:
    """Give a patient an optimiser, and a training step that clips as told."""

    def spoil(patient: Patient) -> None:
        model = patient.model
        optimizer = kind(model.parameters(), lr=rate)

        def step() -> None:
            optimizer.zero_grad()
            value = patient.loss(model(patient.batch))
            if clip == "before backward":
                clip_grad_norm_(model.parameters(), threshold)
            value.backward()
            if clip == "in time":
                clip_grad_norm_(model.parameters(), threshold)
            elif clip == "by value":
                clip_grad_value_(model.parameters(), threshold)
            elif clip == "others":
                others = nn.Linear(3, 3)
                others(torch.ones(3)).sum().backward()
                clip_grad_norm_(others.parameters(), threshold)
            optimizer.step()
            if clip == "after step":
                clip_grad_norm_(model.parameters(), threshold)

        patient.more = {"optimizer": optimizer, "step": step}

    return spoil


def _dead(ours: Recurrent) -> None:
    ours["b_h"].fill_(-5.0)


def cases() -> Iterator[Case]:
    yield from _vanishing()
    yield from _exploding()
    yield from _cut()
    yield from _broken()
    yield from _healthy()


def _vanishing() -> Iterator[Case]:
    weak = {"U_*": lambda w: orthogonal(0.5)(w)}
    yield Case("rnn, weak matrix", layer("rnn", init=weak), "vanishing", "weights")
    yield Case("torch RNN, weak matrix", changed(nn.RNN, turned(lambda: drawn(0.3, 0.7))), "vanishing", "weights")
    yield Case("torch RNNCell, weak matrix", changed(nn.RNNCell, turned(lambda: 0.6)), "vanishing", "weights")
    yield Case(
        "torch relu RNN, weak matrix",
        changed(nn.RNN, turned(lambda: 0.3), nonlinearity="relu"),
        "vanishing",
        "weights",
    )
    yield Case("linear, weak matrix", layer(LINEAR, init=weak), "vanishing", "weights")
    yield Case("own cell, weak matrix", own(lambda: drawn(0.4, 0.7)), "vanishing", "weights")
    yield Case(
        "delayed rnn, weak matrix",
        layer("delayed_rnn", need=70, init={"V_*": lambda w: orthogonal(0.3)(w)}),
        "vanishing",
        "weights",
    )
    loud = {"U_*": "orthogonal", "W_*": lambda w: w.normal_(0, 1)}
    yield Case("rnn, large input", layer("rnn", scale=20.0, init=loud), "vanishing", "input scale")
    yield Case("torch RNN, saturated", _loud(nn.RNN), "vanishing", "saturation")
    yield Case("torch RNNCell, saturated", _loud(nn.RNNCell), "vanishing", "saturation")
    yield Case("sigmoid rnn", layer(SIGMOID_RNN, init={"U_*": "orthogonal"}), "vanishing", "activation")
    for cell, gate in (
        ("lstm", "b_f"),
        ("peephole_lstm", "b_f"),
        ("gru_reset_before", "b_z"),
        ("simple_gru", "b_z"),
    ):
        shut = {gate: lambda b: b.fill_(drawn(-3, 0))}
        yield Case(f"{cell}, gate shut", layer(cell, init=shut), "vanishing", "forgetting")
    yield Case("mgu, gate shut", layer("mgu", init={"b_f": 2.0}), "vanishing", "forgetting")
    yield Case("torch LSTM, gate shut", changed(nn.LSTM, biased(b_f=-2.0)), "vanishing", "forgetting")
    yield Case("torch GRU, gate shut", changed(nn.GRU, biased(b_z=-2.0)), "vanishing", "forgetting")
    yield Case("torch LSTMCell, gate shut", changed(nn.LSTMCell, biased(b_f=-1.0)), "vanishing", "forgetting")
    yield Case("torch GRUCell, gate shut", changed(nn.GRUCell, biased(b_z=-1.0)), "vanishing", "forgetting")
    yield Case("torch LSTM as it comes", changed(nn.LSTM, lambda ours: None), "vanishing", "forgetting")
    yield Case("torch GRU as it comes", changed(nn.GRU, lambda ours: None), "vanishing", "forgetting")
    weak_too = {"U_*": lambda w: orthogonal(0.3)(w)}
    yield Case(
        "leaky rnn, fast leak",
        layer("leaky_rnn", alpha=lambda: drawn(0.3, 0.7), init=weak_too),
        "vanishing",
        "forgetting",
    )


def _loud(kind: Callable[..., nn.Module]) -> Callable[[int], Patient]:
    return louder(changed(kind, turned(lambda: 1.0)), 1000)


def louder(make: Callable[[int], Patient], times: float) -> Callable[[int], Patient]:
    """The same patient, with a larger input."""

    def loud(seed: int) -> Patient:
        patient = make(seed)
        patient.batch = patient.batch * times
        return patient

    return loud


def _exploding() -> Iterator[Case]:
    strong = {"U_*": lambda w: orthogonal(drawn(1.25, 1.4))(w)}
    yield Case("linear, strong matrix", layer(LINEAR, init=strong), "exploding", "weights")
    relu = {"nonlinearity": "relu"}
    yield Case(
        "relu rnn, strong matrix",
        layer("rnn", 50, **relu, init={"U_*": lambda w: w.uniform_(0, 2.8 / len(w))}),
        "exploding",
        "weights",
    )
    yield Case(
        "torch RNN, strong matrix",
        changed(nn.RNN, turned(lambda: drawn(2.5, 3.0)), need=55),
        "exploding",
        "weights",
    )
    yield Case("own cell, strong matrix", own(lambda: drawn(2.5, 3.0), 55), "exploding", "weights")
    yield Case(
        "torch RNNCell, strong matrix", changed(nn.RNNCell, turned(lambda: 2.8), need=55), "exploding", "weights"
    )
    yield Case(
        "delayed rnn, strong matrix",
        layer("delayed_rnn", 160, 150, init={"V_*": lambda w: orthogonal(3.0)(w)}),
        "exploding",
        "weights",
    )


def _cut() -> Iterator[Case]:
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        yield Case(
            f"torch {kind.__name__}, windows detached", cut(kind, "detached", 10), "vanishing", "detached state"
        )
    for kind in (nn.LSTM, nn.GRU):
        yield Case(f"torch {kind.__name__}, windows reset", cut(kind, "reset", 16), "vanishing", "state reset")
    for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell):
        yield Case(f"torch {kind.__name__}, detached", looped(kind, "detached"), "vanishing", "detached state")
    for kind in (nn.LSTMCell, nn.GRUCell):
        yield Case(f"torch {kind.__name__}, reset", looped(kind, "reset"), "vanishing", "state reset")
    yield Case("own cell, detached", own(lambda: 1.0, hand_on="detached"), "vanishing", "detached state")
    yield Case("torch LSTM, short window", sound(nn.LSTM, 25, 100), "vanishing", "short window")
    yield Case("torch GRU, short window", sound(nn.GRU, 20, 60), "vanishing", "short window")
    yield Case("torch LSTMCell, short window", sound(nn.LSTMCell, 25, 100), "vanishing", "short window")


def _broken() -> Iterator[Case]:
    dead = changed(nn.RNN, _dead, nonlinearity="relu")
    yield Case("torch RNN, dead relu", dead, "dead", "dead relu")
    yield Case("rnn, dead relu", layer("rnn", nonlinearity="relu", init={"b_h": -5.0}), "dead", "dead relu")
    yield Case("indrnn, dead relu", layer("indrnn", init={"b_h": -5.0}), "dead", "dead relu")
    yield Case("NaN in the input", spoiled(_nan_input), "non-finite", "non-finite input")
    yield Case("infinity in the input", spoiled(_inf_input, nn.GRU), "non-finite", "non-finite input")
    yield Case("NaN in a weight", spoiled(_nan_weight), "non-finite", "non-finite parameter")
    yield Case("frozen", spoiled(_frozen), "healthy", "frozen")
    yield Case("frozen GRU", spoiled(_frozen, nn.GRU), "healthy", "frozen")
    yield Case("output detached", spoiled(_disconnected), "dead", "disconnected")
    yield Case("output detached, GRU", spoiled(_disconnected, nn.GRU), "dead", "disconnected")
    for when in ("before backward", "after step", "others"):
        yield Case(f"clip {when}", spoiled(trained(0.01, when)), "healthy", "idle clip")
    yield Case("clip threshold", spoiled(trained(0.01, "in time", 1e-4)), "healthy", "clip threshold")
    yield Case("clip by value", spoiled(trained(0.01, "by value", 1e-6)), "healthy", "clip threshold")
    yield Case("learning rate too high", spoiled(trained(300.0)), "healthy", "learning rate")
    yield Case("learning rate too low", spoiled(trained(1e-10)), "healthy", "learning rate")
    yield Case("Adam too fast", spoiled(trained(3.0, kind=torch.optim.Adam)), "healthy", "learning rate")


def _healthy() -> Iterator[Case]:
    def case(name: str, make: Callable[[int], Patient]) -> Case:
        return Case(name, make, "healthy", None)

    for kind in (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell):
        yield case(f"torch {kind.__name__}, sound", sound(kind))
    yield case("torch LSTM as it comes, near", changed(nn.LSTM, lambda ours: None, need=3))
    yield case("torch GRU as it comes, near", changed(nn.GRU, lambda ours: None, need=3))
    for cell, gate in (
        ("lstm", "b_f"),
        ("peephole_lstm", "b_f"),
        ("gru_reset_before", "b_z"),
        ("simple_gru", "b_z"),
    ):
        yield case(f"{cell}, gate open", layer(cell, init=open_gate(gate)))
    yield case("leaky rnn, slow leak", layer("leaky_rnn", alpha=lambda: drawn(0.97, 0.995)))
    yield case("clockwork rnn", layer("clockwork_rnn"))
    yield case("skip rnn", layer("skip_rnn", init={"U_*": "orthogonal"}))
    yield case("cornn", layer("cornn"))
    calm = {"U_*": "orthogonal", "W_*": orthogonal_small, "b_h": 0.0, "bh_h": 0.0}
    yield case("rnn, orthogonal", layer("rnn", init=calm))
    yield case("identity relu rnn", layer("rnn", nonlinearity="relu", init={"U_*": "identity"}))
    yield case("own cell, orthogonal", own(lambda: 1.0))
    yield case("windows joined", cut(nn.LSTM, "joined", 10))
    yield case("trained as it should be", spoiled(trained(0.01, "in time", 1.0)))
    yield case("trained with Adam", spoiled(trained(1e-3, "in time", 1.0, torch.optim.Adam)))
