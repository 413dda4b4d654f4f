"""A layer is a torch module like any other, for every cell: dtypes, copies, weights, gradients, dropout, views.

Shapes: T time, B batch, I input, H hidden, W width of the output.
"""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import unvanish
from tests.support.whole import engine_of
from unvanish import Cell, Recurrent, cells
from unvanish.errors import OptionError
from unvanish.nn.named import CLASSES, class_name

from .layers import HIDDEN, INPUT, OPTIONS, as_tuple, close, each_cell, made, noise, random_states

PROJECTED = 3
GIVEN = {"leaky_rnn": {"alpha": 0.5}}


@each_cell
def test_single_precision_is_double_precision_to_rounding(name: str) -> None:
    double, x_TBI = made(name, num_layers=2), noise(6, 2, INPUT)
    wanted, wanted_final = double(x_TBI)
    single = copy.deepcopy(double).float()
    output, final = single(x_TBI.float())
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), wanted, rtol=1e-4, atol=1e-5)
    for state, other in zip(as_tuple(final), as_tuple(wanted_final), strict=True):
        assert state.dtype == (torch.float32 if other.is_floating_point() else other.dtype)
        torch.testing.assert_close(state.to(other.dtype), other, rtol=1e-4, atol=1e-5)


@each_cell
def test_a_layer_is_made_in_the_default_dtype_or_the_one_asked_for(name: str) -> None:
    for keywords, dtype in (({}, torch.float32), ({"dtype": torch.float64}, torch.float64)):
        layer = Recurrent(name, INPUT, HIDDEN, **keywords)
        held = [*layer.parameters(), *layer.buffers()]
        assert {array.dtype for array in held} == {dtype}


@each_cell
def test_a_layer_can_be_made_without_memory_and_given_its_weights_later(name: str) -> None:
    layer, full = made(name, device="meta", **GIVEN.get(name, {})), made(name, **GIVEN.get(name, {}))
    layer.to_empty(device="cpu").load_state_dict(full.state_dict())
    x_TBI = noise(4, 2, INPUT)
    assert torch.equal(layer(x_TBI)[0], full(x_TBI)[0])


