"""Gradient flossing: the exponents are those that are measured, their gradient is whole, and they go to zero."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unvanish
from tests.support.whole import usual, whole_only
from unvanish import flow, penalty
from unvanish.errors import FlowError, OptionError


def same_start(**given: Any) -> penalty.Flossing:
    """Flossing whose first directions are the same at every call."""
    return penalty.Flossing(generator=torch.Generator().manual_seed(7), **given)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_reset_before", "leaky_rnn", "skip_rnn"])
def test_the_exponents_are_those_that_flow_measures(cell: str) -> None:
    layer = unvanish.Recurrent(cell, 2, 6, num_layers=2, dtype=torch.float64)
    x = torch.randn(60, 3, 2, dtype=torch.float64)
    count, skip = 3, 20
    found = same_start(count=count, skip=skip).exponents(layer, x)
    assert list(found) == ["l0", "l1"]
    for part, exponents in found.items():
        generator = torch.Generator().manual_seed(7)
        if part == "l1":  # whose directions are drawn after those of the part below
            torch.randn(3, sum(flow_widths(layer)), count, generator=generator, dtype=torch.float64)
        measured = flow.lyapunov(layer, x, part=part, count=count, skip=skip, generator=generator)
        np.testing.assert_allclose(np.sort(exponents.detach())[::-1], measured.exponents, rtol=1e-9)


def flow_widths(layer: unvanish.Recurrent) -> list[int]:
    return [state.shape[-1] for state in layer.zero_states(1)]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_reset_before"])
def test_the_gradient_is_that_of_finite_differences(cell: str) -> None:
    """The trajectory moves with the weights, too: a gradient of the Jacobians alone would miss that."""
    layer = unvanish.Recurrent(cell, 2, 3, dtype=torch.float64)
    x = torch.randn(8, 2, 2, dtype=torch.float64)
    hx = tuple(torch.randn_like(state) for state in layer.zero_states(2))

    def value() -> Tensor:
        return same_start(weight=3.0, count=2)(layer, x, hx)

    gradients = torch.autograd.grad(value(), list(layer.parameters()))
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        assert gradient.abs().max() > 1e-4
        direction = torch.randn_like(parameter)
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter += step * direction
                ends.append(value().item())
                parameter -= step * direction
        assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_a_linear_recurrence_has_the_penalty_and_the_gradient_that_its_spectrum_says() -> None:
    """d/du of mean (log u)² is 2 log(u)/u over their number."""
    cell = unvanish.Cell("linear", "h[t] = u * h[t-1]")
    layer = unvanish.Recurrent(cell, 1, 3, dtype=torch.float64)
    shares = torch.tensor([0.9, 0.5, 1.2], dtype=torch.float64)
    with torch.no_grad():
        layer["u"].copy_(shares)
    found = penalty.Flossing(2.0)(layer, torch.zeros(40, 1, 1, dtype=torch.float64))
    found.backward()
    logs = shares.log()
    assert found.item() == pytest.approx(2 * logs.square().mean().item(), rel=0.05)
    gradient = next(layer.parameters()).grad
    assert gradient is not None
    # Q turns to the axes in the end, so that up to the first steps it is exact.
    torch.testing.assert_close(gradient.flatten(), 2 * 2 * logs / shares / 3, rtol=0.2, atol=0.02)
    exact = penalty.Flossing(2.0, skip=300)(layer, torch.zeros(340, 1, 1, dtype=torch.float64))
    assert exact.item() == pytest.approx(2 * logs.square().mean().item(), rel=1e-9)


# All exponents of one state; some of two states. A second stage changes nothing in what is done with its Jacobian.
PREPARED = usual([("rnn", None, 1), ("lstm", 3, 2)], [("rnn", None, 1), ("lstm", 3, 2), ("gru_reset_before", 2, 3)])


@pytest.mark.parametrize(("cell", "count", "seed"), PREPARED)
def test_prepared_exponents_are_near_zero_and_the_gradient_reaches_further(
    cell: str, count: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = unvanish.Recurrent(cell, 2, 8)
    fresh = torch.randn(100, 4, 2)
    before, reach = flow.lyapunov(layer, fresh, count=2), flow.profile(layer, fresh).reach
    done = penalty.Flossing(count=count, rows=2).prepare(layer, torch.randn(25, 2, 2), steps=60, lr=0.03, near=0.04)
    after = flow.lyapunov(layer, fresh, count=2)
    assert 0 < done.steps <= 60
    assert np.abs(done.before["l0"]).mean() > 5 * np.abs(done.after["l0"]).mean()
    assert np.abs(after.exponents).max() < 0.15 < 0.3 < np.abs(before.exponents).max()
    assert flow.profile(layer, fresh).reach > 4 * reach


def test_an_exploding_recurrence_is_calmed() -> None:
    layer = unvanish.RNN(2, 8, init={"U_h": "orthogonal:1.6", "W_h": "normal:0.1", "b*": 0.0})
    x = 0.1 * torch.randn(10, 2, 2)
    done = penalty.Flossing(count=3).prepare(layer, x, steps=60, lr=0.02, near=0.03)
    assert done.before["l0"].min() > 0.2
    assert np.abs(done.after["l0"]).max() < 0.1


@whole_only
def test_beside_a_loss_it_holds_the_exponents() -> None:
    layer, out = unvanish.RNN(1, 10), torch.nn.Linear(10, 1)
    found = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        layer.reset_parameters()
        optimizer = torch.optim.Adam([*layer.parameters(), *out.parameters()], 0.01)
        flossing = penalty.Flossing(weight, count=4, rows=2)
        for _ in range(50):
            x = torch.randn(10, 8, 1)
            optimizer.zero_grad()
            loss = (out(layer(x)[0][-1]).squeeze(-1) - x[-1, :, 0]).square().mean()
            (loss + flossing(layer, x)).backward()
            optimizer.step()
        found[weight] = flow.lyapunov(layer, torch.randn(60, 4, 1), count=4).exponents
    assert np.abs(found[1.0]).max() < 0.6 * np.abs(found[0.0]).max()
    assert np.abs(found[1.0][:3]).max() < 0.2


@pytest.mark.parametrize("kind", ["orthogonal", "radius:0.9", "antisymmetric", "weight_norm"])
def test_a_constrained_matrix_gets_its_gradient_through_the_constraint(kind: str) -> None:
    layer = unvanish.RNN(2, 4, 2, constrain=kind, dtype=torch.float64)
    plain = unvanish.RNN(2, 4, 2, dtype=torch.float64)
    with torch.no_grad():
        for part in ("l0", "l1"):
            for name in ("W_h", "U_h", "b_h", "bh_h"):
                plain[f"{name}_{part}"].copy_(layer[f"{name}_{part}"])
    x = torch.randn(10, 2, 2, dtype=torch.float64)
    found, expected = same_start()(layer, x), same_start()(plain, x)
    torch.testing.assert_close(found, expected)
    free = [parameter for name, parameter in layer.named_parameters() if "parametrizations" in name]
    gradients = torch.autograd.grad(found, free, allow_unused=True)
    made = torch.autograd.grad(expected, [plain.weight_hh_l0, plain.weight_hh_l1])
    through = torch.autograd.grad([layer["U_h_l0"], layer["U_h_l1"]], free, list(made), allow_unused=True)
    for one, other in zip(gradients, through, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other)


def test_what_is_looked_at() -> None:
    """The first rows, in the layout of the layer; both directions; torch's layers as ours; no dropout."""
    x = torch.randn(12, 6, 2)
    layer = unvanish.RNN(2, 4, bidirectional=True)
    found = same_start(rows=2).exponents(layer, x)
    assert list(found) == ["l0", "l0_reverse"]
    assert torch.equal(found["l0"], same_start(rows=None).exponents(layer, x[:, :2])["l0"])
    first = unvanish.RNN(2, 4, batch_first=True)
    hx = torch.randn(1, 6, 4)
    a = same_start(rows=2)(first, x.transpose(0, 1), hx)
    assert torch.equal(a, same_start(rows=None)(first, x.transpose(0, 1)[:2], hx[:, :2]))
    theirs = torch.nn.LSTM(2, 4)
    same_start(count=2)(theirs, x).backward()
    assert theirs.weight_hh_l0.grad is not None
    drawn = unvanish.RNN(2, 4, recurrent_dropout=0.5)
    assert torch.equal(same_start()(drawn, x), same_start()(drawn, x))
    assert drawn.training


