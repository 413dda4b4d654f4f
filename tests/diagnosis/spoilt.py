"""Sound recurrences in models, batches, losses and training steps that spoil them.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence

import unvanish
from tests.diagnosis.written import Written, elman
from tests.diagnosis.zoo import B, Case, I, Last, Patient, keep_open, near_one, sized, x_of

Change = Callable[[Patient], None]


def sound(
    change: Change, kind: type[nn.Module] = nn.LSTM, *, rows: int = B, **options: Any
) -> Callable[[int], Patient]:
    """A sound patient whose last output is read, and what is done to it."""

    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        hidden = sized()
        layer: Any = kind(I, hidden, **options)
        with torch.no_grad():
            keep_open(unvanish.flow.as_ours(layer))
        width = hidden * (2 if options.get("bidirectional") else 1)
        patient = Patient(Last(layer, width), 0.1 * torch.randn(80, rows, I), 40)
        change(patient)
        return patient

    return make


# -- numbers -----------------------------------------------------------------------------------------------------


class Between(nn.Module):
    """A sound layer, and a function between its last output and the read-out."""

    def __init__(self, inner: Any, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rnn, self.out, self.function = inner.rnn, inner.out, function

    def forward(self, x_TBI: Tensor) -> Tensor:
        return self.out(self.function(self.rnn(x_TBI)[0][-1]))


def between(function: Callable[[Tensor], Tensor]) -> Change:
    def change(patient: Patient) -> None:
        patient.model = Between(patient.model, function)

    return change


def _missing_target(patient: Patient) -> None:
    target = torch.randn(B, 1)
    target[int(torch.randint(B, ()))] = math.nan
    patient.loss = lambda y: F.mse_loss(y, target)


def _missing_target_of_two(patient: Patient) -> None:
    target = torch.rand(B, 1)
    target[1] = math.nan
    patient.batch, patient.loss = (patient.batch, target), F.smooth_l1_loss


def _ignored(label: int) -> Change:
    def change(patient: Patient) -> None:
        model: Any = patient.model
        model.out = nn.Linear(model.out.in_features, 5)
        target = torch.full((B,), label)
        patient.loss = lambda y: F.cross_entropy(y, target, ignore_index=label)

    return change


def _overflows(module: Callable[[int], nn.Module]) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        return Patient(module(sized()), x_of(200), 40)

    return make


def _growing_layer(hidden: int) -> nn.Module:
    layer = nn.RNN(I, hidden, nonlinearity="relu")
    nn.init.uniform_(layer.weight_hh_l0, 0, 8 / hidden)
    return Last(layer, hidden)


def _growing_loop(hidden: int) -> nn.Module:
    model = Written(elman(torch.relu), hidden, 1.0)
    nn.init.uniform_(model.u.weight, 0, 8 / hidden)
    return model


class Exponential(nn.Module):
    """Gates that are exponentials, as of an sLSTM; with or without its stabiliser."""

    def __init__(self, hidden: int, bias: float, stable: bool) -> None:
        super().__init__()
        self.w, self.u, self.out = (
            nn.Linear(I, 4 * hidden),
            nn.Linear(hidden, 4 * hidden, bias=False),
            nn.Linear(hidden, 1),
        )
        self.bias, self.stable = bias, stable
        nn.init.normal_(self.u.weight, 0, 0.02)

    def forward(self, x_TBI: Tensor) -> Tensor:
        h = c = n = m = x_TBI.new_zeros(x_TBI.shape[1], self.u.in_features)
        for x_BI in x_TBI:
            z, i, f, o = (self.w(x_BI) + self.u(h)).chunk(4, -1)
            f = f + self.bias
            if self.stable:
                before, m = m, torch.maximum(f + m, i)
                i, f = torch.exp(i - m), torch.exp(f + before - m)
            else:
                i, f = torch.exp(i), torch.exp(f)
            c, n = f * c + i * torch.tanh(z), f * n + i
            h = torch.sigmoid(o) * c / n
        return self.out(h)


# -- where the loss reads ----------------------------------------------------------------------------------------


class Read(nn.Module):
    """A layer whose output is read at one step, or in one half."""

    def __init__(self, inner: Any, read: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.rnn, self.out, self.read = inner.rnn, nn.Linear(width, 1), read

    def forward(self, x_TBI: Tensor) -> Tensor:
        return self.out(self.read(self.rnn(x_TBI)[0]))


def reads(read: Callable[[Tensor], Tensor], half: bool = False) -> Change:
    def change(patient: Patient) -> None:
        inner: Any = patient.model
        patient.model = Read(inner, read, inner.out.in_features // (2 if half else 1))

    return change


class Words(nn.Module):
    """A classifier of sequences of different lengths."""

    def __init__(self, hidden: int, packs: bool) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(30, I, padding_idx=0), nn.LSTM(I, hidden, batch_first=True)
        self.out, self.packs = nn.Linear(hidden, 1), packs
        with torch.no_grad():
            keep_open(unvanish.flow.as_ours(self.rnn))

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        x = self.table(words)
        if self.packs:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.out(self.rnn(packed)[1][0][-1])
        return self.out(self.rnn(x)[0][:, -1])


def words(packs: bool) -> Callable[[int], Patient]:
    def make(seed: int) -> Patient:
        torch.manual_seed(seed)
        lengths = torch.randint(45, 75, (10,))
        lengths[0] = 75
        rows = torch.randint(1, 30, (10, 75)) * (torch.arange(75) < lengths[:, None])
        return Patient(Words(sized(), packs), (rows, lengths), 40)

    return make


def _padded(patient: Patient) -> None:
    for row in range(1, patient.batch.shape[1]):
        patient.batch[int(torch.randint(45, 75, ())) :, row] = 0


# -- what else keeps it from learning ----------------------------------------------------------------------------


def _deep(first: bool) -> Change:
    def change(patient: Patient) -> None:
        model: Any = patient.model
        width = I if first else model.out.in_features
        layers = [one for _ in range(25) for one in (nn.Linear(width, width), nn.Sigmoid())]
        if first:
            patient.model = nn.Sequential(nn.Sequential(*layers), model)
        else:
            model.out = nn.Sequential(*layers, model.out)

    return change


def _dead_encoder(patient: Patient) -> None:
    encoder = nn.Sequential(nn.Linear(I, I), nn.ReLU())
    encoder[0].bias.data.fill_(-9.0)
    patient.model = nn.Sequential(encoder, patient.model)


def _frozen_table(words: int) -> Change:
    def change(patient: Patient) -> None:
        table = nn.Embedding(words, I)
        table.requires_grad_(False)
        patient.model, patient.batch = nn.Sequential(table, patient.model), torch.randint(0, words, (80, B))

    return change


def _not_held(missing: str) -> Change:
    def change(patient: Patient) -> None:
        held = [p for name, p in patient.model.named_parameters() if not name.startswith(missing)]
        patient.more = {"optimizer": torch.optim.Adam(held, 1e-3)}

    return change


def _sensors(patient: Patient) -> None:
    x_TB = torch.randn(80, B)
    patient.batch = torch.stack([20 + 3 * x_TB, 1013 + 8 * torch.randn(80, B)], -1)


def _exchanged(patient: Patient) -> None:
    layer: Any = patient.model
    patient.model = Read(layer, lambda y: y[:, -1], layer.out.in_features)
    patient.batch, patient.need = torch.randn(37, 50, I), 30


def stepped(
    step: Callable[[nn.Module, Tensor, torch.optim.Optimizer], None], kind: Any = torch.optim.Adam
) -> Change:
    def change(patient: Patient) -> None:
        optimizer = kind(patient.model.parameters(), 1e-3)
        patient.more = {"optimizer": optimizer, "step": lambda: step(patient.model, patient.batch, optimizer)}

    return change


def _adds_up(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    near_one(model(x)).backward()
    optimizer.step()


def _forgets_one(model: Any, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    model.out.zero_grad()
    near_one(model(x)).backward()
    optimizer.step()


def _clips_scaled(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu")
    optimizer.zero_grad()
    scaler.scale(near_one(model(x))).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()


def cases() -> Iterator[Case]:
    yield from _of_numbers()
    yield from _of_reading()
    yield from _of_the_rest()


def _of_numbers() -> Iterator[Case]:
    for name, change in (("target with a gap", _missing_target), ("gap, a loss of two", _missing_target_of_two)):
        yield Case(name, sound(change), "non-finite", "non-finite target")
    for label in (-100, -1):
        yield Case(f"all labels are {label}", sound(_ignored(label)), "non-finite", "labels ignored")
    makers: dict[str, Callable[[Tensor], Tensor]] = {
        "logarithm of nothing": lambda h: torch.log(torch.relu(h - 9)),
        "nothing over nothing": lambda h: (h - h.mean()) / (h - h).std(),
        "root of less than nothing": lambda h: torch.sqrt(h - 9),
    }
    for name, function in makers.items():
        yield Case(name, sound(between(function)), "non-finite", "non-finite inside")
    yield Case("layer that overflows", _overflows(_growing_layer), "non-finite", "overflow")
    yield Case("loop that overflows", _overflows(_growing_loop), "non-finite", "overflow")
    wild = _overflows(lambda hidden: Exponential(hidden, 3.0, stable=False))
    yield Case("exponential gates overflow", wild, "non-finite", "overflow")


def _of_reading() -> Iterator[Case]:
    first = reads(lambda y_TBH: y_TBH[0])
    fifth = reads(lambda y_TBH: y_TBH[5])
    for name, change, kind in (("first", first, nn.LSTM), ("sixth", fifth, nn.GRU), ("first", first, nn.RNN)):
        yield Case(f"{kind.__name__}, read at its {name} step", sound(change, kind), "vanishing", "reads early")
    for kind in (nn.LSTM, nn.GRU):
        half = reads(lambda y_TBH: y_TBH[-1, :, : y_TBH.shape[-1] // 2], half=True)
        make = sound(half, kind, bidirectional=True)
        yield Case(
            f"{kind.__name__}, one direction is not read", make, "dead", "disconnected", "direction not read"
        )
        make = sound(reads(lambda y_TBH: y_TBH[-1]), kind, bidirectional=True)
        yield Case(f"{kind.__name__}, both read at the last output", make, "healthy", "reads early")
    yield Case("words with padding", words(packs=False), "healthy", "padding read")
    for kind in (nn.GRU, nn.RNN):
        yield Case(f"{kind.__name__}, numbers with padding", sound(_padded, kind), "healthy", "padding read")


def _of_the_rest() -> Iterator[Case]:
    yield Case("sigmoid layers before", sound(_deep(first=True)), "healthy", "starved")
    yield Case("sigmoid layers after", sound(_deep(first=False)), "healthy", "starved")
    yield Case("relu that is dead before", sound(_dead_encoder), "healthy", "starved")
    for count in (20, 50):
        yield Case(f"frozen table of {count}", sound(_frozen_table(count)), "healthy", "frozen", "frozen embedding")
    for missing in ("rnn", "out"):
        yield Case(
            f"{missing} is not in the optimizer", sound(_not_held(missing)), "healthy", "not in the optimizer"
        )
    for kind in (nn.LSTM, nn.GRU):
        yield Case(f"{kind.__name__}, units of sensors", sound(_sensors, kind), "healthy", "input scale")
        yield Case(f"{kind.__name__}, time and batch exchanged", sound(_exchanged, kind), "healthy", "rows mixed")
    yield Case("RNN, time and batch exchanged", sound(_exchanged, nn.RNN), "healthy", "rows mixed")
    for optimizer in (torch.optim.Adam, torch.optim.SGD):
        name = optimizer.__name__
        yield Case(f"gradients add up, {name}", sound(stepped(_adds_up, optimizer)), "healthy", "no zero_grad")
        yield Case(
            f"scaled gradients, {name}", sound(stepped(_clips_scaled, optimizer)), "healthy", "scaled gradient"
        )
    yield Case("gradients of one layer add up", sound(stepped(_forgets_one)), "healthy", "no zero_grad")
