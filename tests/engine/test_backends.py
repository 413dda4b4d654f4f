"""The reference is the truth; what a back end cannot do goes there by itself. Shapes: T time, B batch, I input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings

from tests.support.strategies import cells as random_cells
from unvanish import Cell, Recurrent
from unvanish.errors import OptionError


def layer_of(cell: Cell | str, **options: Any) -> Recurrent:
    if isinstance(cell, Cell) and cell.widths:
        options["memory_size"] = 2
    return Recurrent(cell, 3, 4, dtype=torch.float64, **options)


@given(random_cells())
@settings(max_examples=40)
def test_a_whole_run_is_the_run_of_its_steps(cell: Cell) -> None:
    layer, x_TBI = layer_of(cell, engine="reference"), torch.randn(5, 2, 3, dtype=torch.float64)
    whole, final = layer(x_TBI)
    states, outputs = None, []
    for x_1BI in x_TBI.split(1):
        output, states = layer(x_1BI, states)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole)
    torch.testing.assert_close(states, final)


@given(random_cells())
@settings(max_examples=40)
def test_rows_do_not_meet(cell: Cell) -> None:
    layer, x_TBI = layer_of(cell, engine="reference"), torch.randn(4, 3, 3, dtype=torch.float64)
    whole, _ = layer(x_TBI, lengths=[4, 0, 2])
    for row, length in enumerate([4, 0, 2]):
        alone = torch.zeros_like(whole[:, row])
        if length:
            alone[:length] = layer(x_TBI[:length, row])[0]
        torch.testing.assert_close(whole[:, row], alone)


ONCE = {
    "a state made of parameters": "c[t] = exp(p)\nh[t] = tanh(W @ x[t] + U @ h[t-1] + c[t-1])",
    "a state made of a number": "c[t] = 0.5\nh[t] = tanh(W @ x[t] + U @ h[t-1] + c[t-1])",
    "a state made of the input": "c[t] = W @ x[t]\nh[t] = tanh(U @ h[t-1] + c[t-2])",
    "an output made of parameters and the input": "h[t] = tanh(p + W @ x[t])",
    "an output made of parameters": "h[t] = V @ sigmoid(p)",
    "a gate of the time alone": "g = where(t % 2 == 0, p, 1)\nh[t] = g * tanh(W @ x[t]) + 0.5 * h[t-1]",
    "a cell without input": "h[t] = U @ h[t-1]",
}


@pytest.mark.parametrize("text", ONCE.values(), ids=ONCE)
def test_what_stands_out_of_time_reaches_every_step(text: str) -> None:
    layer, x_TBI = layer_of(Cell("once", text)), torch.randn(4, 2, 3, dtype=torch.float64)
    whole, _ = layer(x_TBI)
    assert whole.shape == (4, 2, 4)
    first, states = layer(x_TBI[:2])
    torch.testing.assert_close(torch.cat([first, layer(x_TBI[2:], states)[0]]), whole)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, [4, 1, 2], [4, 0, 2]])
def test_all_states_are_the_same_on_every_back_end(name: str, lengths: list[int] | None) -> None:
    torch.manual_seed(5)
    x_TBI, layer = torch.randn(4, 3, 3, dtype=torch.float64), layer_of(name, bidirectional=True)
    layer.engine = "reference"
    wanted = layer(x_TBI, lengths=lengths, all_states=True)
    layer.engine = "auto"
    torch.testing.assert_close(layer(x_TBI, lengths=lengths, all_states=True), wanted)


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "leaky_rnn", "clockwork_rnn", "delayed_rnn"])
def test_a_layer_can_be_mapped_over_a_further_dimension(name: str, engine: str) -> None:
    layer, x_NTBI = layer_of(name, engine=engine), torch.randn(2, 4, 3, 3, dtype=torch.float64)
    mapped = torch.func.vmap(lambda x_TBI: layer(x_TBI)[0])(x_NTBI)
    torch.testing.assert_close(mapped, torch.stack([layer(x_TBI)[0] for x_TBI in x_NTBI]))


def test_gradients_of_many_rows_at_once_by_function_transforms() -> None:
    layer, x_NTI = layer_of("peephole_lstm"), torch.randn(3, 4, 3, dtype=torch.float64)
    weights = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(some: dict[str, torch.Tensor], x_TI: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, some, (x_TI,))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x_NTI)
    for name, gradient in each.items():
        wanted = torch.stack([torch.func.grad(loss)(weights, x_TI)[name] for x_TI in x_NTI])
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "clockwork_rnn", "skip_rnn"])
def test_second_derivatives_are_right(name: str) -> None:
    layer = layer_of(name, engine="reference")
    x_TBI = torch.randn(3, 1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x_TBI,))


def test_an_unknown_engine_is_told_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="did you mean 'builtin'"):
        layer_of("lstm", engine="bultin")
