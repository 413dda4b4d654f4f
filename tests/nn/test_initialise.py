"""Initialisers by name, number, pattern or callable are really applied, and only where they are meant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unvanish import Cell, Recurrent, cells
from unvanish.errors import OptionError
from unvanish.nn.initialise import INITIALISERS

from .layers import each_cell, made

SUFFIXES = ("l0", "l0_reverse", "l1", "l1_reverse")


def lstm(init: Any = None, **options: Any) -> Recurrent:
    return Recurrent("lstm", 6, 6, 2, bidirectional=True, init=init, **options)


LOOKS: dict[str, Callable[[Tensor], bool]] = {
    "zeros": lambda a: bool((a == 0).all()),
    "ones": lambda a: bool((a == 1).all()),
    "normal": lambda a: 0.003 < float(a.std()) < 0.03,
    "identity": lambda a: torch.equal(a, torch.eye(*a.shape)),
    "orthogonal": lambda a: torch.allclose(a @ a.T, torch.eye(a.shape[0]), atol=1e-5),  # wide, or square
    "xavier_uniform": lambda a: 0.8 < float(a.abs().max()) / math.sqrt(6 / sum(a.shape)) <= 1,
    "xavier_normal": lambda a: 0.5 < float(a.std()) / math.sqrt(2 / sum(a.shape)) < 2,
    "he_uniform": lambda a: 0.8 < float(a.abs().max()) / math.sqrt(6 / a.shape[1]) <= 1,
    "he_normal": lambda a: 0.5 < float(a.std()) / math.sqrt(2 / a.shape[1]) < 2,
}


def test_every_initialiser_is_looked_at() -> None:
    assert set(LOOKS) == set(INITIALISERS)


@pytest.mark.parametrize("name", LOOKS)
def test_an_initialiser_by_name_fills_every_matrix_in_every_layer_and_direction(name: str) -> None:
    layer = lstm(name)
    for suffix in SUFFIXES:
        for gate in "ifgo":
            assert LOOKS[name](layer[f"U_{gate}_{suffix}"].detach())
            assert LOOKS[name](layer[f"W_{gate}_{suffix}"].detach())
        assert 0 < layer[f"b_f_{suffix}"].abs().max() < 1 / math.sqrt(6)


def test_a_number_and_a_callable_fill_what_their_patterns_meet() -> None:
    layer = lstm({"b_f": 1.5, "U_*": lambda a: a.copy_(2 * torch.eye(6)), "W_?": lambda a: 3 * torch.ones_like(a)})
    for suffix in SUFFIXES:
        assert (layer[f"b_f_{suffix}"] == 1.5).all()
        assert (layer[f"b_i_{suffix}"].abs() < 0.5).all()
        for gate in "ifgo":
            assert torch.equal(layer[f"U_{gate}_{suffix}"], 2 * torch.eye(6))
            assert (layer[f"W_{gate}_{suffix}"] == 3).all()


def test_later_patterns_win() -> None:
    layer = lstm({"*": 0.0, "b_*": 1.0, "b_f": 2.0})
    assert [layer[f"{name}_l1"].flatten()[0].item() for name in ("U_f", "b_i", "b_f")] == [0.0, 1.0, 2.0]


def test_the_layers_initialiser_wins_over_the_cells() -> None:
    assert (Recurrent("peephole_lstm", 2, 3)["b_f"] == 1.0).all()
    assert (Recurrent("peephole_lstm", 2, 3, init={"b_*": 0.25})["b_f"] == 0.25).all()


@each_cell
def test_what_a_cell_says_of_its_parameters_is_done(name: str) -> None:
    for parameter, value in cells[name].initial.items():
        assert (made(name)[parameter] == value).all()


def test_a_pattern_of_the_cell_holds_without_biases_too() -> None:
    cell = Cell("set", "h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)", initial={"U_*": 2.0, "b_*": 1.0})
    assert (Recurrent(cell, 2, 3, bias=False)["U_h"] == 2.0).all()
    layer = Recurrent(cell, 2, 3)
    assert (layer["U_h"] == 2.0).all()
    assert (layer["b_h"] == 1.0).all()


def test_parameters_are_filled_anew_on_request() -> None:
    layer = lstm({"b_f": 1.0})
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(9.0)
    layer.reset_parameters()
    assert (layer["b_f_l1"] == 1.0).all()
    assert (layer["U_f_l1"].abs() <= 1 / math.sqrt(6)).all()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("orthogonl", "unknown initialiser 'orthogonl': did you mean 'orthogonal'"),
        ({"U_f": "orthogonl"}, "did you mean 'orthogonal'"),
        ({"U_q": 1.0}, "init names 'U_q', which is no parameter: did you mean 'U_"),
        ({"Q_*": 1.0}, "init names 'Q_*', which is no parameter"),
        ({"b_f": "orthogonal"}, "'orthogonal' is for matrices, b_f is a vector"),
        ({"b_f": float("nan")}, "nan is no initialiser"),
        ({"b_f": None}, "None is no initialiser"),
        ({"b_f": True}, "True is no initialiser"),
        ([1.0], "is no initialiser"),
    ],
)
def test_what_is_no_initialiser_or_no_parameter_is_refused(init: Any, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        lstm(init)
    assert message in str(caught.value)
