"""What a GRU is called, and names of a cell that meet those of a layer.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unvanish
from unvanish import Cell, Recurrent
from unvanish.errors import OptionError
from unvanish.layer_options import LAYER_OPTIONS

I, H = 5, 7


def test_gru_is_torchs_and_the_published_form_has_a_name_of_its_own() -> None:
    theirs, ours, x_TBI = nn.GRU(I, H), unvanish.GRU(I, H), torch.randn(6, 3, I)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x_TBI)[0], theirs(x_TBI)[0])
    assert unvanish.GRUResetBefore(I, H).cell is unvanish.cells["gru_reset_before"]
    assert "U_n @ (r * h[t-1])" in unvanish.cells["gru_reset_before"].equations


def test_names_of_before_lead_to_the_same_cell_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="unvanish.GRUResetAfter is unvanish.GRU now"):
        assert unvanish.GRUResetAfter is unvanish.GRU
    with pytest.warns(FutureWarning, match="'gru_reset_after' is named 'gru' now"):
        assert Recurrent("gru_reset_after", I, H).cell is unvanish.cells["gru"]
    assert "gru_reset_after" not in list(unvanish.cells)


def test_no_gru_warns_of_what_its_name_meant_before() -> None:
    for make in (unvanish.GRU, lambda *sizes: Recurrent("gru", *sizes)):
        make(I, H)  # a warning would be an error here


def test_kept_weights_of_the_other_gru_do_not_load_silently() -> None:
    layer = unvanish.GRU(I, H, bias=False)
    old = {name: array.clone() for name, array in unvanish.GRUResetBefore(I, H, bias=False).state_dict().items()}
    with pytest.warns(FutureWarning, match="belongs in unvanish.GRUResetBefore"):
        layer.load_state_dict(old)  # a plain mapping: no format number
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unvanish.GRU(I, H, bias=False).load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="bias_hh_l0"):
        unvanish.GRU(I, H).load_state_dict(unvanish.GRUResetBefore(I, H).state_dict())


@pytest.mark.parametrize(
    ("ours", "theirs", "args"),
    [
        (unvanish.RNN, nn.RNN, (I, H, 2, "relu", False, True, 0.0, True)),
        (unvanish.LSTM, nn.LSTM, (I, H, 2, False, True, 0.0, True, 3)),
        (unvanish.GRU, nn.GRU, (I, H, 2, False, True, 0.0, True)),
    ],
)
def test_positional_arguments_are_torchs(ours: Any, theirs: Any, args: tuple[Any, ...]) -> None:
    one, other = ours(*args), theirs(*args)
    assert repr(one).removeprefix(type(one).__name__) == repr(one).removeprefix(type(other).__name__)
    for name in (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "bidirectional",
        "proj_size",
        "mode",
    ):
        assert getattr(one, name) == getattr(other, name)
    assert [len(some) for some in one.all_weights] == [len(some) for some in other.all_weights]
    assert one._flat_weights_names == other._flat_weights_names
    for mine, their in zip(one._flat_weights, other._flat_weights, strict=True):
        assert mine.shape == their.shape


@pytest.mark.parametrize("name", sorted(unvanish.cells))
def test_signature_of_a_class_is_what_it_takes(name: str) -> None:
    cell = unvanish.cells[name]
    kind = unvanish.nn.CLASSES[unvanish.nn.named.class_name(cell)]
    parameters = inspect.signature(kind).parameters
    assert {"input_size", "zoneout", *cell.options} <= set(parameters)
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters.values())
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    with pytest.raises(OptionError, match="takes no keyword 'zoneuot': did you mean 'zoneout'"):
        kind(I, H, zoneuot=0.1)
    with pytest.raises(TypeError, match="hidden_size"):
        kind(I)


def test_kinds_of_arguments() -> None:
    layer = unvanish.LSTM(
        np.int64(I), np.int32(H), num_layers=np.int8(2), proj_size=np.int16(3), dropout=np.float32(0.5)
    )
    assert (layer.input_size, layer.proj_size, type(layer.hidden_size)) == (I, 3, int)
    for name in ("bias", "batch_first", "bidirectional"):
        with pytest.raises(OptionError, match=f"{name} is 'relu': give True or False"):
            unvanish.LSTM(I, H, **{name: "relu"})
    with pytest.warns(UserWarning, match=r"dropout=0\.5 does nothing in a single layer"):
        unvanish.LSTM(I, H, dropout=0.5)


@pytest.mark.parametrize(
    "name", ["dropout", "zoneout", "device", "cell", "input_size", "init", "weight_ih", "bias_hh"]
)
def test_number_of_a_cell_named_as_something_of_the_layer_is_refused(name: str) -> None:
    if name == "bias_hh":
        text = f"h[t] = tanh(W @ x[t] + {name} * (U @ h[t-1]) + bh)"
    else:
        text = f"h[t] = tanh(W @ x[t] + {name} * (U @ h[t-1]) + b)"
    cell = Cell("meets", text, numbers={name: 0.5})
    with pytest.raises(OptionError, match=f"meets declares .*'{name}'.*rename it"):
        Recurrent(cell, I, H)


def test_width_of_a_cell_named_as_the_projection_is_refused() -> None:
    cell = Cell("meets", "m[t] = tanh(A @ x[t])\nh[t] = tanh(B @ m[t] + U @ h[t-1])", widths={"m": "proj"})
    with pytest.raises(OptionError, match="'proj_size', a keyword of every layer"):
        Recurrent(cell, I, H)


def test_width_named_as_a_constrained_matrix_is_refused() -> None:
    cell = Cell("meets", "m[t] = tanh(A @ x[t])\nh[t] = tanh(B @ m[t] + U @ h[t-1])", widths={"m": "U"})
    with pytest.raises(OptionError, match="share one array, weight_U"):
        Recurrent(cell, I, H, constrain={"U": "orthogonal"})


def test_matrices_named_as_projection_and_skip_stay_their_own() -> None:
    text = "h[t] = tanh(W @ x[t] + W_hr @ h[t-1])"
    layer = Recurrent(Cell("projecting", text), I, H, proj_size=3)
    assert layer["W_hr"].shape == (H, 3)
    assert layer.weight_hr_l0.shape == (3, H)
    assert layer(torch.randn(4, 2, I))[0].shape == (4, 2, 3)
    skipping = Cell("skipping", "h[t] = tanh(W @ x[t] + U @ h[t-1] + U_skip5 @ h[t-1])")
    with pytest.raises(OptionError, match="the cell has a name 'U_skip5', which skips would bring"):
        Recurrent(skipping, I, H, skips=(5,))


def test_matrix_whose_name_ends_like_a_layer_is_found() -> None:
    layer = Recurrent(Cell("ending", "h[t] = tanh(W @ x[t] + U @ h[t-1] + U_l0 @ h[t-1])"), I, H, num_layers=2)
    assert layer["U_l0"].data_ptr() != layer["U"].data_ptr()
    assert layer["U_l0_l1"].data_ptr() != layer["U_l1"].data_ptr()


def test_recurrent_spells_the_keywords_of_every_layer_with_their_usual_values() -> None:
    parameters = inspect.signature(unvanish.Recurrent).parameters
    spelt = {name: parameter.default for name, parameter in parameters.items()}
    for name in ("cell", "input_size", "hidden_size", "options"):
        del spelt[name]
    assert list(spelt.items()) == [(name, option.usual) for name, option in LAYER_OPTIONS.items()]
