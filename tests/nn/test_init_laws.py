"""Initialisers change the flow as their papers claim, and by as much."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.whole import usual
from unvanish import Cell, Recurrent, flow
from unvanish.nn import init

GATED = ("lstm", "gru_reset_before", "mgu", "peephole_lstm", "lem")
LINEAR = Cell("linear", "h[t] = U @ h[t-1] + W @ x[t]")
INPUT, H = 3, 64


def zeros(steps: int, batch: int = 1) -> Tensor:
    return torch.zeros(steps, batch, INPUT, dtype=torch.float64)


def measured(cell: Cell | str, steps: int, word: object, **options: object) -> flow.Profile:
    layer = Recurrent(cell, INPUT, H, dtype=torch.float64, init=word, **options)  # type: ignore[arg-type]
    return flow.profile(layer, zeros(steps), draws=2)


@pytest.mark.parametrize(
    ("name", "steps"), usual([*product(GATED, [50]), ("lstm", 200)], [*product(GATED, [50, 200])])
)
def test_chrono_keeps_for_as_long_as_it_is_told(name: str, steps: int) -> None:
    """The slowest units have the time constant T, so log g falls by 1/T a step, and g of all units to 1 % at 3.5 T.

    For with nothing but gates g(k)² = E exp(-2k/τ), τ ~ U(2, T), which is near to E₂(2k/T), 1e-4 at k = 3.5 T. What
    the matrices add to the gates' own path is left in, hence a factor of 2.
    """
    torch.manual_seed(steps)
    found = measured(name, 8 * steps, f"chrono:{steps}")
    assert not found.censored
    assert 1 / 2 < found.reach / (3.5 * steps) < 2
    assert 1 / 2 < -1 / found.rate / steps < 2.1
    assert measured(name, 8 * steps, None).reach < 0.7 * steps


@pytest.mark.parametrize("name", GATED)
def test_a_gate_held_open_keeps_as_its_bias_says(name: str) -> None:
    """With all matrices zero g of the state that is kept falls by sigmoid(b) a step, without end."""
    for bias in (0.0, 2.0, 4.0):
        torch.manual_seed(0)
        found = measured(name, 60, ["zeros", {"b_*": 0.0}, f"forget:{bias}"])
        assert found.rate == pytest.approx(math.log(1 / (1 + math.exp(-bias))), rel=0.02)


@pytest.mark.parametrize("alpha", [0.9, 0.99])
def test_a_leak_without_matrices_keeps_by_its_closed_form(alpha: float) -> None:
    wanted = math.log(0.01) / math.log(alpha)
    found = measured("leaky_rnn", int(1.5 * wanted), [0.0, {"alpha": alpha}])
    assert abs(found.reach - wanted) <= 1
    tau = -1 / math.log(alpha)
    same = measured("leaky_rnn", int(1.5 * wanted), [0.0, f"leaks:{tau}:{tau}"])
    assert same.reach == found.reach
    assert same.rate == pytest.approx(math.log(alpha))


def test_leaks_are_log_uniform() -> None:
    """Kolmogorov, Smirnov: the largest distance of the distributions is under 1.95/√n but once in a thousand."""
    torch.manual_seed(0)
    for name, number in (
        ("leaky_rnn", "alpha_l0"),
        ("trained_leaky_rnn", ""),
        ("gru_reset_before", ""),
        ("mgu", ""),
    ):
        layer = Recurrent(name, 2, 2000, dtype=torch.float64, init=["zeros", "leaks:1:1000"])
        if number:
            share_H = getattr(layer, number)
        elif name == "trained_leaky_rnn":
            share_H = layer["a"].detach().sigmoid()
        else:
            share_H = (
                layer["b_z"].detach().sigmoid()
                if name == "gru_reset_before"
                else (-layer["b_f"].detach()).sigmoid()
            )
        place_H = np.sort((-1 / share_H.log()).log().numpy()) / math.log(
            1000
        )  # uniform in [0, 1], if the law holds
        empirical_H = np.arange(1, 2001) / 2000
        distance = max(np.abs(empirical_H - place_H).max(), np.abs(empirical_H - 1 / 2000 - place_H).max())
        assert distance < 1.95 / math.sqrt(2000)


def test_identity_with_relu_neither_vanishes_nor_explodes() -> None:
    layer = Recurrent("rnn", INPUT, H, dtype=torch.float64, nonlinearity="relu", init=["identity", {"b*": 0.0}])
    x_TBI = torch.rand(200, 2, INPUT, dtype=torch.float64)
    h_1BH = torch.rand(1, 2, H, dtype=torch.float64) + 100  # what comes in is added up, and stays above zero
    found = flow.profile(layer, x_TBI, h_1BH)
    assert found.rate == pytest.approx(0, abs=1e-9)
    assert found.censored
    assert flow.profile(Recurrent("rnn", INPUT, H, nonlinearity="relu"), x_TBI.float(), h_1BH.float()).reach < 20


def test_orthogonal_keeps_every_norm_and_its_gain_is_the_rate() -> None:
    for gain in (1.0, 0.9):
        layer = Recurrent(LINEAR, INPUT, H, dtype=torch.float64, init=f"orthogonal:{gain}")
        singular = torch.linalg.svdvals(layer["U"].detach())
        assert torch.allclose(singular, torch.full_like(singular, gain))
        assert flow.profile(layer, zeros(200)).rate == pytest.approx(math.log(gain), abs=1e-6)


@pytest.mark.parametrize("word", ["radius:0.9", "radius:1.05", "sparse:15:0.95", "sparse:4:1.1"])
def test_the_rate_of_a_linear_recurrence_is_the_logarithm_of_the_radius(word: str) -> None:
    torch.manual_seed(0)
    layer = Recurrent(LINEAR, INPUT, H, dtype=torch.float64, init=word)
    value = float(word.split(":")[-1])
    assert float(torch.linalg.eigvals(layer["U"].detach()).abs().max()) == pytest.approx(value)
    assert flow.profile(layer, zeros(600), draws=4).rate == pytest.approx(math.log(value), abs=2e-3)


@pytest.mark.parametrize(("variance", "layers"), [(1.0, 20), (0.01, 10), (100.0, 5)])
def test_depth_gives_the_variance_that_is_asked_for_after_so_many_layers(variance: float, layers: int) -> None:
    torch.manual_seed(0)
    ratios = []
    for _ in range(30):
        x_BW = torch.randn(50, 100, dtype=torch.float64)
        y_BW = x_BW
        for _ in range(layers):
            y_BW = y_BW @ init.depth(variance, layers)(torch.empty(100, 100, dtype=torch.float64)).T
        ratios.append(float(y_BW.square().mean() / x_BW.square().mean()))
    assert np.mean(ratios) == pytest.approx(variance, rel=0.25)  # whose deviation is near √(2n / 100 / 30) of it


def test_small_weights_vanish_and_relu_keeps_its_variance_behind_he() -> None:
    torch.manual_seed(0)
    assert measured("rnn", 30, "scaled:0.01").reach <= 2
    x_BW = torch.randn(100, 400)
    y_BW = x_BW
    for _ in range(10):
        y_BW = (y_BW @ init.he(normal=True)(torch.empty(400, 400)).T).relu()
    assert 1 / 2 < float(y_BW.square().mean() / x_BW.square().mean()) < 2


def test_chrono_reaches_through_a_projected_cell_too() -> None:
    torch.manual_seed(0)
    assert measured("lstm", 800, "chrono:100", proj_size=8).reach > 150
    assert measured("gru_reset_before", 800, "chrono:100", proj_size=8).reach > 150
