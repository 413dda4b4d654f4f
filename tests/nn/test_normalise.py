"""Normalisation inside the recurrence: what the papers write, step by step, in plain torch and the kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import unvanish
from tests.support.whole import engine_of
from unvanish import flow
from unvanish.errors import OptionError


def lstm(layer: unvanish.Recurrent, x_TBI: Tensor, norm: Any) -> Tensor:
    """Ba et al. (2016), equations (20) to (22), gate by gate; `norm(name, value, step)` normalises."""
    h_BH = c_BH = x_TBI.new_zeros(x_TBI.shape[1], layer.hidden_size)
    outputs = []
    for step, x_BI in enumerate(x_TBI):
        gates = {}
        for gate in "ifgo":
            above = norm(f"W_{gate}", x_BI @ layer[f"W_{gate}"].T, step) * layer[f"gain_W_{gate}"]
            beside = norm(f"U_{gate}", h_BH @ layer[f"U_{gate}"].T, step) * layer[f"gain_U_{gate}"]
            gates[gate] = above + beside + layer[f"b_{gate}"] + layer[f"bh_{gate}"]
        i, f, o = (torch.sigmoid(gates[gate]) for gate in "ifo")
        c_BH = f * c_BH + i * torch.tanh(gates["g"])
        h_BH = o * torch.tanh(norm("c", c_BH, step) * layer["gain_c"] + layer["shift_c"])
        outputs.append(h_BH)
    return torch.stack(outputs)


def random_gains(layer: unvanish.Recurrent) -> None:
    with torch.no_grad():
        for parameter in layer.system.parameters:
            if parameter.name.startswith(("gain", "shift")):
                layer[parameter.name].normal_()


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_the_layer_normalised_lstm_is_that_of_the_paper(engine: str) -> None:
    torch.manual_seed(0)
    layer = unvanish.LSTM(3, 5, layer_norm=True, engine=engine, dtype=torch.float64)
    random_gains(layer)
    x_TBI = torch.randn(6, 4, 3, dtype=torch.float64)
    slow = lstm(layer, x_TBI, lambda name, value, step: F.layer_norm(value, (5,), eps=1e-5))
    torch.testing.assert_close(layer(x_TBI)[0], slow)


@pytest.mark.parametrize("cell", list(unvanish.cells))
def test_layer_norm_runs_in_every_cell_and_the_kernels_agree(cell: str) -> None:
    torch.manual_seed(1)
    found = []
    for engine in ("reference", engine_of(cell)):
        torch.manual_seed(1)
        layer = unvanish.Recurrent(cell, 3, 6, num_layers=2, layer_norm=True, engine=engine, dtype=torch.float64)
        random_gains(layer)
        x_TBI = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
        output = layer(x_TBI, lengths=torch.tensor([7, 2, 6, 1]))[0]
        gradients = torch.autograd.grad(output.square().sum(), [x_TBI, *layer.parameters()])
        found.append([output, *gradients])
    for slow, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
    assert all(bool(gradient.any()) for gradient in found[0][1:])  # every gain takes part


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_reset_before"])
def test_layer_norm_makes_the_reach_independent_of_the_size_of_the_weights(cell: str, scale: float) -> None:
    """Ba et al., section 5.1: the output does not change where a matrix is scaled as a whole."""
    torch.manual_seed(2)
    layer = unvanish.Recurrent(cell, 3, 16, layer_norm=True, dtype=torch.float64, init={"U_*": "orthogonal"})
    x_TBI = torch.randn(40, 8, 3, dtype=torch.float64)
    with torch.no_grad():
        before = layer(x_TBI)[0]
        reach = flow.profile(layer, x_TBI, generator=torch.Generator().manual_seed(0)).reach
        for parameter in layer.system.parameters:
            if parameter.columns is not None:
                layer[parameter.name].mul_(scale)
        after = layer(x_TBI)[0]
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > (0.9 if scale > 1 else 0.3)
    again = flow.profile(layer, x_TBI, generator=torch.Generator().manual_seed(0)).reach
    if scale > 1:
        assert again == pytest.approx(reach, rel=0.35, abs=2)
        plain = unvanish.Recurrent(cell, 3, 16, dtype=torch.float64, init={"U_*": "orthogonal"})
        with torch.no_grad():
            for parameter in plain.system.parameters:
                if parameter.columns is not None:
                    plain[parameter.name].mul_(scale)
        assert flow.profile(plain, x_TBI).reach < reach  # all flat


def test_layer_norm_is_part_of_what_is_measured() -> None:
    torch.manual_seed(3)
    layer = unvanish.GRUResetBefore(3, 5, layer_norm=True, dtype=torch.float64)
    found = flow.jacobian(layer, torch.randn(4, 2, 3, dtype=torch.float64))
    assert found is not None
    assert layer.part("l0")["gain_U_z"].data_ptr() == layer["gain_U_z"].data_ptr()


@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "rnn"])
def test_batch_norm_in_training_has_the_statistics_of_the_batch_at_every_step(cell: str) -> None:
    torch.manual_seed(4)
    layer = unvanish.Recurrent(cell, 3, 5, batch_norm=6, dtype=torch.float64)
    gains = layer[
        "gain_U_f" if cell == "lstm" else "gain_U_z" if cell == "gru_reset_before" else "gain_U_h"
    ].detach()
    torch.testing.assert_close(gains, torch.full((5,), 0.1, dtype=torch.float64))
    x_TBI = torch.randn(6, 7, 3, dtype=torch.float64)
    output = layer(x_TBI)[0]
    if cell == "lstm":
        random_gains(layer)
        slow = lstm(
            layer, x_TBI, lambda name, value, step: F.batch_norm(value, None, None, training=True, eps=1e-5)
        )
        torch.testing.assert_close(layer(x_TBI)[0], slow)
    # A scaled and moved batch is the same batch.
    torch.testing.assert_close(layer(x_TBI * 1e4 + 3)[0], layer(x_TBI)[0], rtol=1e-2, atol=1e-3)
    assert output.requires_grad


def test_batch_norm_in_evaluation_has_the_running_means_of_each_step() -> None:
    torch.manual_seed(5)
    layer = unvanish.LSTM(3, 5, batch_norm=4, dtype=torch.float64)
    means: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def norm(name: str, value: Tensor, step: int) -> Tensor:
        start = value.new_zeros(5), value.new_ones(5)
        mean, variance = (kept.clone() for kept in means.get((name, step), start))
        found = F.batch_norm(value, mean, variance, training=layer.training, momentum=0.1, eps=1e-5)
        if layer.training:
            means[name, step] = mean, variance
        return found

    for _ in range(3):
        x_TBI = torch.randn(4, 8, 3, dtype=torch.float64) + torch.arange(4)[:, None, None]
        torch.testing.assert_close(layer(x_TBI)[0], lstm(layer, x_TBI, norm))
    layer.eval()
    x_TBI = torch.randn(4, 1, 3, dtype=torch.float64)  # one row will do
    torch.testing.assert_close(layer(x_TBI)[0], lstm(layer, x_TBI, norm))
    longer = torch.cat([x_TBI, x_TBI])
    for name, step in list(means):
        if step == 3:
            means |= {(name, later): means[name, 3] for later in range(4, 8)}
    torch.testing.assert_close(layer(longer)[0], lstm(layer, longer, norm))


def test_batch_norm_keeps_its_means_in_the_state_dict() -> None:
    torch.manual_seed(6)
    layer, twin = (unvanish.GRUResetBefore(3, 5, batch_norm=4) for _ in range(2))
    layer(torch.randn(4, 8, 3) + 2)
    twin.load_state_dict(layer.state_dict())
    x_TBI = torch.randn(4, 8, 3)
    torch.testing.assert_close(layer.eval()(x_TBI)[0], twin.eval()(x_TBI)[0])


def test_the_flow_of_a_batch_normalised_layer_is_that_of_its_steps() -> None:
    torch.manual_seed(7)
    layer = unvanish.RNN(3, 5, batch_norm=6, dtype=torch.float64)
    for _ in range(20):
        layer(torch.randn(6, 8, 3, dtype=torch.float64) * torch.arange(1, 7)[:, None, None])
    layer.eval()
    x_TBI = torch.randn(6, 2, 3, dtype=torch.float64)
    found = flow.jacobian(layer, x_TBI, at=4)
    hidden = layer(x_TBI[:4])[1]
    tail = layer.part("l0")
    wanted = torch.autograd.functional.jacobian(
        lambda h: tail.run(x_TBI[4:5], [h], first=4).output_TBW[0, 0], hidden[0].detach()
    )
    torch.testing.assert_close(torch.as_tensor(found.matrix_BNN[0]), wanted[:, 0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"layer_norm": True, "batch_norm": 3}, {}, "take one of them"),
        ({"batch_norm": 3, "memory": "lean"}, {}, "memory='fast'"),
        ({"layer_norm": "yes"}, {}, "True or False"),
        ({"batch_norm": True}, {}, "number of steps"),
        ({"batch_norm": -1}, {}, "number of steps"),
        ({"batch_norm": 3, "engine": "native"}, {}, "joins the rows of a batch"),
        ({"batch_norm": 3}, {"lengths": [2, 3]}, "leave lengths= and reset= out"),
    ],
)
def test_what_cannot_be_normalised_is_refused(options: dict[str, Any], call: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        unvanish.LSTM(2, 4, **options)(torch.randn(3, 2, 2), **call)


def test_a_single_unit_and_a_single_row_have_no_spread() -> None:
    with pytest.raises(OptionError, match="hidden_size=2"):
        unvanish.RNN(3, 1, layer_norm=True)
    with pytest.raises(OptionError, match="two rows or more"):
        unvanish.RNN(3, 4, batch_norm=2)(torch.randn(5, 1, 3))
    with pytest.raises(OptionError, match="a stream"):
        unvanish.RNN(3, 4, batch_norm=2).eval().stream()
