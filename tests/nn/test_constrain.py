"""Constrained recurrent matrices: they stay what they are, through training, and the flow is as claimed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import unvanish
from unvanish import flow
from unvanish.errors import OptionError


def is_orthogonal(U: Tensor) -> bool:
    return bool((U @ U.T - torch.eye(len(U), dtype=U.dtype)).abs().max() < 1e-5)


def is_antisymmetric(U: Tensor) -> bool:
    return bool((U + U.T).abs().max() < 1e-6)


def is_capped(U: Tensor) -> bool:
    return bool(torch.linalg.eigvals(U).abs().max() <= 0.5 + 1e-5)


LOOKS = {"orthogonal": is_orthogonal, "antisymmetric": is_antisymmetric, "radius:0.5": is_capped}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_reset_before"])
@pytest.mark.parametrize("word", list(LOOKS))
def test_a_constraint_holds_through_training_and_every_gradient_arrives(cell: str, word: str) -> None:
    torch.manual_seed(0)
    layer = unvanish.Recurrent(cell, 3, 8, num_layers=2, constrain=word)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    names = [
        part.place.stored(p.name)
        for p in layer.system.parameters
        if p.role == "recurrent"
        for part in layer.parts()
    ]
    before = {name: layer[name].detach().clone() for name in names}
    for _ in range(10):
        optimizer.zero_grad()
        layer(torch.randn(9, 4, 3))[0][-1].square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
        optimizer.step()
    for name in names:
        assert LOOKS[word](layer[name].detach()), name
        assert not torch.allclose(layer[name], before[name])


@pytest.mark.parametrize("word", [*LOOKS, "weight_norm"])
def test_the_kernels_plain_torch_a_copy_and_a_state_dict_agree(word: str) -> None:
    torch.manual_seed(1)
    layer = unvanish.LSTM(3, 6, constrain={"U_f": word, "U_g": word}, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    found = layer(x)[0]
    other = unvanish.LSTM(3, 6, constrain={"U_f": word, "U_g": word}, dtype=torch.float64, engine="reference")
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x)[0], found)
    torch.testing.assert_close(copy.deepcopy(layer)(x)[0], found)
    torch.testing.assert_close(layer.part("l0").run(x, [s[0] for s in layer.zero_states(2)]).output_TBW, found)
    layer.reset_parameters()
    assert not torch.allclose(layer(x)[0], found)


def test_an_orthogonal_linear_recurrence_has_rate_zero_and_a_capped_one_its_cap() -> None:
    torch.manual_seed(2)
    cell = unvanish.Cell("linear", "h[t] = W @ x[t] + U @ h[t-1]")
    x = torch.zeros(100, 1, 2, dtype=torch.float64)
    for word, rate in (("orthogonal", 0.0), ("radius:0.9", math.log(0.9))):
        layer = unvanish.Recurrent(cell, 2, 12, constrain=word, init={"U": "normal"}, dtype=torch.float64)
        if word != "orthogonal":
            layer.parametrizations.weight_U_l0.original.data.mul_(1e6)
        found = flow.profile(layer, x)
        assert found.rate == pytest.approx(rate, abs=0.01)


def test_an_antisymmetric_step_neither_vanishes_nor_explodes() -> None:
    """Chang et al. (2019): h[t] = h[t-1] + ε tanh((M - Mᵀ - γ I) h + …); free, it explodes."""
    cell = unvanish.Cell("ode", "h[t] = h[t-1] + eps * tanh(W @ x[t] + U @ h[t-1] + b)", numbers={"eps": 0.05})
    x = torch.zeros(300, 1, 3, dtype=torch.float64)
    rates = {}
    for word in (None, "antisymmetric"):
        torch.manual_seed(3)
        init: dict[str, Any] = {"U": lambda U: torch.nn.init.normal_(U, std=32**-0.5), "b": 0.0}
        layer = unvanish.Recurrent(cell, 3, 32, constrain=word, init=init, dtype=torch.float64)
        rates[word] = flow.profile(layer, x).rate
    assert rates["antisymmetric"] == pytest.approx(0.0, abs=0.005)
    assert rates[None] > 0.03


def test_weight_norm_keeps_a_length_and_a_direction_apart() -> None:
    torch.manual_seed(4)
    layer = unvanish.RNN(3, 6, constrain="weight_norm")
    before = layer["U_h"].detach().clone()
    length = layer.parametrizations.weight_U_h_l0.original0
    with torch.no_grad():
        length.mul_(2)
    torch.testing.assert_close(layer["U_h"], 2 * before)


@pytest.mark.parametrize(
    ("cell", "word", "message"),
    [
        ("rnn", "orthogonl", "did you mean 'orthogonal'"),
        ("rnn", {"U_z": "orthogonal"}, "not a recurrent matrix"),
        ("rnn", {"W_h": "orthogonal"}, "not a recurrent matrix"),
        ("rnn", "radius:-1", "radius:0.95"),
        ("rnn", "radius:x", "radius:0.95"),
        ("rnn", "orthogonal:2", "takes no number"),
        ("rnn", "antisymmetric:nan", "not understood"),
        ("indrnn", "orthogonal", "the cell has no recurrent matrix"),
        ("clockwork_rnn", "orthogonal", "takes entries"),
    ],
)
def test_what_cannot_be_constrained_is_refused(cell: str, word: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        unvanish.Recurrent(cell, 3, 4, constrain=word)


def test_a_projected_matrix_is_not_square() -> None:
    with pytest.raises(OptionError, match="square matrices"):
        unvanish.LSTM(3, 6, proj_size=2, constrain="orthogonal")
    unvanish.LSTM(3, 6, proj_size=2, constrain="weight_norm")(torch.randn(4, 2, 3))
