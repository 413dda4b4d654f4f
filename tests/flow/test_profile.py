"""Profiles: the measured decay is the one that mathematics predicts.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish import flow
from unvanish.engine import Border, Tap
from unvanish.errors import FlowError

LINEAR = unvanish.Cell("linear", "h[t] = U @ h[t-1]")


def matrix_with(eigenvalues: list[complex], seed: int) -> Tensor:
    """A real, non-normal matrix with a chosen spectrum; complex eigenvalues stand for conjugate pairs."""
    blocks = [
        torch.tensor([[z.real, -z.imag], [z.imag, z.real]]) if z.imag else torch.tensor([[z.real]])
        for z in eigenvalues
    ]
    diagonal = torch.block_diag(*blocks).double()
    generator = torch.Generator().manual_seed(seed)
    basis = torch.eye(len(diagonal), dtype=torch.float64)
    basis = basis + 0.3 * torch.randn(len(diagonal), len(diagonal), dtype=torch.float64, generator=generator)
    return basis @ diagonal @ torch.linalg.inv(basis)


def linear_layer(U_HH: Tensor) -> unvanish.Recurrent:
    return unvanish.Recurrent(LINEAR, 1, len(U_HH), dtype=torch.float64, init=lambda U: U.copy_(U_HH))


@pytest.mark.parametrize(
    ("eigenvalues", "steps"),
    [
        ([0.9, 0.5, -0.3], 120),
        ([0.5, 0.1], 60),
        ([-0.97, 0.6, 0.2], 200),
        ([0.93 * np.exp(0.7j), 0.4, 0.3], 300),
        ([1.02, 0.7, 0.9], 300),
        ([1.05 * np.exp(1.1j), 0.8], 300),
    ],
)
def test_rate_of_a_linear_recurrence_is_log_of_its_spectral_radius(eigenvalues: list[complex], steps: int) -> None:
    torch.manual_seed(3)
    layer = linear_layer(matrix_with([complex(z) for z in eigenvalues], seed=5))
    found = flow.profile(layer, torch.zeros(steps, 4, 1, dtype=torch.float64))
    wanted = math.log(max(abs(z) for z in eigenvalues))
    assert found.rate == pytest.approx(wanted, rel=0.01)


def test_rate_of_an_orthogonal_recurrence_is_zero() -> None:
    U_HH = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    found = flow.profile(linear_layer(U_HH), torch.zeros(80, 3, 1, dtype=torch.float64))
    assert found.rate == pytest.approx(0, abs=1e-10)
    assert found.norms == pytest.approx(np.ones(80))
    assert (found.reach, found.censored) == (79, True)


def test_reach_of_a_linear_recurrence() -> None:
    found = flow.profile(linear_layer(0.9 * torch.eye(3, dtype=torch.float64)), torch.zeros(100, 2, 1).double())
    assert found.reach == math.floor(math.log(0.01) / math.log(0.9))
    assert not found.censored


@pytest.mark.parametrize("name", sorted(unvanish.cells))
def test_profile_is_the_frobenius_norm_of_the_product_of_jacobians(name: str) -> None:
    """E‖Jᵀv‖² = ‖J‖²_F for v ~ N(0, I): averaged over many draws, g(k)² · n = ‖∂s_t/∂s_{t-k}‖²_F."""
    torch.manual_seed(2)
    hidden, steps = 3, 7
    layer = unvanish.Recurrent(name, 2, hidden, dtype=torch.float64, engine="reference")
    for parameter in layer.parameters():
        parameter.data.mul_(2)
    x_TBI = torch.randn(steps, 1, 2, dtype=torch.float64)
    found = flow.profile(layer, x_TBI.expand(-1, 1000, -1), draws=4)  # the mean runs over rows and draws
    states = layer.state_names[: len(found.state_norms)]
    last: list[Tensor] = []
    watched: list[list[Tensor]] = []

    class Cut(Tap):
        def border(self, states: Mapping[str, Tensor], at: Border) -> dict[str, Tensor]:
            cut = {key: value.view_as(value) for key, value in states.items()}
            watched.append(list(cut.values()))
            return cut

    with layer.tapped(Cut()):
        layer(x_TBI)
    last = watched[-1]
    # Each state in its own size: the root of its mean square along the trajectory, which begins with zeros.
    sizes = [
        float(torch.stack([torch.zeros_like(last[i]), *(at[i].detach() for at in watched)]).square().mean().sqrt())
        for i in range(len(last))
    ]
    for lag in range(steps):
        total = 0.0
        for value, size in zip(last, sizes, strict=True):
            for unit in range(hidden):
                wanted = torch.autograd.grad(
                    value[0, unit], watched[-1 - lag], retain_graph=True, allow_unused=True
                )
                pairs = zip(wanted, sizes, strict=True)
                total += sum(float((g * other / size).square().sum()) for g, other in pairs if g is not None)
        wanted_norm = math.sqrt(total / (hidden * len(states)))
        assert found.norms[lag] == pytest.approx(wanted_norm, rel=0.05, abs=1e-12), lag


def test_profile_does_not_depend_on_the_unit_of_a_state() -> None:
    text = """
        i    = sigmoid(W_i @ x[t] + U_i @ h[t-1])
        f    = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
        g    = tanh(W_g @ x[t] + U_g @ h[t-1])
        c[t] = f * c[t-1] + {unit} * i * g
        h[t] = tanh(c[t] / {unit})
    """
    torch.manual_seed(0)
    layers = [unvanish.Recurrent(unvanish.Cell("own", text.format(unit=u)), 3, 6).double() for u in (1, 1000)]
    layers[1].load_state_dict(layers[0].state_dict())
    x_TBI = torch.randn(30, 2, 3, dtype=torch.float64)
    one, other = (flow.profile(layer, x_TBI, generator=torch.Generator().manual_seed(1)) for layer in layers)
    np.testing.assert_allclose(other.norms, one.norms, rtol=1e-9)
    for state in ("h", "c"):
        np.testing.assert_allclose(other.state_norms[state], one.state_norms[state], rtol=1e-9)


def test_states_shares_add_up_and_lag_zero_is_one() -> None:
    found = flow.profile(unvanish.LSTM(3, 8), torch.randn(20, 4, 3))
    total = sum(norms**2 for norms in found.state_norms.values())
    assert np.sqrt(total) == pytest.approx(found.norms)
    assert found.norms[0] == pytest.approx(1)
    assert set(found.state_norms) == {"h", "c"}


def test_fit_is_the_line_through_the_later_half() -> None:
    curve = [0.7 * 0.2**k + 0.3 * 0.95**k for k in range(100)]
    rate, level = flow.fit_rate(curve)
    assert rate == pytest.approx(math.log(0.95), rel=1e-4)
    assert math.exp(level) == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize(
    ("norms", "reach", "censored"),
    [([1, 0, 0], 0, False), ([1, 0.5, 0.02], 2, True), ([2, 0.021, 0.019, 0.03], 1, False), ([1], 0, True)],
)
def test_reach_of_norms(norms: list[float], reach: int, censored: bool) -> None:
    assert flow.reach_of(norms) == (reach, censored)


def test_dead_recurrence_has_rate_minus_infinity() -> None:
    found = flow.profile(linear_layer(torch.zeros(3, 3, dtype=torch.float64)), torch.zeros(9, 2, 1).double())
    assert found.rate == -math.inf
    assert found.reach == 0


def test_delay_shows_as_lags_that_carry_gradient() -> None:
    found = flow.profile(unvanish.DelayedRNN(2, 4, d=3), torch.randn(13, 2, 2))
    assert [lag for lag in range(13) if found.norms[lag] > 0] == [0, 3, 6, 9, 12]


def test_parts_are_measured_with_their_input_held_fixed() -> None:
    layer = unvanish.GRUResetBefore(3, 4, 2, bidirectional=True)
    x_TBI = torch.randn(12, 3, 3)
    found = flow.profiles(layer, x_TBI, generator=torch.Generator().manual_seed(0))
    assert list(found) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert flow.profile(layer, x_TBI, part="l0").part == "l0"
    assert flow.profile(layer, x_TBI).part == "l1"
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_profile_of_torch_layer_equals_that_of_ours() -> None:
    theirs = nn.LSTM(3, 5, 2, batch_first=True)
    ours = unvanish.LSTM(3, 5, 2, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x_BTI = torch.randn(4, 15, 3)
    one, other = (
        flow.profiles(layer, x_BTI, generator=torch.Generator().manual_seed(1)) for layer in (theirs, ours)
    )
    for part in one:
        assert one[part].norms == pytest.approx(other[part].norms, rel=1e-5)


def test_step_in_the_middle_and_states_to_start_from() -> None:
    layer = linear_layer(0.8 * torch.eye(2, dtype=torch.float64))
    x_TBI, h_LBH = torch.zeros(10, 1, 1, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.float64)
    found = flow.profile(layer, x_TBI, h_LBH, at=4)
    assert found.norms == pytest.approx(0.8 ** np.arange(5))


@pytest.mark.parametrize(
    ("layer", "x", "options", "message"),
    [
        (nn.Linear(2, 2), torch.zeros(3, 1, 2), {}, "not a recurrent layer"),
        (unvanish.RNN(2, 2), torch.zeros(3, 2), {}, "batched"),
        (unvanish.RNN(2, 2), torch.zeros(3, 1, 2), {"at": 3}, "step inside"),
        (unvanish.RNN(2, 2), torch.zeros(3, 1, 2), {"part": "l7"}, "no part 'l7'"),
        (unvanish.Recurrent(unvanish.Cell("mlp", "h[t] = W @ x[t]"), 2, 2), torch.zeros(3, 1, 2), {}, "no state"),
    ],
)
def test_what_cannot_be_measured_says_why(layer: nn.Module, x: Tensor, options: dict, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        flow.profile(layer, x, **options)
