"""Recurrences that are written out in forward, each with a fault.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tests.diagnosis.zoo import B, Case, I, Patient, drawn, louder, sized, x_of

Step = Callable[[Any, Tensor, Tensor, int], Tensor]


class Written(nn.Module):
    """A loop over time; `step` makes the next state of the input and the state."""

    def __init__(self, step: Step, hidden: int, scale: float, batch_first: bool = False) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(I, hidden), nn.Linear(hidden, hidden, bias=False)
        self.gate, self.out = nn.Linear(I + hidden, hidden), nn.Linear(hidden, 1)
        self.step, self.batch_first = step, batch_first
        nn.init.orthogonal_(self.u.weight)
        with torch.no_grad():
            self.u.weight *= scale
            self.w.weight *= 0.1
            self.w.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0] if self.batch_first else x.shape[1]
        h = x.new_zeros(rows, self.u.in_features)
        for t in range(x.shape[1] if self.batch_first else x.shape[0]):
            h = self.step(self, x[:, t] if self.batch_first else x[t], h, t)
        return self.out(h)


class Called(nn.Module):
    """The same step as a module, which is called once a step."""

    def __init__(self, step: Step, hidden: int, scale: float) -> None:
        super().__init__()
        self.inner, self.step, self.hidden = Written(step, hidden, scale), step, hidden

    def forward(self, x_BI: Tensor, h_BH: Tensor) -> Tensor:
        return self.step(self.inner, x_BI, h_BH, 0)


class Handed(nn.Module):
    """A cell that is called once a step, its states changed on the way to the next."""

    def __init__(self, cell: nn.Module, hidden: int, change: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.cell, self.out, self.hidden, self.change = cell, nn.Linear(hidden, 1), hidden, change

    def forward(self, x_TBI: Tensor) -> Tensor:
        zero = x_TBI.new_zeros(x_TBI.shape[1], self.hidden)
        states: Any = (zero, zero) if isinstance(self.cell, nn.LSTMCell) else zero
        for t, x_BI in enumerate(x_TBI):
            states = self.cell(x_BI, states)
            states = (
                tuple(self.change(state, t) for state in states)
                if isinstance(states, tuple)
                else self.change(states, t)
            )
        return self.out(states[0] if isinstance(states, tuple) else states)


# -- steps -------------------------------------------------------------------------------------------------------


def elman(function: Callable[[Tensor], Tensor]) -> Step:
    return lambda model, x, h, t: function(model.w(x) + model.u(h))


def damped(kept: Callable[[], float]) -> Step:
    share = kept()
    return lambda model, x, h, t: share * h + 0.05 * torch.tanh(model.w(x) + model.u(h))


def gated(bias: float) -> Step:
    """A gate that says what is kept: σ of the input and the state, moved by a bias."""

    def step(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
        keep = torch.sigmoid(model.gate(torch.cat([x, h], -1)) + bias)
        return keep * h + (1 - keep) * torch.tanh(model.w(x) + 0.1 * model.u(h))

    return step


def cut(how: str, every: int) -> Step:
    """A sound step whose state is cut off its past every so many steps."""

    def step(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
        if t % every == every - 1:
            h = h.detach() if how == "detach" else h.data if how == "data" else torch.zeros_like(h)
        return torch.tanh(model.w(x) + model.u(h))

    return step


def without_graph(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
    with torch.no_grad():
        before = model.u(h)
    return torch.tanh(model.w(x) + before)


# -- patients ----------------------------------------------------------------------------------------------------


def loop(
    step: Callable[[], Step],
    scale: Callable[[], float] = lambda: 1.0,
    *,
    steps: int = 80,
    need: int = 40,
    size: float = 1.0,
    batch_first: bool = False,
) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        model, x_TBI = Written(step(), sized(), scale(), batch_first), x_of(steps, size)
        return Patient(model, x_TBI.transpose(0, 1).contiguous() if batch_first else x_TBI, need)

    return make


def called(step: Callable[[], Step], scale: Callable[[], float] = lambda: 1.0) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        return Patient(Handed(Called(step(), hidden, scale()), hidden, lambda state, t: state), x_of(80), 40)

    return make


def handed(kind: type[nn.Module], change: Callable[[Tensor, int], Tensor]) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        cell: Any = kind(I, hidden)
        with torch.no_grad():
            for weight in cell.parameters():
                weight *= 0.2
            kept = slice(hidden, 2 * hidden)  # of f, and of z
            cell.bias_hh[kept] = 5.0
        return Patient(Handed(cell, hidden, change), x_of(80, 0.1), 40)

    return make


class Images(nn.Module):
    """A convolutional recurrence over images: a gate keeps the state."""

    def __init__(self, channels: int, bias: float) -> None:
        super().__init__()
        self.gates = nn.Conv2d(1 + channels, 2 * channels, 3, padding=1)
        self.out, self.channels, self.bias = nn.Linear(channels, 1), channels, bias

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], self.channels, *x.shape[3:])
        for frame in x:
            keep, new = self.gates(torch.cat([frame, h], 1)).chunk(2, 1)
            keep = torch.sigmoid(keep + self.bias)
            h = keep * h + (1 - keep) * torch.tanh(0.1 * new)
        return self.out(h.mean((2, 3)))


def images(bias: float) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        return Patient(Images(4, bias), torch.randn(30, B, 1, 5, 5), 25)

    return make


class Stacked(nn.Module):
    """A forecaster: an encoder that is a layer, and a decoder that is written out."""

    def __init__(self, hidden: int, scale: float) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(I, hidden), Written(elman(torch.tanh), hidden, scale)
        self.encoder.bias_hh_l0.data[hidden : 2 * hidden] = 5.0

    def forward(self, x_TBI: Tensor) -> Tensor:
        h = self.encoder(x_TBI)[1][0]
        y, outputs = x_TBI[-1], []
        for t in range(50):
            h = self.decoder.step(self.decoder, y, h, t)
            outputs.append(self.decoder.out(h))
            y = outputs[-1].expand(-1, I)
        return torch.stack(outputs)[-1]


def stacked(scale: float) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        return Patient(Stacked(sized(), scale), x_of(60), 40)

    return make


def cases() -> Iterator[Case]:
    tanh, relu = lambda: elman(torch.tanh), lambda: elman(torch.relu)
    weak, strong = lambda: drawn(0.4, 0.7), lambda: drawn(1.25, 1.4)
    yield Case("loop, weak matrix", loop(tanh, weak), "vanishing", "weights", "loop: weights")
    yield Case(
        "loop, weak matrix, batch first",
        loop(tanh, weak, batch_first=True),
        "vanishing",
        "weights",
        "loop: weights",
    )
    yield Case("loop of relu, weak matrix", loop(relu, lambda: 0.3), "vanishing", "weights", "loop: weights")
    line = lambda: elman(lambda a: a)  # noqa: E731
    yield Case("loop without activation, weak matrix", loop(line, weak), "vanishing", "weights", "loop: weights")
    yield Case("called step, weak matrix", called(tanh, weak), "vanishing", "weights", "loop: weights")
    yield Case(
        "loop without activation, strong matrix", loop(line, strong), "exploding", "weights", "loop: explodes"
    )
    yield Case(
        "loop, strong matrix",
        loop(tanh, lambda: drawn(2.5, 3.0), need=55),
        "exploding",
        "weights",
        "loop: explodes",
    )
    yield Case(
        "loop of sigmoids", loop(lambda: elman(torch.sigmoid)), "vanishing", "activation", "loop: activation"
    )
    yield Case(
        "loop of sigmoids, batch first",
        loop(lambda: elman(torch.sigmoid), batch_first=True),
        "vanishing",
        "activation",
        "loop: activation",
    )
    yield Case("loop, saturated", loop(tanh, size=300.0), "vanishing", "saturation", "loop: saturation")
    yield Case("called step, saturated", louder(called(tanh), 300), "vanishing", "saturation", "loop: saturation")
    kept = lambda: damped(lambda: drawn(0.5, 0.8))  # noqa: E731
    for name, make in (
        ("loop", loop(kept)),
        ("called step", called(kept)),
        ("batch first", loop(kept, batch_first=True)),
    ):
        yield Case(f"{name}, a constant damps", make, "vanishing", "forgetting", "a constant damps")
    shut = lambda: gated(drawn(-1.0, 1.0))  # noqa: E731
    for name, make in (("loop", loop(shut)), ("called step", called(shut)), ("images", images(0.0))):
        yield Case(f"{name}, own gate shut", make, "vanishing", "forgetting", "own gate")
    for how in ("detach", "data"):
        for every in (1, 12):
            name = f"loop, {how} every {every}"
            yield Case(
                name, loop(lambda how=how, every=every: cut(how, every)), "vanishing", "detached state", "loop: cut"
            )
    yield Case("loop without graph", loop(lambda: without_graph), "vanishing", "detached state", "loop: cut")
    for every in (10, 20):
        make = loop(lambda every=every: cut("zero", every))
        yield Case(f"loop, zero every {every}", make, "vanishing", "state reset", "loop: reset")
    half = lambda state, t: 0.5 * state  # noqa: E731
    for kind in (nn.LSTMCell, nn.GRUCell):
        yield Case(f"{kind.__name__}, halved between", handed(kind, half), "vanishing", "changed between calls")
        make = handed(kind, lambda state, t: state * (0 if t % 15 == 14 else 1))
        yield Case(f"{kind.__name__}, zero every 15", make, "vanishing", "state reset", "loop: reset")
    yield Case(
        "encoder and decoder, the decoder vanishes", stacked(0.5), "healthy", "starved", "starved by a decoder"
    )
