"""What stands between two calls of a layer, or is made of its state for the next, is a part of the recurrence.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish
from tests.outside.truth import shares_left
from unvanish.flow.finding.observe import observe

T, B, I, H = 24, 40, 3, 8
Step = Callable[["Stepped", Tensor, Tensor], Tensor]


class Stepped(nn.Module):
    """A GRU called step by step; `step` runs one with its input and its state, and returns its state."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.rnn, self.mix, self.step = nn.GRU(I, H), nn.Linear(H, I), step
        with torch.no_grad():
            self.mix.weight.mul_(8)
        self.states: list[tuple[Tensor, ...]] = []

    def forward(self, x_TBI: Tensor) -> Tensor:
        h_LBH, states = x_TBI.new_zeros(1, x_TBI.shape[1], H), []
        for x_BI in x_TBI:
            h_LBH = self.step(self, x_BI, h_LBH)
            states.append((h_LBH,))
        self.states = states
        return h_LBH


def masked(model: Stepped, x_BI: Tensor, h_LBH: Tensor) -> Tensor:
    alive_B = (torch.rand(len(x_BI)) > 0.4).float()
    return model.rnn(x_BI[None], alive_B[:, None] * h_LBH)[1]


def damped(model: Stepped, x_BI: Tensor, h_LBH: Tensor) -> Tensor:
    return model.rnn(x_BI[None], 0.6 * h_LBH)[1]


def fed(model: Stepped, x_BI: Tensor, h_LBH: Tensor) -> Tensor:
    return model.rnn((x_BI + model.mix(h_LBH[0]))[None], h_LBH)[1]


@pytest.mark.parametrize("step", [masked, damped, fed])
def test_layer_called_step_by_step_is_measured_through_the_model(step: Step) -> None:
    model, x_TBI = Stepped(step), torch.randn(T, B, I)
    found = unvanish.diagnose(model, x_TBI, lambda h: h.square().mean(), need=T - 1, prescriptions=False)
    (part,) = found.parts
    assert part.kind == "torch.nn.GRU"
    model(x_TBI)
    truth = torch.tensor(shares_left(model.states))
    told = torch.tensor(part.profile.norms)
    for lag in (1, 3, 6):
        assert float((told[lag] / truth[lag]).log().abs()) < 0.7, (lag, told, truth)


def test_output_that_is_fed_back_counts_as_the_state_that_it_is() -> None:
    class Fed(nn.Module):
        """The state is handed on, and the output goes into the next input."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.mix = nn.LSTM(I, H), nn.Linear(H, I)

        def forward(self, x_TBI: Tensor, last: bool = False) -> Tensor:
            y, states = self.rnn(x_TBI[:1])
            for x_BI in x_TBI[1:]:
                state = states[0][-1] if last else y[0]
                y, states = self.rnn((x_BI + 3 * self.mix(state))[None], states)
            return y

    model, x_TBI = Fed(), torch.randn(T, B, I)
    by_output, by_state = (
        observe(model, lambda last=last: model(x_TBI, last).square().mean()).parts["rnn.l0"].squares_DKS
        for last in (False, True)
    )
    torch.testing.assert_close(by_output, by_state, rtol=1e-4, atol=1e-12)


def test_layer_is_measured_by_itself_where_nothing_stands_between() -> None:
    def plain(model: Stepped, x_BI: Tensor, h_LBH: Tensor) -> Tensor:
        return model.rnn(x_BI[None], h_LBH)[1]

    model, x_TBI = Stepped(plain), torch.randn(T, B, I)
    part = observe(model, lambda: model(x_TBI).square().mean()).parts["rnn.l0"]
    assert part.squares_DKS is None
    assert not part.changed_between


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.LSTM])
def test_cell_is_measured_over_the_longest_sequence_between_resets_of_all_rows(kind: Any) -> None:
    class Episodes(nn.Module):
        """States are multiplied by zero at the 7th and the 20th step, where all episodes end."""

        def __init__(self) -> None:
            super().__init__()
            self.cell = kind(I, H)

        def forward(self, x_TBI: Tensor) -> Tensor:
            shape = (B, H) if kind is not nn.LSTM else (1, B, H)
            state: Any = (x_TBI.new_zeros(shape),) * 2
            states = []
            for t, x_BI in enumerate(x_TBI):
                alive = 0.0 if t in (7, 20) else 1.0
                if kind is nn.LSTM:
                    _, state = self.cell(x_BI[None], (alive * state[0], alive * state[1]))
                elif kind is nn.LSTMCell:
                    state = self.cell(x_BI, (alive * state[0], alive * state[1]))
                else:
                    state = (self.cell(x_BI, alive * state[0]),)
                states.append(state[0])
            return torch.stack(states)

    found = unvanish.diagnose(Episodes(), torch.randn(T, B, I), lambda h: h.square().mean(), need=5)
    (part,) = found.parts
    assert found.verdict == "healthy"
    assert (part.window, len(part.profile.norms)) == (13, 14)


class Fed(nn.Module):
    """A decoder with a layer, dropout and an attention of sorts inside, for a single row."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.mix, self.drop = nn.GRU(H, H), nn.Linear(H, H), nn.Dropout(0.2)

    def forward(self, x_BI: Tensor, fed_BH: Tensor, h_LBH: Tensor) -> tuple[Tensor, Tensor]:
        y, h_LBH = self.rnn(self.drop(fed_BH)[None] + x_BI.mean(), h_LBH)
        return torch.tanh(self.mix(y[0])), h_LBH


def test_layer_inside_a_decoder_is_not_counted_twice() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = Fed()

        def forward(self, x_TBI: Tensor) -> Tensor:
            fed, h = x_TBI.new_zeros(x_TBI.shape[1], H), x_TBI.new_zeros(1, x_TBI.shape[1], H)
            for x_BI in x_TBI:
                fed, h = self.decoder(x_BI, fed, h)
            return fed

    for rows in (1, 5):
        found = unvanish.diagnose(Model(), torch.randn(T, rows, I), lambda y: y.square().mean(), need=5)
        assert [part.name for part in found.parts] == ["decoder.rnn.l0"]


@pytest.mark.parametrize(("share", "kind"), [(0.02, "forgetting"), (0.6, "changed between calls")])
def test_ends_of_episodes_are_the_cause_only_where_they_take_the_gradient(share: float, kind: str) -> None:
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(I, H)

        def forward(self, x_TBI: Tensor, done_TB: Tensor) -> Tensor:
            state = (x_TBI.new_zeros(1, B, H),) * 2
            for x_BI, done_B in zip(x_TBI, done_TB, strict=True):
                alive_BH = (1 - done_B)[:, None]
                _, state = self.lstm(x_BI[None], (alive_BH * state[0], alive_BH * state[1]))
            return state[0]

    batch = (torch.randn(T, B, I), (torch.rand(T, B) < share).float())
    found = unvanish.diagnose(Agent(), batch, lambda h: h.square().mean(), need=12, prescriptions=False)
    assert (found.verdict, found.causes[0].kind) == ("vanishing", kind)
