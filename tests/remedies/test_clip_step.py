"""Clipping inside the backward pass, as a remedy that is attached to a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unvanish
from unvanish.errors import NonFiniteError, OptionError
from unvanish.remedies import clip


def exploding(recurrent: float = 3.0) -> unvanish.Recurrent:
    """A linear unit that multiplies the adjoint with a number at each step."""
    layer = unvanish.Recurrent("rnn", 1, 1, bias=False, nonlinearity="relu")
    with torch.no_grad():
        layer["U_h"].fill_(recurrent)
        layer["W_h"].fill_(1.0)
    return layer


def back(model: nn.Module, steps: int = 6) -> torch.Tensor:
    """Return the input's gradient of the last output."""
    model.zero_grad()
    x_TBI = torch.full((steps, 1, 1), 1e-3, requires_grad=True)
    model(x_TBI)[0][-1].sum().backward()
    assert x_TBI.grad is not None
    return x_TBI.grad.flatten()


@pytest.mark.parametrize("by", ["value", "norm"])
def test_the_adjoint_is_clipped_at_every_step(by: str) -> None:
    layer = exploding()
    torch.testing.assert_close(back(layer), 3.0 ** torch.arange(5, -1, -1))
    with clip.PerStep(2.0, by).attach(layer) as found:  # type: ignore[arg-type]
        torch.testing.assert_close(back(layer), torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, 1.0]))
        record = found(layer)
    assert (record.acted, record.nonfinite, record.factor, record.threshold) == (True, False, 1.0, 2.0)
    assert found.adjoints[1] == 5
    torch.testing.assert_close(back(layer), 3.0 ** torch.arange(5, -1, -1))


def test_each_call_tells_what_was_done_since_the_last() -> None:
    layer = exploding(0.5)
    found = clip.PerStep(2.0).attach(layer)
    back(layer)
    assert not found(layer).acted
    with torch.no_grad():
        layer["U_h"].fill_(3.0)
    back(layer)
    assert found(layer).acted
    assert not found(layer).acted
    assert (found.calls, found.acted, found.nonfinite) == (3, 1, 0)


def test_every_recurrent_of_a_model_is_reached_and_given_back() -> None:
    model = nn.ModuleDict({"encoder": exploding(), "head": nn.Sequential(exploding())})
    layers = [model["encoder"], model["head"][0]]
    outer, inner = clip.PerStep(5.0), clip.PerStep(2.0)
    outer.attach(model)
    first = [layer.taps for layer in layers]
    assert first[0] == first[1] != ()
    with inner.attach(model):
        assert all(len(layer.taps) == 1 and layer.taps != first[0] for layer in layers)
        with pytest.raises(OptionError, match="attached already"):
            inner.attach(model)
    assert all(layer.taps == first[0] for layer in layers)
    outer.detach()
    assert all(layer.taps == () for layer in layers)


def test_a_model_without_a_recurrent_is_refused_with_a_way_out() -> None:
    with pytest.raises(OptionError, match="as_ours"):
        clip.PerStep(1.0).attach(nn.LSTM(2, 2))


def overflowing(policy: str) -> tuple[unvanish.Recurrent, clip.PerStep]:
    """A step whose Jacobian is infinite: the adjoint is lost there, and what came later in time is left."""
    layer = exploding(1e30)
    found = clip.PerStep(1e20, nonfinite=policy).attach(layer)
    gradient = back(layer, 3)
    assert bool(torch.isfinite(gradient).all())
    return layer, found


def test_an_adjoint_that_is_lost_falls_under_the_policy() -> None:
    layer, found = overflowing("zero")
    record = found(layer)
    assert record.nonfinite
    assert all(parameter.grad is not None for parameter in layer.parameters())
    layer, found = overflowing("skip")
    assert found(layer).nonfinite
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert (found.nonfinite, found.skipped) == (1, 1)
    layer, found = overflowing("raise")
    with pytest.raises(NonFiniteError, match="adjoints"):
        found(layer)


def test_a_gradient_that_is_not_finite_falls_under_it_too() -> None:
    layer = exploding()
    found = clip.PerStep(2.0).attach(layer)
    back(layer)
    layer.weight_ih_l0.grad.fill_(float("nan"))
    assert found(layer).factor == 0.0
    assert (found.nonfinite, found.skipped, found.acted) == (1, 1, 0)
    back(layer)
    assert found(layer).acted
    assert found.adjoints[0] == 6


def test_training_goes_on_where_it_blew_up() -> None:
    """Just past explosion the first plain step kills the unit; with the adjoint clipped it learns its 100.

    A dead unit's output is 0, and its loss 10,000.
    """
    last = {}
    for name in ("plain", "per step"):
        layer = exploding(1.1)
        optimiser = torch.optim.SGD(layer.parameters(), lr=1e-3)
        if name == "per step":
            clip.PerStep(1e-4).attach(layer)
        for _ in range(250):
            optimiser.zero_grad()
            loss = (layer(torch.ones(30, 1, 1))[0][-1] - 100.0).square().sum()
            loss.backward()
            optimiser.step()
        last[name] = float(loss.detach())
    assert last["plain"] == 10_000
    assert last["per step"] < 1


@pytest.mark.parametrize("by", ["value", "norm"])
def test_the_threshold_is_of_the_loss_as_it_is_before_a_scaler_multiplies_it(by: str) -> None:
    found = []
    for scale in (1.0, 4096.0):
        torch.manual_seed(0)
        layer = unvanish.GRUResetBefore(2, 8)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = torch.optim.SGD(layer.parameters(), 0.1)
        per_step = clip.PerStep(0.05, by).attach(layer, scaler)  # type: ignore[arg-type]
        scaler.scale(layer(torch.randn(9, 4, 2))[0].sum()).backward()
        scaler.unscale_(optimizer)
        found.append((per_step(layer), per_step.adjoints, [p.grad.clone() for p in layer.parameters()]))
    assert found[0][0].acted
    assert found[0][1] == found[1][1]
    for plain, scaled in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(scaled, plain)


def test_a_clip_that_is_attached_to_nothing_says_so() -> None:
    layer = unvanish.GRUResetBefore(2, 8)
    layer(torch.randn(9, 4, 2))[0].sum().backward()
    with pytest.raises(OptionError, match="attach"):
        clip.PerStep(1.0)(layer)
