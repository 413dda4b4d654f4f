"""Recurrences are found in code that knows nothing of this package, and nothing of it is left behind.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import unvanish
from tests.diagnosis.zoo import Last, Loop, OwnCell, Windows
from unvanish.errors import FlowError
from unvanish.flow.finding.graph import time_axis
from unvanish.flow.finding.observe import observe

T, B, I, H = 12, 3, 2, 5


def seen(model: nn.Module, x: Any = None, **options: Any) -> Any:
    x = torch.randn(T, B, I) if x is None else x
    return observe(model, lambda: model(x).square().mean(), **options)


class Wrapped(nn.Module):
    """A cell of torch inside a cell of one's own, that hands a dict of states on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.LSTMCell(I, H), nn.LayerNorm(H)

    def forward(self, x_BI: Tensor, states: dict[str, Tensor]) -> dict[str, Tensor]:
        h, c = self.inner(x_BI, (states["h"], states["c"]))
        return {"h": h, "c": c}


class Dictionary(nn.Module):
    """A loop over it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Wrapped()

    def forward(self, x_TBI: Tensor) -> Tensor:
        states = {name: torch.zeros(B, H) for name in "hc"}
        for x_BI in x_TBI:
            states = self.cell(x_BI, states)
        return states["h"]


class Packed(nn.Module):
    """A packed sequence, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True, bidirectional=True)

    def forward(self, x_BTI: Tensor) -> Tensor:
        packed = pack_padded_sequence(x_BTI, torch.tensor([T, T - 3, T - 5]), batch_first=True)
        return self.rnn(packed)[1]


class Normed(nn.Module):
    """A model with buffers that move when it is run, and with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.rnn = nn.BatchNorm1d(I), nn.Dropout(0.5), nn.LSTM(I, H)

    def forward(self, x_TBI: Tensor) -> Tensor:
        return self.rnn(self.drop(self.norm(x_TBI.permute(1, 2, 0)).permute(2, 0, 1)))[0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, unvanish.LEM])
def test_layers_are_found(kind: type[nn.Module]) -> None:
    found = seen(Last(kind(I, H, num_layers=2), H))
    assert list(found.parts) == ["rnn.l0", "rnn.l1"]
    assert found.parts["rnn.l1"].steps == T
    assert found.seen["rnn"].longest == T


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("hand_on", ["joined", "detached", "reset"])
def test_cells_of_torch_are_found_and_how_their_state_is_handed_on(kind: type[nn.Module], hand_on: str) -> None:
    found = seen(Loop(kind(I, H), H, hand_on))
    assert list(found.parts) == ["cell"]
    assert found.seen["cell"].carried[hand_on] >= T - 2
    assert found.seen["cell"].longest <= (T if hand_on == "joined" else 2)


@pytest.mark.parametrize("hand_on", ["joined", "detached"])
def test_a_module_of_ones_own_is_found_by_what_it_does(hand_on: str) -> None:
    model = Loop(OwnCell(H, 1.0), H, hand_on)
    found = seen(model)
    part = found.parts["cell"]
    assert part.widths == {"h": H}
    assert found.seen["cell"].carried[hand_on] >= T - 2
    torch.testing.assert_close(part.step(3)(part.trajectory()[3]), part.trajectory()[4])


def test_the_innermost_cell_is_the_recurrence() -> None:
    found = seen(Dictionary())
    assert list(found.parts) == ["cell.inner"]
    assert found.parts["cell.inner"].widths == {"h": H, "c": H}


class Images(nn.Module):
    """A convolutional recurrence: states are images."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = self.Cell()

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(x + self.turn(h))

    def forward(self, x_TBI: Tensor) -> Tensor:
        h = torch.zeros(B, 1, 4, I)
        for x_BI in x_TBI:
            h = self.cell(x_BI[:, None, None, :], h)
        return h


