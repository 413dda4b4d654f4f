"""Sound models that look odd: saturated gates, tiny and huge states, recurrences of all kinds.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

import unvanish
from tests.diagnosis.spoilt import Exponential, reads, sound, stepped, words
from tests.diagnosis.written import elman, gated, images, loop
from tests.diagnosis.zoo import Case, I, Last, Patient, cut, keep_open, near_one, sized, x_of
from unvanish import Cell, Recurrent

THOUSANDFOLD = Cell(
    "thousandfold",
    """
    f[t] = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
    c[t] = f[t] * c[t-1] + 1000 * (1 - f[t]) * tanh(W_c @ x[t] + U_c @ h[t-1])
    h[t] = tanh(c[t] / 1000)
    """,
)


def drawn_from(make: Callable[[int], tuple[nn.Module, Tensor]], need: int = 40) -> Callable[[int], Patient]:
    """A patient of a model and a batch that are made for a hidden size."""

    def from_seed(seed: int) -> Patient:
        torch.manual_seed(seed)
        model, batch = make(sized())
        return Patient(model, batch, need)

    return from_seed


def stepping(step: Any, *, size: float = 1.0, scale: float = 1.0) -> Callable[[int], Patient]:
    return loop(lambda: step, lambda: scale, size=size)


# -- steps -------------------------------------------------------------------------------------------------------


def bistable(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
    """Two states to rest in, and a gate that seldom opens (as Vecoven, Ernst, Drion 2021)."""
    keep = torch.sigmoid(model.gate(torch.cat([x, h], -1)) + 5)
    return keep * h + (1 - keep) * torch.tanh(model.w(x) + 1.5 * h)


def counting(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
    return h + model.w(x)


def small_steps(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
    return h + 0.01 * torch.tanh(model.w(x) + model.u(h))


def antisymmetric(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
    """h + ε tanh((A − Aᵀ − γ) h + …) (Chang, Chen, Haber, Chi 2019)."""
    turn = model.u.weight - model.u.weight.T
    return h + 0.05 * torch.tanh(h @ turn.T - 0.01 * h + model.w(x))


def rotating(model: Any, x: Tensor, h: Tensor, t: int) -> Tensor:
    """A rotation of each pair of numbers, and the input added."""
    even = h.shape[-1] // 2 * 2
    one, other, rest = h[:, : even // 2], h[:, even // 2 : even], h[:, even:]
    turned = torch.cat([0.8 * one - 0.6 * other, 0.6 * one + 0.8 * other, rest], -1)
    return turned + model.w(x)


# -- models ------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """One layer of attention, read at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rise, self.attend, self.out = nn.Linear(I, 16), nn.MultiheadAttention(16, 2), nn.Linear(16, 1)

    def forward(self, x_TBI: Tensor) -> Tensor:
        y = self.rise(x_TBI)
        return self.out(self.attend(y, y, y, need_weights=False)[0][-1])


class Running(nn.Module):
    """A mean over time, by a cumulative sum: no state can be seen."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.rise, self.out = nn.Linear(I, hidden), nn.Linear(hidden, 1)

    def forward(self, x_TBI: Tensor) -> Tensor:
        return self.out(torch.cumsum(torch.tanh(self.rise(x_TBI)), 0)[-1] / len(x_TBI))


class Episodes(nn.Module):
    """A policy whose state is set back where an episode ends, as `done` says; none does in this batch."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.core, self.out, self.hidden = nn.LSTMCell(I, hidden), nn.Linear(hidden, 1), hidden
        with torch.no_grad():
            keep_open(unvanish.flow.as_ours(self.core))

    def forward(self, x_TBI: Tensor) -> Tensor:
        h = c = x_TBI.new_zeros(x_TBI.shape[1], self.hidden)
        done = x_TBI.new_zeros(len(x_TBI), x_TBI.shape[1], 1)
        for x_BI, end in zip(x_TBI, done, strict=True):
            h, c = self.core(x_BI, (h * (1 - end), c * (1 - end)))
        return self.out(h)


def _open(hidden: int, **options: Any) -> nn.LSTM:
    layer = nn.LSTM(I, hidden, **options)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            weight.mul_(0.2)
            if name.startswith("bias_ih"):
                weight[hidden : 2 * hidden] = 5.0
    return layer


def _deep(hidden: int) -> tuple[nn.Module, Tensor]:
    return Last(_open(hidden, num_layers=3), hidden), x_of(80, 0.1)


def _both(patient: Patient) -> None:
    reads(lambda y_TBH: torch.cat(y_TBH.chunk(2, -1), -1).mean(0))(patient)


def _loss_times(factor: float) -> Callable[[Patient], None]:
    def change(patient: Patient) -> None:
        patient.loss = lambda y: factor * near_one(y)

    return change


