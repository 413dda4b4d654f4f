"""Jacobians, Lyapunov exponents, activations and the split of the rate, against closed forms and autograd.

Shapes: T time, B batch, I input, N full state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish import Cell, Recurrent, flow
from unvanish.errors import FlowError
from unvanish.flow.finding.parts import chosen, parts_of
from unvanish.flow.measuring import back
from unvanish.flow.measuring.profile import profile_of

T, B, I, H = 6, 2, 3, 4
LINEAR = Cell("linear", "h[t] = U_h @ h[t-1] + W_h @ x[t]")
every_cell = pytest.mark.parametrize("name", sorted(unvanish.cells))


def given(name: str, **options: object) -> tuple[Recurrent, Tensor]:
    layer = Recurrent(name, I, H, dtype=torch.float64, **options)
    return layer, torch.randn(T, B, I, dtype=torch.float64)


def filled(U: Tensor) -> dict[str, object]:
    return {"U_h": lambda weight: weight.copy_(U)}


# -- parts -----------------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("batch_first", [False, True])
def test_parts_run_one_after_the_other_give_what_the_stack_gives(name: str, batch_first: bool) -> None:
    layer, x_TBI = given(name, num_layers=2, bidirectional=True)
    layer.batch_first = batch_first
    states = tuple(s + torch.randn(s.shape).to(s.dtype) for s in layer.zero_states(B))
    x = x_TBI.transpose(0, 1) if batch_first else x_TBI
    found = parts_of(layer, x, states)
    _, final = layer(x, states if len(states) > 1 else states[0])
    wanted = torch.cat(
        [s[-2] for s in (final if isinstance(final, tuple) else (final,)) if s.is_floating_point()], -1
    )
    assert list(found) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    torch.testing.assert_close(found["l1"].trajectory()[-1], wanted.detach())


def test_a_layer_of_torch_is_taken_apart_too() -> None:
    theirs, x_TBI = nn.LSTM(I, H, 2), torch.randn(T, B, I)
    trajectory_TBN = parts_of(theirs, x_TBI)["l1"].trajectory()
    output_TBH, (_, c_LBH) = theirs(x_TBI)
    torch.testing.assert_close(trajectory_TBN[1:, :, :H], output_TBH.detach())
    torch.testing.assert_close(trajectory_TBN[-1, :, H:], c_LBH[-1].detach())


@every_cell
@pytest.mark.parametrize("options", [{}, {"batch_norm": 5}], ids=["plain", "batch_norm"])
def test_directions_go_back_through_many_steps_at_once_as_through_one_after_the_other(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x_TBI = given(name, **options)
    part = chosen(parts_of(layer.eval(), x_TBI), None)
    found = []
    for steps in (1, 3, 256):
        monkeypatch.setattr(back, "AT_ONCE", steps)
        found.append(back.squares_back(part, 3, torch.Generator().manual_seed(0), groups=2))
    for squares_GTS in found[1:]:
        np.testing.assert_allclose(squares_GTS, found[0], rtol=1e-10, atol=1e-15)


@every_cell
def test_trajectory_is_that_of_the_steps_and_is_worked_out_once(name: str) -> None:
    layer, x_TBI = given(name)
    part = chosen(parts_of(layer, x_TBI), None)
    s_TBN = part.trajectory()
    for t in range(T):
        torch.testing.assert_close(part.step(t)(s_TBN[t]).detach(), s_TBN[t + 1])
    torch.testing.assert_close(part.state_before(0), s_TBN[0])
    assert part.trajectory() is s_TBN
    assert part.double() is part.double().double()


# -- Jacobians -------------------------------------------------------------------------------------------------


@every_cell
def test_jacobian_is_that_of_autograd_and_of_finite_differences(name: str) -> None:
    layer, x_TBI = given(name)
    part = chosen(parts_of(layer, x_TBI), None)
    s_BN, step = part.trajectory()[3], part.step(3)
    found = flow.jacobian(layer, x_TBI, at=3).matrix_BNN
    by_autograd = torch.autograd.functional.jacobian(step, s_BN)
    for row in range(B):
        np.testing.assert_allclose(found[row], by_autograd[row, :, row], atol=1e-12)
        for column in range(0, s_BN.shape[1], 3):
            moved = torch.zeros_like(s_BN)
            moved[row, column] = 1e-6
            slope = (step(s_BN + moved) - step(s_BN - moved)).detach()[row] / 2e-6
            np.testing.assert_allclose(found[row, :, column], slope, atol=1e-6)


def test_jacobian_of_several_steps_is_their_product() -> None:
    layer, x_TBI = given("lstm")
    steps = [flow.jacobian(layer, x_TBI, at=t).matrix_BNN for t in (2, 3, 4)]
    np.testing.assert_allclose(
        flow.jacobian(layer, x_TBI, at=4, span=3).matrix_BNN, steps[2] @ steps[1] @ steps[0], atol=1e-12
    )


def test_memory_path_of_an_lstm_is_its_forget_gate() -> None:
    layer, x_TBI = given("lstm", init={"W_*": 0.0, "U_*": 0.0, "b_f": 1.0, "bh_f": 0.0})
    found = flow.jacobian(layer, x_TBI).block("c", "c")
    np.testing.assert_allclose(found, np.broadcast_to(np.eye(H) / (1 + math.exp(-1)), (B, H, H)), atol=1e-12)


def test_rows_and_steps_that_are_not_there_are_refused() -> None:
    layer, x_TBI = given("rnn")
    for options in ({"at": T}, {"at": 2, "span": 4}, {"span": 0}):
        with pytest.raises(FlowError, match="give at and span inside the input"):
            flow.jacobian(layer, x_TBI, **options)
    with pytest.raises(FlowError, match="no part 'l7'"):
        flow.jacobian(layer, x_TBI, part="l7")
    with pytest.raises(FlowError, match="carries no state"):
        flow.jacobian(Recurrent(Cell("still", "h[t] = W @ x[t]"), I, H), x_TBI.float())


# -- Lyapunov exponents ----------------------------------------------------------------------------------------


def test_exponents_of_a_linear_map_are_the_logarithms_of_its_eigenvalues() -> None:
    U = torch.tensor([[0.9, 5.0, 0.0], [0.0, 0.6, -0.5], [0.0, 0.5, 0.6]], dtype=torch.float64)  # one complex pair
    layer = Recurrent(LINEAR, I, 3, dtype=torch.float64, init=filled(U))
    found = flow.lyapunov(layer, torch.randn(1000, 1, I, dtype=torch.float64))
    wanted = np.log(np.sort(np.abs(np.linalg.eigvals(U.numpy())))[::-1])
    np.testing.assert_allclose(found.exponents, wanted, atol=4e-3)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru_reset_before", "leaky_rnn", "peephole_lstm", "lem"])
def test_sum_of_the_exponents_is_the_mean_log_of_the_determinant(name: str) -> None:
    layer, x_TBI = given(name)
    found = flow.lyapunov(layer, x_TBI, skip=0)
    logs = [np.linalg.slogdet(flow.jacobian(layer, x_TBI, at=t).matrix_BNN)[1] for t in range(T)]
    assert found.exponents.sum() == pytest.approx(np.mean(logs), abs=1e-9)


def test_exponents_of_a_tanh_network_are_those_of_finite_differences() -> None:
    layer = Recurrent("rnn", I, 3, dtype=torch.float64, init={"U_h": lambda w: nn.init.orthogonal_(w).mul_(1.5)})
    x_TBI = torch.randn(400, 1, I, dtype=torch.float64)
    part, q = chosen(parts_of(layer, x_TBI), None), torch.eye(3, dtype=torch.float64)
    s_TBN, sums = part.trajectory(), torch.zeros(3, dtype=torch.float64)
    for t in range(400):
        step, s_BN = part.step(t), s_TBN[t]
        moved = [step(s_BN + 1e-6 * way)[0] - step(s_BN - 1e-6 * way)[0] for way in q.t()]
        q, r = torch.linalg.qr(torch.stack(moved).t().detach() / 2e-6)
        sums += r.diagonal().abs().log() if t >= 100 else 0
    found = flow.lyapunov(layer, x_TBI, skip=100)
    np.testing.assert_allclose(found.exponents, np.sort((sums / 300).numpy())[::-1], atol=1e-3)


def test_a_direction_that_is_lost_at_once_has_the_exponent_minus_infinity() -> None:
    U = torch.diag(torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))
    layer = Recurrent(LINEAR, I, 3, dtype=torch.float64, init=filled(U))
    found = flow.lyapunov(layer, torch.randn(40, 1, I, dtype=torch.float64))
    assert found.exponents[0] == pytest.approx(math.log(0.5))
    assert np.isneginf(found.exponents[1:]).all()


def test_some_exponents_are_the_largest_of_all() -> None:
    layer, x_TBI = given("gru_reset_before")
    every, some = (
        flow.lyapunov(layer, x_TBI.repeat(60, 1, 1)),
        flow.lyapunov(layer, x_TBI.repeat(60, 1, 1), count=2),
    )
    np.testing.assert_allclose(some.exponents, every.exponents[:2], atol=5e-3)
    with pytest.raises(FlowError, match="exponents of 4"):
        flow.lyapunov(layer, x_TBI, count=5)


# -- profiles of parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "skip_rnn", "clockwork_rnn"])
def test_profile_of_a_part_is_that_of_the_layer(name: str) -> None:
    layer, x_TBI = given(name)
    part = chosen(parts_of(layer, x_TBI), None)
    found = profile_of(part, 64, torch.Generator().manual_seed(0)).norms
    # Of a state that is read several steps back the newest value counts.
    newest = np.concatenate([np.arange(place.start, place.stop) for place in part.newest().values()])
    wanted = [1.0]
    for span in range(1, T + 1):
        matrix = flow.jacobian(layer, x_TBI, span=span).matrix_BNN[:, newest][:, :, newest]
        wanted.append(math.sqrt((matrix**2).sum((1, 2)).mean() / matrix.shape[-1]))
    np.testing.assert_allclose(found, wanted, rtol=0.25)


@pytest.mark.parametrize("bias", [1.0, 3.0, 5.0])
def test_reach_of_an_lstm_is_that_of_its_forget_bias(bias: float) -> None:
    init = {"W_*": 0.0, "U_*": 0.0, "b_*": 0.0, "bh_*": 0.0, "b_f": bias}
    layer = Recurrent("lstm", I, H, dtype=torch.float64, init=init)
    x_TBI = torch.randn(900, 64, I, dtype=torch.float64)
    keep = 1 / (1 + math.exp(-bias))
    (memory,) = flow.saturation(layer, x_TBI).memories
    assert memory.time_constant == pytest.approx(1 / (1 - keep))
    found = flow.profile(layer, x_TBI)
    assert found.rate == pytest.approx(math.log(keep), abs=1e-9)
    # c is half of the full state, and with the output gate at 1/2 a quarter of h's square comes back through it.
    level = math.sqrt((1 + 0.25) / 2)
    assert found.reach == pytest.approx(math.log(0.01 / level) / math.log(keep), rel=0.03, abs=1)
    assert found.reach == pytest.approx(math.log(100 * level) * memory.time_constant, rel=0.25)


# -- activations and the split ---------------------------------------------------------------------------------


def test_activations_are_measured_where_they_stand() -> None:
    layer, x_TBI = given("lstm")
    x_TBI = 20 * x_TBI  # so that some gates are flat, and some are not
    found = flow.saturation(layer, x_TBI)
    assert [one.name for one in found.activations] == ["i", "f", "g", "o", "tanh(c[t])"]
    h, c, means = torch.zeros(1, B, H).double(), torch.zeros(1, B, H).double(), []
    for t in range(T):
        means.append(
            torch.sigmoid(x_TBI[t] @ layer["W_f"].t() + layer["b_f"] + h[0] @ layer["U_f"].t() + layer["bh_f"])
        )
        _, (h, c) = layer(x_TBI[t : t + 1], (h, c))
    f_TBH = torch.stack(means).detach()
    assert found["f"].mean == pytest.approx(float(f_TBH.mean()))
    assert found["f"].slope == pytest.approx(float((4 * f_TBH * (1 - f_TBH)).mean()))
    assert found["f"].saturated == pytest.approx(float((4 * f_TBH * (1 - f_TBH) < 0.1).double().mean()))


def test_dead_and_saturated_units_are_counted() -> None:
    bias = torch.tensor([-9.0, -9.0, -9.0, 9.0])
    for function, dead, flat in (("relu", 0.75, 0.75), ("tanh", 0.0, 1.0)):
        init = {"W_*": 0.0, "U_*": 0.0, "b_h": lambda b: b.copy_(bias), "bh_h": 0.0}
        (found,) = flow.saturation(
            Recurrent("rnn", I, H, nonlinearity=function, init=init), torch.randn(T, B, I)
        ).activations
        assert (found.dead, found.saturated) == (dead, flat)


def test_gates_of_every_kind_are_found_by_what_they_do() -> None:
    keeps = {"gru_reset_before": "z", "gru": "z", "simple_gru": "z", "lstm": "f", "leaky_rnn": "alpha", "mgu": "f"}
    for name, gate in keeps.items():
        layer, x_TBI = given(name)
        (memory,) = flow.saturation(layer, x_TBI).memories
        assert memory.gate == gate
        assert 1 < memory.time_constant <= memory.longest
    assert not flow.saturation(*given("rnn")).memories


def test_units_with_clocks_keep_their_state_between_the_ticks() -> None:
    layer, x_TBI = Recurrent("clockwork_rnn", I, 4, period=[1, 2, 4, 8]), torch.randn(16, B, I)
    (memory,) = flow.saturation(layer, x_TBI).memories
    assert memory.gate == "period"
    assert memory.keep == pytest.approx(1 - (1 + 1 / 2 + 1 / 4 + 1 / 8) / 4)
    assert memory.longest == pytest.approx(8)


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.1])
def test_weights_part_of_a_tanh_network_is_the_spectral_radius(scale: float) -> None:
    U = scale * torch.linalg.qr(torch.randn(H, H, dtype=torch.float64))[0]
    layer = Recurrent("rnn", I, H, dtype=torch.float64, init=filled(U))
    found = flow.split(layer, torch.randn(80, B, I, dtype=torch.float64))
    assert found.weights == pytest.approx(math.log(scale), abs=1e-6)
    assert found.rate == pytest.approx(found.weights + found.activations)
    assert found.activations < 0


def test_linear_recurrence_has_no_activations_part() -> None:
    U = torch.diag(torch.tensor([0.9, 0.5, 0.2, 0.1], dtype=torch.float64))
    layer = Recurrent(LINEAR, I, H, dtype=torch.float64, init=filled(U))
    found = flow.split(layer, torch.randn(80, B, I, dtype=torch.float64))
    assert found.rate == pytest.approx(math.log(0.9), abs=1e-3)
    assert found.activations == pytest.approx(0, abs=1e-12)
