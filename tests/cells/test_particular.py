"""What single cells are for, as laws. Shapes: T time, B batch, I input, H hidden."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from unvanish import Drawn, Grouped, Recurrent

INPUT, HIDDEN = 2, 6


def made(name: str, **options: Any) -> Recurrent:
    return Recurrent(name, INPUT, HIDDEN, dtype=torch.float64, **options)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def input_gradient(layer: Recurrent, steps: int, unit: slice | int = slice(None)) -> Tensor:
    """Return the norm of the last output's gradient with respect to the input of each step, latest first."""
    x_TBI = noise(steps, 1, INPUT).requires_grad_()
    layer(x_TBI)[0][-1, 0, unit].sum().backward()
    assert x_TBI.grad is not None
    return x_TBI.grad.norm(dim=(1, 2)).flip(0)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_delayed_rnn_passes_gradient_along_multiples_of_its_delay_alone(d: int) -> None:
    norms_K = input_gradient(made("delayed_rnn", d=d), 4 * d + 1)
    reached = torch.arange(len(norms_K)) % d == 0
    assert (norms_K[reached] > 0).all()
    assert (norms_K[~reached] == 0).all()


def test_skip_rnn_without_its_skip_is_the_plain_network() -> None:
    skip, plain = made("skip_rnn", init={"V_h": 0.0}), made("rnn", init={"bh_h": 0.0})
    with torch.no_grad():
        for name in ("W_h", "U_h", "b_h"):
            plain[name].copy_(skip[name])
    x_TBI = noise(9, 3, INPUT)
    torch.testing.assert_close(skip(x_TBI)[0], plain(x_TBI)[0])


def test_skip_rnn_takes_one_step_where_the_plain_network_takes_d() -> None:
    layer = made("skip_rnn", d=4, init={"U_h": 0.0})
    assert (input_gradient(layer, 9)[[0, 4, 8]] > 0).all()


class TestClockwork:
    PERIODS = (1.0, 2.0, 4.0)

    def layer(self) -> Recurrent:
        return made("clockwork_rnn", period=Grouped(self.PERIODS))

    def test_a_unit_moves_only_when_its_period_divides_the_time(self) -> None:
        layer = self.layer()
        h_TBH = torch.cat([torch.zeros(1, 2, HIDDEN), layer(noise(9, 2, INPUT))[0]])
        moved_TH = (h_TBH.diff(dim=0) != 0).all(1)
        assert torch.equal(moved_TH, torch.arange(9)[:, None] % layer.get_buffer("period_l0") == 0)

    def test_time_goes_on_from_the_state(self) -> None:
        layer, x_TBI = self.layer(), noise(7, 2, INPUT)
        first, states = layer(x_TBI[:3])
        assert states[1].tolist() == [[[3], [3]]]
        torch.testing.assert_close(torch.cat([first, layer(x_TBI[3:], states)[0]]), layer(x_TBI)[0])

    def test_fast_units_do_not_speak_to_slow_ones(self) -> None:
        layer, x_TBI = self.layer(), noise(9, 2, INPUT)
        before = layer(x_TBI)[0]
        before.sum().backward()
        period_H = layer.get_buffer("period_l0")
        forbidden_HH = period_H[None, :] < period_H[:, None]
        gradient_HH = layer.weight_hh_l0.grad
        assert forbidden_HH.sum() == 12
        assert (gradient_HH[forbidden_HH] == 0).all()
        assert (gradient_HH[~forbidden_HH] != 0).all()
        with torch.no_grad():
            layer["U_h"][forbidden_HH] = 1e3
        assert torch.equal(layer(x_TBI)[0], before)

    def test_the_groups_are_equal_and_ordered(self) -> None:
        assert self.layer().get_buffer("period_l0").tolist() == [1, 1, 2, 2, 4, 4]
        few = Recurrent("clockwork_rnn", 2, 2)
        assert few.get_buffer("period_l0").tolist() == [1, 2]


