"""Backpropagation through time, term by term: the sum is autograd's gradient, each term is its own derivative.

Shapes: T time, B batch, I input, W width of the output.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish.errors import FlowError
from unvanish.flow.measuring import decomposition
from unvanish.flow.measuring.decomposition import decompose

STEPS = 7
INTEGRATOR = unvanish.Cell("integrator", "h[t] = w * h[t-1] + V @ x[t]")
READOUT = unvanish.Cell("readout", "h[t] = tanh(W @ x[t] + U @ h[t-1])\ny[t] = R @ h[t]", output="y")


def squares(output_TBW: Tensor) -> Tensor:
    return output_TBW.square().sum((1, 2)) + output_TBW.sin().sum((1, 2))


def inputs(steps: int = STEPS, width: int = 2) -> Tensor:
    return torch.randn(steps, 3, width, dtype=torch.float64)


def layer_of(name: str, **options: Any) -> unvanish.Recurrent:
    return unvanish.Recurrent(name, 2, 4, dtype=torch.float64, **options)


@pytest.mark.parametrize("name", sorted(unvanish.cells))
def test_terms_of_every_cell_add_up_to_the_gradient(name: str) -> None:
    layer, x_TBI = layer_of(name, engine="reference"), inputs()
    for parameter in layer.parameters():
        parameter.data.mul_(1.5)
    wanted = torch.autograd.grad(squares(layer(x_TBI)[0]).sum(), list(layer.parameters()), allow_unused=True)
    found = decompose(layer, x_TBI, squares)
    assert found.audit() < 1e-10
    for (parameter, array), gradient in zip(layer.named_parameters(), wanted, strict=True):
        gradient = torch.zeros_like(array) if gradient is None else gradient
        terms = found.terms[parameter]
        assert terms.shape == (STEPS, STEPS, *array.shape)
        assert terms.sum((0, 1)) == pytest.approx(gradient.numpy(), rel=1e-10, abs=1e-12)
        assert found.gradient(parameter) == pytest.approx(terms.sum((0, 1)), rel=1e-10, abs=1e-12)
        flat = terms.reshape(STEPS, STEPS, -1)
        assert found.norms[parameter] == pytest.approx(np.linalg.norm(flat, axis=2))
        assert not flat[np.triu_indices(STEPS, 1)].any()  # no loss reads a later step
        assert flat[np.tril_indices(STEPS)].any()


@pytest.mark.parametrize(
    "module",
    [nn.RNN(2, 4), nn.RNN(2, 4, nonlinearity="relu"), nn.GRU(2, 4), nn.LSTM(2, 4), nn.LSTM(2, 4, proj_size=3)],
    ids=lambda module: str(module),
)
def test_terms_of_torch_layers_add_up_to_the_gradient_of_their_own_kernels(module: nn.RNNBase) -> None:
    module, x_TBI = module.double(), inputs()
    before = {name: array.clone() for name, array in module.named_parameters()}
    squares(module(x_TBI)[0]).sum().backward()
    found = decompose(module, x_TBI, squares)
    assert found.audit() < 1e-10
    for name, array in module.named_parameters():
        assert array.grad is not None
        assert found.gradient(name) == pytest.approx(array.grad.numpy(), rel=1e-9, abs=1e-12)
        assert torch.equal(array, before[name])


@pytest.mark.parametrize("name", ["rnn", "lstm", "skip_rnn"])
def test_a_row_of_terms_is_the_gradient_of_one_loss(name: str) -> None:
    layer, x_TBI = layer_of(name, engine="reference"), inputs()
    found = decompose(layer, x_TBI, squares)
    array = next(layer.parameters())
    losses_T = squares(layer(x_TBI)[0])
    assert found.losses == pytest.approx(losses_T.detach().numpy())
    for t, loss in enumerate(losses_T):
        (wanted,) = torch.autograd.grad(loss, array, retain_graph=True)
        assert found.terms["weight_ih_l0"][t].sum(0) == pytest.approx(wanted.numpy(), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru_reset_before"])
def test_a_column_of_terms_is_the_gradient_of_the_weights_used_at_one_step(name: str) -> None:
    """Give every step its own copy of the weights: the gradient of copy k is the sum over t of (t, k)."""
    layer, x_TBI = layer_of(name, engine="reference"), inputs()
    found = decompose(layer, x_TBI, squares)
    copies = [{key: p.detach().clone().requires_grad_() for key, p in layer.named_parameters()} for _ in x_TBI]
    states, outputs = None, []
    for x_BI, own in zip(x_TBI, copies, strict=True):
        output, states = torch.func.functional_call(layer, own, (x_BI[None], states))
        outputs.append(output[0])
    squares(torch.stack(outputs)).sum().backward()
    for key, terms in found.terms.items():
        for k, own in enumerate(copies):
            gradient = own[key].grad
            assert gradient is not None
            assert terms[:, k].sum(0) == pytest.approx(gradient.numpy(), rel=1e-10, abs=1e-13)


def test_terms_of_an_integrator_in_closed_form() -> None:
    w, x_TBI = 0.7, torch.randn(9, 1, 1, dtype=torch.float64)
    layer = unvanish.Recurrent(INTEGRATOR, 1, 1, init={"w": w, "V": 1.0}, dtype=torch.float64)
    found = decompose(layer, x_TBI, lambda h_TBW: h_TBW[:, 0, 0])
    h = [0.0]
    for x in x_TBI.flatten().tolist():
        h.append(w * h[-1] + x)
    for t in range(9):
        for k in range(9):
            wanted = w ** (t - k) if k <= t else 0.0
            of_w, of_v = found.terms[_holder(layer, "w")][t, k], found.terms[_holder(layer, "V")][t, k]
            assert of_w.item() == pytest.approx(wanted * h[k], rel=1e-10, abs=1e-14)
            assert of_v.item() == pytest.approx(wanted * float(x_TBI[k]), rel=1e-10, abs=1e-14)


def _holder(layer: unvanish.Recurrent, name: str) -> str:
    return next(n for n, p in layer.named_parameters() if p.data_ptr() == layer[name].data_ptr())


@pytest.mark.parametrize(("name", "matrices"), [("rnn", "U_*"), ("lstm", "U_*"), ("skip_rnn", "?_h")])
def test_without_recurrent_weights_only_its_own_step_is_left(name: str, matrices: str) -> None:
    layer = layer_of(name, init={matrices: 0.0})
    if name == "skip_rnn":
        layer["W_h"].data.normal_()
        layer["V_h"].data.zero_()
    if name == "lstm":
        layer["b_f"].data.fill_(-1e9)  # the memory is another way back
    found = decompose(layer, inputs(), squares)
    for norms in found.norms.values():
        assert np.count_nonzero(norms - np.diag(np.diagonal(norms))) == 0
    assert found.by_lag()[0] > 0
    assert not found.by_lag()[1:].any()


def test_a_delay_carries_the_gradient_over_its_steps_at_once() -> None:
    layer = layer_of("delayed_rnn", d=3)
    norms = decompose(layer, inputs(9), squares).norms["weight_ih_l0"]
    lags = np.subtract.outer(np.arange(9), np.arange(9))
    assert np.array_equal(norms > 0, (lags >= 0) & (lags % 3 == 0))


def test_an_output_that_is_no_state() -> None:
    layer, x_TBI = unvanish.Recurrent(READOUT, 2, 4, dtype=torch.float64), inputs()
    found = decompose(layer, x_TBI, squares, parameter=["R", "U"])
    assert found.audit() < 1e-10
    assert np.count_nonzero(found.norms["R"]) == STEPS  # the readout of step t is no way back
    assert found.norms["U"][5, 2] > 0


def test_names_of_the_equations_are_rows_of_the_arrays() -> None:
    layer, x_TBI = layer_of("lstm"), inputs()
    whole = decompose(layer, x_TBI, squares)
    parts = decompose(layer, x_TBI, squares, parameter=["U_f", "weight_ih_l0"])
    array = layer.weight_hh_l0
    assert isinstance(array, Tensor)
    first = (layer["U_f"].data_ptr() - array.data_ptr()) // (8 * 4)
    assert np.array_equal(parts.terms["U_f"], whole.terms["weight_hh_l0"][:, :, first : first + 4])
    assert set(parts.terms) == {"U_f", "weight_ih_l0"}
    assert parts.audit() < 1e-10


def test_norms_alone_are_the_same_norms() -> None:
    layer, x_TBI = layer_of("gru_reset_before"), inputs()
    whole, norms = decompose(layer, x_TBI, squares), decompose(layer, x_TBI, squares, norms_only=True)
    assert norms.terms == {}
    for name in whole.norms:
        assert np.array_equal(whole.norms[name], norms.norms[name])
        assert np.array_equal(whole.gradient(name), norms.gradient(name))


def test_states_batch_first_and_training_mode() -> None:
    x_TBI, h_LBW = inputs(), torch.randn(1, 3, 4, dtype=torch.float64)
    layer = layer_of("rnn", batch_first=True)
    found = decompose(layer, x_TBI.transpose(0, 1), lambda y_BTW: y_BTW.square().sum((0, 2)), hx=h_LBW)
    same = layer_of("rnn")
    same.load_state_dict(layer.state_dict())
    wanted = decompose(same, x_TBI, lambda y_TBW: y_TBW.square().sum((1, 2)), hx=h_LBW)
    assert found.audit() < 1e-10
    assert found.norms["weight_hh_l0"] == pytest.approx(wanted.norms["weight_hh_l0"])
    assert found.norms["weight_hh_l0"][3, 0] > 0  # the given state has a use at the first step
    noisy = layer_of("lstm", zoneout=0.3, recurrent_dropout=0.4).train()
    assert decompose(noisy, x_TBI, squares).audit() < 1e-10
    assert noisy.training


def test_frozen_parameters_and_no_grad_make_no_difference() -> None:
    layer, x_TBI = layer_of("rnn").requires_grad_(False), inputs()
    with torch.no_grad():
        found = decompose(layer, x_TBI, squares)
    assert found.audit() < 1e-10
    assert found.norms["weight_hh_l0"][4, 2] > 0


def test_shares_of_a_row_add_up_to_one() -> None:
    layer, x_TBI = layer_of("rnn"), inputs()
    mask_T = torch.zeros(STEPS, dtype=torch.float64)
    mask_T[[3, 6]] = 1
    found = decompose(layer, x_TBI, lambda y_TBW: squares(y_TBW) * mask_T)
    assert found.share(3).sum() == pytest.approx(1)
    assert not found.share(3)[4:].any()
    assert not found.share(2).any()
    norms = found.norms["weight_hh_l0"]
    assert found.share(-1, "weight_hh_l0") == pytest.approx(norms[6] / norms[6].sum())
    assert found.by_lag("weight_hh_l0")[2] == pytest.approx(np.mean([norms[t, t - 2] for t in range(2, STEPS)]))
    assert found.to_dict()["norms"]["weight_hh_l0"] == norms.tolist()
    assert "audit" in repr(found)


def test_audit_finds_a_wrong_sum() -> None:
    found = decompose(layer_of("rnn"), inputs(), squares)
    wrong = {**found.sums, "weight_hh_l0": 1.01 * found.sums["weight_hh_l0"]}
    assert dataclasses.replace(found, sums=wrong).audit() == pytest.approx(0.01, rel=1e-6)


def test_what_cannot_be_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x_TBI = layer_of("rnn"), inputs()
    cases: list[tuple[Any, Any, Any, dict[str, Any], str]] = [
        (nn.Linear(2, 2), x_TBI, squares, {}, "not a recurrent layer"),
        (nn.LSTM(2, 4, num_layers=2), x_TBI.float(), squares, {}, "several parts"),
        (nn.LSTM(2, 4, bidirectional=True), x_TBI.float(), squares, {}, "several parts"),
        (layer, x_TBI[0], squares, {}, "time, batch and width"),
        (layer, x_TBI, lambda y: squares(y).sum(), {}, "one loss for each of the 7 steps"),
        (layer, x_TBI, lambda y: squares(y).tolist(), {}, "one loss for each of the 7 steps"),
        (layer, x_TBI, lambda y: squares(y).detach(), {}, "depends on the output"),
        (layer, x_TBI, lambda y: squares(y).cumsum(0), {}, "the loss of step 1 reads the output of step 0"),
        (layer, x_TBI, squares, {"parameter": "U_x"}, "no parameter 'U_x'"),
    ]
    for module, x, loss, options, says in cases:
        with pytest.raises(FlowError, match=says):
            decompose(module, x, loss, **options)
    with pytest.raises(FlowError, match="did you mean"):
        decompose(layer, x_TBI, squares).gradient("weight_h_l0")
    monkeypatch.setattr(decomposition, "LIMIT", 100)
    with pytest.raises(FlowError, match="norms_only=True"):
        decompose(layer, x_TBI, squares)
    assert decompose(layer, x_TBI, squares, norms_only=True).audit() < 1e-10