def _mask(patient: Patient) -> None:
    model: Any = patient.model
    model.out = nn.Linear(model.out.in_features, 3)
    mask = torch.tensor([0.0, 0.0, float("-inf")])
    patient.loss = lambda y: F.cross_entropy(y + mask, torch.zeros(len(y), dtype=torch.long))


def _averaged(patient: Patient) -> None:
    """Gradients of two pieces of the batch are added up in one step."""

    def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        for piece in x.chunk(2, 1):
            (near_one(model(piece)) / 2).backward()
        clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    stepped(step)(patient)


def _zero_at_the_end(patient: Patient) -> None:
    def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
        near_one(model(x)).backward()
        optimizer.step()
        optimizer.zero_grad()

    stepped(step)(patient)


def _rezero(patient: Patient) -> None:
    """A branch that begins with a factor of zero: nothing comes to it before the first step."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.factor = nn.Linear(I, I), nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.factor * torch.tanh(self.inner(x))

    patient.model = nn.Sequential(Branch(), patient.model)


def _by_pairs(hidden: int) -> tuple[nn.Module, Tensor]:
    layer = Recurrent(THOUSANDFOLD, I, hidden, init={"b_f": 5.0, "W_*": _small, "U_*": _small})
    return Last(layer, hidden), x_of(80)


def _small(weight: Tensor) -> None:
    weight.normal_(0, 0.05)


def cases() -> Iterator[Case]:
    def case(name: str, make: Callable[[int], Patient], kind: str) -> Case:
        return Case(name, make, "healthy", None, f"sound: {kind}")

    yield case("bistable", stepping(bistable), "bistable")
    yield case("bistable, loud", stepping(bistable, size=20.0), "bistable")
    for bias in (8.0, 12.0):
        full = drawn_from(lambda hidden, bias=bias: (_saturated(hidden, bias), x_of(80)))
        yield case(f"gates that are saturated at {bias}", full, "saturated and remembering")
    yield case("own gate that is saturated", stepping(gated(9.0)), "saturated and remembering")
    for bias in (5.0, 7.0):
        stable = drawn_from(lambda hidden, bias=bias: (Exponential(hidden, bias, stable=True), x_of(80)))
        yield case(f"stabilised exponential gates, {bias}", stable, "stabilised exponential gates")
    for size in (1e-9, 1e-5):
        yield case(f"states of {size}", stepping(elman(lambda a: a), size=size), "tiny states")
        yield case(f"counter of {size}", stepping(counting, size=size), "tiny states")
    for size in (1e4, 1e8):
        yield case(f"counter of {size}", stepping(counting, size=size), "huge states")
    yield case("one state a thousandfold", drawn_from(_by_pairs), "huge states")
    yield case("small steps", stepping(small_steps), "residual")
    yield case("antisymmetric", stepping(antisymmetric), "residual")
    yield case("rotating", stepping(rotating), "rotating")
    yield case("orthogonal loop", stepping(elman(lambda a: a)), "rotating")
    yield case("images, gate open", images(6.0), "images")
    yield case("attention", drawn_from(lambda hidden: (Attention(), x_of(80))), "no state to be seen")
    yield case("cumulative sum", drawn_from(lambda hidden: (Running(hidden), x_of(80))), "no state to be seen")
    yield case(
        "episodes, none of which ends", drawn_from(lambda hidden: (Episodes(hidden), x_of(60, 0.1))), "episodes"
    )
    yield case("words, packed", words(packs=True), "packed")
    yield case("three layers", drawn_from(_deep), "deep")
    yield case("both directions, all outputs", sound(_both, bidirectional=True), "both directions")
    for hand_on in ("detached", "reset"):
        yield case(f"long windows, {hand_on}", cut(nn.LSTM, hand_on, 45, 30), "long windows")
    for factor in (1e-25, 1e20):
        yield case(f"loss times {factor}", sound(_loss_times(factor)), "units of the loss")
    yield case("logits that are masked", sound(_mask), "masked")
    yield case("gradients of two pieces", sound(_averaged), "training steps")
    yield case("zero_grad at the end", sound(_zero_at_the_end), "training steps")
    yield case("a branch that begins with zero", sound(_rezero), "begins with zero")
    wrapped = drawn_from(lambda hidden: (nn.DataParallel(Last(_open(hidden), hidden)), x_of(60, 0.1)))
    yield case("DataParallel", wrapped, "wrapped")
    compiled = drawn_from(
        lambda hidden: (torch.compile(Last(_open(hidden), hidden), backend="eager"), x_of(60, 0.1))
    )
    yield case("compiled", compiled, "wrapped")


def _saturated(hidden: int, bias: float) -> nn.Module:
    layer = _open(hidden)
    with torch.no_grad():
        layer.bias_ih_l0[hidden : 2 * hidden] = bias
        layer.bias_ih_l0[:hidden] = -bias / 2
        layer.bias_ih_l0[3 * hidden :] = bias / 2
    return Last(layer, hidden)