class TestLeaky:
    ALPHA_H = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

    @pytest.mark.parametrize("alpha", [0.9, ALPHA_H, torch.tensor(0.3)], ids=["number", "each", "tensor"])
    def test_without_input_the_state_decays_as_alpha_to_the_t(self, alpha: Any) -> None:
        layer = made("leaky_rnn", alpha=alpha, init={"*": 0.0})
        h_1BH = noise(1, 2, HIDDEN)
        output_TBH, _ = layer(noise(8, 2, INPUT), h_1BH)
        alpha_H = torch.as_tensor(alpha, dtype=torch.float64)
        steps_T11 = torch.arange(1, 9)[:, None, None]
        torch.testing.assert_close(output_TBH, h_1BH * alpha_H**steps_T11)

    @pytest.mark.parametrize("spacing", ["linear", "log"])
    def test_shares_are_drawn_once_a_unit_from_the_range(self, spacing: Any) -> None:
        layer = Recurrent("leaky_rnn", 2, 4000, alpha=Drawn(0.01, 1.0, spacing))
        alpha_H = layer.get_buffer("alpha_l0")
        assert alpha_H.shape == (4000,)
        assert alpha_H.min() >= 0.01
        assert alpha_H.max() <= 1.0
        middle = {"linear": 0.505, "log": 0.1}[spacing]
        assert 0.9 < alpha_H.median() / middle < 1.1
        layer.reset_parameters()
        assert torch.equal(layer.get_buffer("alpha_l0"), alpha_H)

    def test_shares_travel_with_the_weights(self) -> None:
        one, other, x_TBI = made("leaky_rnn"), made("leaky_rnn"), noise(4, 2, INPUT)
        assert not torch.equal(one(x_TBI)[0], other(x_TBI)[0])
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(x_TBI)[0], other(x_TBI)[0])

    def test_trained_shares_begin_at_a_memory_of_ten_steps_and_are_trained(self) -> None:
        layer = made("trained_leaky_rnn")
        assert torch.sigmoid(layer["a"]).sub(0.9).abs().max() < 1e-3
        layer(noise(4, 2, INPUT))[0].sum().backward()
        assert layer.get_parameter("vector_l0").grad.abs().min() > 0


def test_a_closed_forget_gate_cuts_the_gradient_and_an_open_one_carries_it() -> None:
    shut, free = made("lstm", init={"b_f": -50.0, "U_*": 0.0}), made("lstm", init={"b_f": 50.0, "U_*": 0.0})
    assert (input_gradient(shut, 5)[1:] < 1e-15).all()
    assert (input_gradient(free, 5)[1:] > 1e-6).all()


def test_the_gates_of_the_peephole_lstm_see_the_memory() -> None:
    layer, x_TBI = made("peephole_lstm"), noise(4, 2, INPUT)
    blind = layer(x_TBI)[0]
    for gate in ("p_i", "p_f", "p_o"):
        with torch.no_grad():
            kept = layer[gate].clone()
            layer[gate].add_(1.0)
            assert not torch.equal(layer(x_TBI)[0], blind)
            layer[gate].copy_(kept)


@pytest.mark.parametrize("name", ["simple_gru", "gru_reset_before", "gru"])
def test_a_gru_whose_update_gate_is_open_keeps_its_state(name: str) -> None:
    layer, h_1BH = made(name, init={"b_z": 60.0}), noise(1, 2, HIDDEN)
    torch.testing.assert_close(layer(noise(5, 2, INPUT), h_1BH)[0][-1], h_1BH[0])


def test_the_reset_gates_differ_in_where_they_stand() -> None:
    before, after = made("gru_reset_before"), made("gru", init={"bh_*": 0.0})
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            after.get_parameter(name).copy_(before.get_parameter(name))
    x_TBI = noise(3, 2, INPUT)
    torch.testing.assert_close(before(x_TBI)[0][0], after(x_TBI)[0][0])
    assert not torch.allclose(before(x_TBI)[0][2], after(x_TBI)[0][2])


@pytest.mark.parametrize(
    ("period", "wanted"),
    [(3, [3.0] * 6), ((1, 2, 4), [1.0, 1, 2, 2, 4, 4]), ([1, 2, 3, 4, 5, 6], [1.0, 2, 3, 4, 5, 6])],
)
def test_clock_periods_as_one_number_as_groups_and_for_each_unit(period: object, wanted: list[float]) -> None:
    layer = Recurrent("clockwork_rnn", 2, 6, period=period)
    assert layer(torch.randn(5, 1, 2))[0].shape == (5, 1, 6)
    assert layer.period_l0.expand(6).tolist() == wanted