def test_prepare_leaves_gradients_and_stops_when_near() -> None:
    layer = unvanish.RNN(2, 4)
    held = torch.full_like(layer.weight_hh_l0, 5.0)
    layer.weight_hh_l0.grad = held
    batches = [torch.randn(10, 2, 2) for _ in range(3)]
    done = penalty.Flossing().prepare(layer, batches, steps=5)
    assert layer.weight_hh_l0.grad is held
    assert layer.weight_ih_l0.grad is None
    assert done.steps == 5
    weights = layer.weight_hh_l0.detach().clone()
    assert penalty.Flossing().prepare(layer, iter(batches), near=100.0).steps == 0
    assert torch.equal(weights, layer.weight_hh_l0)
    assert "5 steps" in repr(done)


def test_what_flossing_refuses() -> None:
    layer, x = unvanish.RNN(2, 4), torch.randn(10, 3, 2)
    for given in ({"weight": -1}, {"weight": math.nan}, {"count": 0}, {"skip": -1}, {"rows": 0}, {"count": 1.5}):
        with pytest.raises(OptionError, match="of Flossing"):
            penalty.Flossing(**given)  # type: ignore[arg-type]
    with pytest.raises(FlowError, match="not a recurrent layer"):
        penalty.Flossing()(torch.nn.Linear(2, 2), x)
    with pytest.raises(FlowError, match="5 exponents of 4"):
        penalty.Flossing(count=5)(layer, x)
    with pytest.raises(FlowError, match="after 10 of 10 steps"):
        penalty.Flossing(skip=10)(layer, x)
    with pytest.raises(OptionError, match="no batches"):
        penalty.Flossing().prepare(layer, [])
    with torch.no_grad():
        layer["U_h"].zero_()
    with pytest.raises(FlowError, match="lost at once"):
        penalty.Flossing()(layer, x)
    memoryless = unvanish.Recurrent(unvanish.Cell("now", "h[t] = tanh(W @ x[t])"), 2, 3)
    with pytest.raises(FlowError, match="nothing to floss"):
        penalty.Flossing()(memoryless, x)