class Unbatched(nn.Module):
    """A recurrence over rows that have no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = OwnCell(H, 1.0)

    def forward(self, x_TBI: Tensor) -> Tensor:
        h = torch.zeros(H)
        for x_I in x_TBI[:, 0]:
            h = self.cell(x_I, h)
        return h


@pytest.mark.parametrize(("model", "rows", "width"), [(Images(), 2, 4 * I), (Unbatched(), 1, H)])
def test_states_of_any_shape_are_measured(model: nn.Module, rows: int, width: int) -> None:
    x_TBI = torch.randn(T, B, I)
    part = observe(model, lambda: model(x_TBI).square().mean(), rows=2).parts["cell"]
    trajectory = part.trajectory()
    assert trajectory.shape == (T + 1, rows, width)
    torch.testing.assert_close(part.step(T - 1)(trajectory[-2]), trajectory[-1])
    found = unvanish.diagnose(model, x_TBI, lambda y: y.square().mean(), need=5)
    assert len(found.parts[0].eigenvalues) == width


def test_packed_sequences_and_windows_are_understood() -> None:
    found = seen(Packed(), torch.randn(3, T, I))
    assert list(found.parts) == ["rnn.l0", "rnn.l0_reverse"]
    assert found.parts["rnn.l0"].trajectory().shape == (T + 1, 1, H)  # the row that runs through
    windows = seen(Windows(nn.LSTM(I, H), H, 5, "detached")).seen["rnn"]
    assert (windows.calls, windows.steps, windows.longest, windows.carried["detached"]) == (3, T, 5, 2)
    assert seen(Windows(nn.LSTM(I, H), H, 5, "joined")).seen["rnn"].longest == T


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("hand_on", ["joined", "detached"])
def test_a_layer_that_is_called_piece_by_piece_is_measured_whole(window: int, hand_on: str) -> None:
    model, x_TBI = Windows(nn.GRU(I, H), H, window, hand_on), torch.randn(T, B, I)
    found = seen(model, x_TBI)
    part = found.parts["rnn.l0"]
    assert part.steps == T
    torch.testing.assert_close(part.trajectory()[-1], model.rnn(x_TBI)[1][0].detach())
    assert found.seen["rnn"].longest == (T if hand_on == "joined" else window)
    reset = seen(Windows(nn.GRU(I, H), H, window, "reset"), x_TBI)
    assert reset.parts["rnn.l0"].steps == window


def test_a_part_is_where_the_model_had_it() -> None:
    model, x_TBI = Last(nn.LSTM(I, H, 2), H), torch.randn(T, B, I)
    _, (h_LBH, c_LBH) = model.rnn(x_TBI)
    found = observe(model, lambda: model(x_TBI).sum(), rows=2)
    wanted = torch.cat([h_LBH[1, :2], c_LBH[1, :2]], -1).detach()
    torch.testing.assert_close(found.parts["rnn.l1"].trajectory()[-1], wanted)


def test_model_is_given_back_as_it_was() -> None:
    model, x_TBI = Normed(), torch.randn(T, B, I)
    model(x_TBI).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    buffers = [b.clone() for b in model.buffers()]
    random = torch.get_rng_state()
    observe(model, lambda: model(x_TBI).square().mean())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    for module in model.modules():
        assert not module._forward_hooks
        assert "forward" not in vars(module)


def test_nothing_is_left_behind_when_the_model_raises() -> None:
    model = Last(nn.LSTM(I, H), H)
    with pytest.raises(RuntimeError):
        observe(model, lambda: model(torch.randn(T, B, I + 1)))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda y: y, "of shape (3, 1)"),
        (lambda y: 3.0, "the loss is a float"),
        (lambda y: y.detach().sum(), "has no gradient"),
    ],
)
def test_losses_that_are_none(loss: Any, told: str) -> None:
    model, x_TBI = Last(nn.LSTM(I, H), H), torch.randn(T, B, I)
    with pytest.raises(FlowError) as fault:
        observe(model, lambda: loss(model(x_TBI)))
    assert told in str(fault.value)


def test_models_without_a_recurrence_and_cells_that_are_not_there() -> None:
    model = nn.Sequential(nn.Linear(I, 4), nn.Tanh(), nn.Linear(4, 1))
    with pytest.raises(FlowError, match="no recurrence that can be seen"):
        seen(model)
    with pytest.raises(FlowError, match="no module 'cel'"):
        seen(Loop(OwnCell(H, 1.0), H), cells=["cel"])


class Coin(nn.Module):
    """A decoder that is given the true word or its own by a coin, after a layer that reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.back = nn.GRU(I, H), nn.Linear(H, I)
        self.w, self.u = nn.Linear(I, H), nn.Linear(H, H)

    def forward(self, x_TBI: Tensor) -> Tensor:
        h_BH, given_BI = self.reader(x_TBI)[1][0], x_TBI[0]
        for x_BI in x_TBI.unbind(0):
            h_BH = torch.tanh(self.w(given_BI) + self.u(h_BH))
            given_BI = x_BI.clone() if random.random() < 0.5 else self.back(h_BH)
        return h_BH


@pytest.mark.parametrize("seed", range(6))
def test_loop_whose_steps_differ_by_a_coin_is_found_whole_beside_a_layer(seed: int) -> None:
    random.seed(seed)
    before = random.getstate(), np.random.get_state()[1].copy()
    found = seen(Coin())
    assert {name: part.steps for name, part in found.parts.items()} == {"reader.l0": T, "loop": T}
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()