@each_cell
def test_mixed_precision_takes_what_the_layer_before_puts_out(name: str) -> None:
    layer = Recurrent(name, INPUT, HIDDEN, engine="reference", **OPTIONS.get(name, {}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x_TBI = nn.Linear(INPUT, INPUT)(torch.randn(5, 2, INPUT))
        _, states = layer(x_TBI)
        output, _ = layer(x_TBI, states, lengths=[5, 3])
    output.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def projectable() -> list[str]:
    found = []
    for name, cell in cells.items():
        states = {state.name for state in cell.system().states}
        if cell.output in states and not cell.slower_to_faster:
            found.append(name)
    return found


@pytest.mark.parametrize("name", projectable())
def test_a_projection_is_a_matrix_after_the_output_which_recurrent_products_read(name: str) -> None:
    layer = made(name, proj_size=PROJECTED, num_layers=2, engine=engine_of(name))
    x_TBI = noise(6, 2, INPUT)
    states = random_states(layer, 2)
    output, final, every = layer(x_TBI, states, all_states=True)
    assert output.shape == (6, 2, PROJECTED)
    first, states_then = layer(x_TBI[:4], states)
    close(torch.cat([first, layer(x_TBI[4:], states_then)[0]]), output)
    assert layer.get_parameter("weight_hr_l1").shape == (PROJECTED, HIDDEN)
    assert layer.get_parameter("weight_ih_l1").shape[1] == PROJECTED
    if "h" in every:
        close(every["h"][1] @ layer.get_parameter("weight_hr_l1").T, output)
    if "h_projected" in every:  # where products read it
        close(every["h_projected"][1], output)
        assert as_tuple(final)[0].shape[-1] % PROJECTED == 0


def test_units_that_are_ordered_cannot_be_projected() -> None:
    with pytest.raises(OptionError, match="use proj_size=0"):
        made("clockwork_rnn", proj_size=PROJECTED)


@each_cell
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state_dict", "torch.save"])
def test_a_copy_gives_the_same_numbers_and_shares_nothing(name: str, how: str) -> None:
    options = OPTIONS.get(name, {})
    layer = CLASSES[class_name(cells[name])](INPUT, HIDDEN, 2, bidirectional=True, dtype=torch.float64, **options)
    if how == "deepcopy":
        again = copy.deepcopy(layer)
    elif how == "pickle":
        again = pickle.loads(pickle.dumps(layer))
    else:
        again, stored = made(name, num_layers=2, bidirectional=True), layer.state_dict()
        if how == "torch.save":
            torch.save(stored, file := io.BytesIO())
            stored = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        again.load_state_dict(stored, strict=True)
    x_TBI = noise(5, 2, INPUT)
    wanted = layer(x_TBI)[0]
    assert torch.equal(again(x_TBI)[0], wanted)
    with torch.no_grad():
        again[next(p.name for p in cells[name].system().parameters if p.role == "input")].add_(1.0)
    assert torch.equal(layer(x_TBI)[0], wanted)
    assert not torch.equal(again(x_TBI)[0], wanted)


@each_cell
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    layer = Recurrent(name, 2, 4, dtype=torch.float64, engine="reference", **OPTIONS.get(name, {}))
    names = [name for name, _ in layer.named_parameters()]
    states = random_states(layer, 2)
    real = [state.requires_grad_() for state in states if state.is_floating_point()]

    def run(x_TBI: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        begin = (*given[: len(real)], *states[len(real) :])
        weights = dict(zip(names, given[len(real) :], strict=True))
        output, final = torch.func.functional_call(layer, weights, (x_TBI, begin))
        return (output, *(state for state in as_tuple(final) if state.is_floating_point()))

    x_TBI = noise(4, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(run, (x_TBI, *real, *layer.parameters()), fast_mode=True)


@each_cell
def test_without_biases_the_layer_holds_none_and_is_the_layer_with_zeros_there(name: str) -> None:
    without, with_zeros = (made(name, bias=bias, engine=engine_of(name)) for bias in (False, True))
    assert not [key for key in without.state_dict() if key.startswith("bias")]
    with torch.no_grad():
        for key, parameter in with_zeros.named_parameters():
            parameter.copy_(without.state_dict().get(key, torch.zeros(())))
    with_zeros.load_state_dict(without.state_dict(), strict=False)
    x_TBI = noise(5, 2, INPUT)
    close(without(x_TBI)[0], with_zeros(x_TBI)[0])


@each_cell
def test_dropout_acts_between_layers_in_training_alone(name: str) -> None:
    layer, x_TBI = made(name, num_layers=2, dropout=0.5), noise(5, 2, INPUT)
    assert not torch.equal(layer(x_TBI)[0], layer(x_TBI)[0])
    layer.eval()
    wanted = layer(x_TBI)[0]
    assert torch.equal(layer(x_TBI)[0], wanted)
    layer.dropout = 0.0
    close(layer.train()(x_TBI)[0], wanted)
    with pytest.warns(UserWarning, match="does nothing in a single layer"):
        single = made(name, dropout=0.5)
    assert torch.equal(single(x_TBI)[0], single(x_TBI)[0])


def test_dropout_drops_and_scales_what_the_upper_layer_reads() -> None:
    layer = Recurrent("rnn", 1, 400, 2, dropout=0.25, nonlinearity="identity", init={"W_h": 0.0, "U_h": 0.0})
    with torch.no_grad():
        layer["bh_h_l0"].zero_()
        layer["b_h_l0"].fill_(1.0)
        layer["b_h_l1"].zero_()
        layer["bh_h_l1"].zero_()
        layer["W_h_l1"].copy_(torch.eye(400))
    seen = layer(torch.zeros(1, 5, 1))[0].detach()
    assert {round(float(value), 4) for value in seen.unique()} == {0.0, 1.3333}
    assert 0.2 < (seen == 0).double().mean() < 0.3


SUFFIXES = ["", "_l0", "_l0_reverse", "_l1", "_l1_reverse"]


@each_cell
@pytest.mark.parametrize("suffix", SUFFIXES, ids=lambda suffix: suffix or "plain")
def test_a_parameter_by_its_name_is_a_view_into_its_stack(name: str, suffix: str) -> None:
    layer = made(name, num_layers=2, bidirectional=True)
    for parameter in cells[name].system().parameters:
        view = layer[f"{parameter.name}{suffix}"]
        with torch.no_grad():
            view.fill_(123.0)
        stacks = {key: stack for key, stack in layer.named_parameters() if (stack == 123.0).any()}
        (key,) = stacks
        assert key.endswith(suffix or "_l0")
        assert int((stacks[key] == 123.0).sum()) == view.numel()
        with torch.no_grad():
            view.zero_()


def test_a_parameter_that_is_not_there_is_told_with_those_that_are() -> None:
    layer = made("lstm")
    for name in ("U_q", "U_f_l1", "U_f_l0_reverse", "weight_hh_l0"):
        with pytest.raises(KeyError, match="no parameter"):
            layer[name]


@each_cell
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    layer = made(name, num_layers=2, bidirectional=True)
    layer(noise(8, 4, INPUT))[0].square().sum().backward()
    gradients = copy.deepcopy(layer)
    gradients.load_state_dict({key: value.grad for key, value in layer.named_parameters()}, strict=False)
    for part in gradients.parts():
        for parameter in cells[name].system().parameters:
            assert (part[parameter.name] != 0).any()


def test_a_carried_input_is_as_wide_as_the_input() -> None:
    cell = Cell("carrying", "past[t] = x[t]\nh[t] = tanh(W @ x[t] + V @ past[t-2] + U @ h[t-1])")
    layer, x_TBI = Recurrent(cell, 3, 5, dtype=torch.float64), noise(6, 2, 3)
    whole, (_, past) = layer(x_TBI)
    close(past[0], torch.cat([x_TBI[-1], x_TBI[-2]], -1))
    first, states = layer(x_TBI[:3])
    close(torch.cat([first, layer(x_TBI[3:], states)[0]]), whole)
    with pytest.raises(OptionError, match="the state past is as wide as the input, 3 below and 5 above"):
        Recurrent(cell, 3, 5, 2)
    assert Recurrent(cell, 5, 5, 2)(torch.zeros(3, 2, 5))[1][1].shape == (2, 2, 10)


def test_a_memory_has_a_size_of_its_own() -> None:
    cell = Cell(
        "memory", "m[t] = p * m[t-1] + M @ x[t]\nh[t] = tanh(R @ m[t] + U @ h[t-1])", widths={"m": "memory"}
    )
    layer = Recurrent(cell, 3, 4, 2, memory_size=7)
    _, (h_LBH, m_LBM) = layer(torch.zeros(5, 2, 3))
    assert (h_LBH.shape, m_LBM.shape) == ((2, 2, 4), (2, 2, 7))
    assert Recurrent(cell, 3, 4)(torch.zeros(5, 2, 3))[1][1].shape == (1, 2, 4)


def test_a_layer_says_what_it_is() -> None:
    layer: Any = unvanish.LeakyRNN(3, 4, 2, bidirectional=True, alpha=0.5)
    assert repr(layer) == "LeakyRNN(3, 4, num_layers=2, bidirectional=True, alpha=0.5)"