class Began(nn.Module):
    """A step of one's own, whose first state is its own affair."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(I + H, H)

    def forward(self, x_BI: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        h_BH, n_BH = (x_BI.new_zeros(len(x_BI), H),) * 2 if state is None else state
        h_BH = torch.tanh(self.step(torch.cat([x_BI, h_BH], -1)))
        return h_BH, n_BH + 0.1 * h_BH


class Stepwise(nn.Module):
    """It, or a cell of torch that is called by keywords, with no state at the first step."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.cell, self.own = Began() if own else nn.GRUCell(I, H), own

    def forward(self, x_TBI: Tensor) -> Tensor:
        state: Any = None
        for x_BI in x_TBI:
            state = self.cell(x_BI, state) if self.own else self.cell(input=x_BI, hx=state)
        return state[1] if self.own else state


@pytest.mark.parametrize(("own", "steps"), [(True, T - 1), (False, T)])
def test_cell_that_makes_its_own_first_state_is_seen_from_the_next_step_on(own: bool, steps: int) -> None:
    found = seen(Stepwise(own))
    assert {name: part.steps for name, part in found.parts.items()} == {"cell": steps}


@pytest.mark.parametrize(
    ("shape", "embedded", "axis"), [((B, I, T), False, 2), ((B, T, I), False, 1), ((B, I, I), True, 1)]
)
def test_time_axis_is_told_by_what_a_convolution_takes(shape: tuple[int, ...], embedded: bool, axis: int) -> None:
    assert time_axis(nn.Sequential(nn.Conv1d(I, 4, 3)), torch.randn(shape), None, embedded) == axis


class Written(nn.Module):
    """An encoder, and a decoder of so many steps that is written out and runs over nothing."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.reader, self.steps = nn.LSTM(I, H), steps
        self.w, self.u = nn.Linear(H, H), nn.Linear(H, H)

    def forward(self, x_TBI: Tensor) -> Tensor:
        h_BH = given_BH = self.reader(x_TBI)[1][0][0]
        for _ in range(self.steps):
            h_BH = torch.tanh(self.w(given_BH) + self.u(h_BH))
            given_BH = h_BH.sigmoid()
        return h_BH


@pytest.mark.parametrize("steps", [2 * B, 2 * T, 17])
def test_decoder_that_runs_over_nothing_is_found_beside_an_encoder_step_by_step(steps: int) -> None:
    x_TBI = torch.randn(T, B, I)
    found = seen(Written(steps), x_TBI, inputs=[x_TBI])
    assert found.parts.keys() == {"reader.l0", "loop"}
    assert found.parts["loop"].steps in (steps - 1, steps)  # nothing follows the last


def test_layers_with_weights_of_their_own_are_no_recurrence() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reader = nn.LSTM(I, H)
            self.matrices = nn.ParameterList([torch.randn(H, H) for _ in range(7)])

        def forward(self, x_TBI: Tensor) -> Tensor:
            y_BH = self.reader(x_TBI)[0][-1]
            for matrix in self.matrices:
                y_BH = torch.tanh(nn.functional.linear(y_BH, matrix))
            return y_BH

    assert set(seen(Deep()).parts) == {"reader.l0"}


def test_layer_called_on_windows_with_a_detached_state_is_the_layer() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, 2)

        def forward(self, x_TBI: Tensor) -> Tensor:
            states, outputs = None, []
            for window in x_TBI.split(4):
                states = None if states is None else tuple(state.detach() for state in states)
                y, states = self.rnn(window, states)
                outputs.append(y)
            return torch.cat(outputs)

    found = unvanish.diagnose(
        Cut(), torch.randn(20, B, I), lambda y: y.square().mean(), need=6, prescriptions=False
    )
    assert [part.name for part in found.parts] == ["rnn.l0", "rnn.l1"]
    assert (found.verdict, found.causes[0].kind, found.parts[0].window) == ("vanishing", "detached state", 4)


class Solver(nn.Module):
    """A solver that is called several times per step of time, and reads the input at each call."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.slope, self.at_once = nn.Sequential(nn.Linear(I + H, H), nn.Tanh()), at_once

    def forward(self, x_BTI: Tensor) -> Tensor:
        h_BH = x_BTI.new_zeros(len(x_BTI), H)
        for t in range(x_BTI.shape[1]):
            if self.at_once:
                first_BH = self.slope(torch.cat([x_BTI[:, t], h_BH], -1))
                h_BH = h_BH + self.slope(torch.cat([x_BTI[:, t], h_BH + first_BH / 2], -1))
                continue
            for _ in range(6):
                h_BH = h_BH + self.slope(torch.cat([x_BTI[:, t], h_BH], -1)) / 6
        return h_BH


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_several_calls_of_a_solver_are_one_step_of_time(at_once: bool, rows: int) -> None:
    x_BTI = torch.randn(rows, T, I)
    assert [part.steps for part in seen(Solver(at_once), x_BTI, inputs=[x_BTI]).parts.values()] == [T]
