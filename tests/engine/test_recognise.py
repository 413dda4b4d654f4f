"""torch's fused cells are known by their equations, however they are written, and near misses are not.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import Tensor

from unvanish import Cell, Recurrent, cells
from unvanish.equations.recognise import recognise
from unvanish.errors import OptionError

LSTM = {
    "i": "i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)",
    "f": "f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)",
    "g": "g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)",
    "o": "o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)",
    "c": "c[t] = f * c[t-1] + i * g",
    "h": "h[t] = o * tanh(c[t])",
}
WHOLE_LSTM = "\n".join(LSTM.values())
GRU = {
    "r": "r = sigmoid(W_r @ x[t] + b_r + U_r @ h[t-1] + bh_r)",
    "z": "z = sigmoid(W_z @ x[t] + b_z + U_z @ h[t-1] + bh_z)",
    "n": "n = tanh(W_n @ x[t] + b_n + r * (U_n @ h[t-1] + bh_n))",
    "h": "h[t] = (1 - z) * n + z * h[t-1]",
}


def written(lines: dict[str, str], order: str = "", **changed: str) -> Cell:
    lines = {**lines, **{name: f"{lines[name].partition('=')[0]}= {right}" for name, right in changed.items()}}
    return Cell("written", "\n".join(lines[name] for name in (order or lines)))


FUSED: dict[str, tuple[str, Cell]] = {
    "rnn": ("rnn_tanh", Cell("a", "h[t] = tanh(U @ h[t-1] + W @ x[t])")),
    "rnn, one bias": ("rnn_tanh", Cell("a", "y[t] = tanh(q + U @ y[t-1] + W @ x[t])", output="y")),
    "rnn, bias between": ("rnn_relu", Cell("a", "h[t] = relu((U @ h[t-1] + p) + (W @ x[t] + q))")),
    "lstm": ("lstm", written(LSTM)),
    "lstm, gates in another order": ("lstm", written(LSTM, "ogfich")),
    "lstm, terms in another order": ("lstm", written(LSTM, c="g * i + c[t-1] * f", h="tanh(c[t]) * o")),
    "lstm, some biases": ("lstm", written(LSTM, i="sigmoid(U_i @ h[t-1] + W_i @ x[t])")),
    "lstm, in one line": (
        "lstm",
        Cell(
            "a",
            "m[t] = sigmoid(A @ x[t] + B @ y[t-1]) * m[t-1] + sigmoid(D @ x[t] + E @ y[t-1]) * "
            "tanh(F @ x[t] + G @ y[t-1] + p)\ny[t] = sigmoid(J @ x[t] + K @ y[t-1] + q + bh) * tanh(m[t])",
            output="y",
        ),
    ),
    "lstm, one line more": ("lstm", written(LSTM | {"s": "s = tanh(c[t])", "h": "h[t] = s * o"}, "ifgocsh")),
    "lstm, one bias for all": ("lstm", Cell("a", re.sub("b_[ifgo]", "b", "\n".join(LSTM.values())))),
    "lstm, shared matrices": (
        "lstm",
        Cell("a", "\n".join(LSTM.values()).replace("W_i", "W_f").replace("U_o", "U_g")),
    ),
    "gru": ("gru", written(GRU)),
    "gru, gates in another order": ("gru", written(GRU, "zrnh")),
    "gru, multiplied out": ("gru", written(GRU, h="z * h[t-1] + n - z * n")),
    "gru, by the difference": ("gru", written(GRU, h="n + z * (h[t-1] - n)")),
    "gru, no hidden bias": ("gru", written(GRU, n="tanh(r * (U_n @ h[t-1]) + W_n @ x[t])")),
    "gru, one bias": ("gru", written(GRU, z="sigmoid(W_z @ x[t] + p + U_z @ h[t-1])")),
}
MISSES: dict[str, Cell] = {
    "rnn with sigmoid": Cell("a", "h[t] = sigmoid(U @ h[t-1] + W @ x[t])"),
    "rnn with three biases": Cell("a", "h[t] = tanh(U @ h[t-1] + W @ x[t] + p + q + b)"),
    "rnn with a scaled product": Cell("a", "h[t] = tanh(2 * (U @ h[t-1]) + W @ x[t])"),
    "rnn with a product twice": Cell("a", "h[t] = tanh(U @ h[t-1] + W @ x[t] + W @ x[t])"),
    "rnn with two recurrent products": Cell("a", "h[t] = tanh(U @ h[t-1] + V @ h[t-1] + W @ x[t])"),
    "rnn of two steps back": Cell("a", "h[t] = tanh(U @ h[t-2] + W @ x[t])"),
    "rnn with a subtracted bias": Cell("a", "h[t] = tanh(U @ h[t-1] + W @ x[t] - p)"),
    "rnn with a scalar bias": Cell("a", "h[t] = tanh(U @ h[t-1] + W @ x[t] + s)", scalars=("s",)),
    "rnn that reads itself": Cell("a", "h[t] = tanh(U @ h[t-1] + W @ x[t] + p * h[t-1])"),
    "rnn with a clock": Cell("a", "h[t] = where(t % 2 == 0, tanh(U @ h[t-1] + W @ x[t]), h[t-1])"),
    "lstm with peepholes": cells["peephole_lstm"],
    "lstm with a peephole": written(LSTM, i="sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i + p_i * c[t-1])"),
    "lstm with a scalar bias": Cell("a", WHOLE_LSTM.replace("b_o", "s"), scalars=("s",)),
    "lstm with tanh for a gate": written(LSTM, o="tanh(W_o @ x[t] + U_o @ h[t-1] + b_o)"),
    "lstm with sigmoid for the candidate": written(LSTM, g="sigmoid(W_g @ x[t] + U_g @ h[t-1] + b_g)"),
    "lstm without the last tanh": written(LSTM, h="o * c[t]"),
    "lstm of the old memory": written(LSTM, h="o * tanh(c[t-1]) + 0 * c[t]"),
    "lstm with coupled gates": written(LSTM | {"c": "c[t] = f * c[t-1] + (1 - f) * g"}, "fgoch"),
    "lstm with gates swapped": written(LSTM, c="f * g + i * c[t-1] * o"),
    "lstm with minimum": written(LSTM, c="f * c[t-1] + minimum(i, g)"),
    "lstm with a gate of the input alone": written(LSTM, f="sigmoid(W_f @ x[t] + b_f)"),
    "lstm with a clipped memory": written(LSTM, c="minimum(f * c[t-1] + i * g, 3)"),
    "lstm with a negative gate": written(LSTM, c="f * c[t-1] - i * g"),
    "gru, reset before": cells["gru_reset_before"],
    "gru with a tanh gate": written(GRU, z="tanh(W_z @ x[t] + b_z + U_z @ h[t-1] + bh_z)"),
    "gru with sigmoid for the candidate": written(GRU, n="sigmoid(W_n @ x[t] + b_n + r * (U_n @ h[t-1] + bh_n))"),
    "gru with gates swapped": written(GRU, h="z * n + (1 - z) * h[t-1]"),
    "gru with a reset bias": written(GRU, n="tanh(W_n @ x[t] + r * (b_n + U_n @ h[t-1] + V @ x[t]))"),
    "gru that adds": written(GRU, h="n + z * h[t-1]"),
    "gru that squares": written(GRU, h="(1 - z) * n + z * z * h[t-1]"),
}


def results(layer: Recurrent, engine: str, lengths: list[int] | None = None) -> dict[str, Tensor]:
    """Return outputs, final states and all gradients, by name."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layer.engine = engine
    x_TBI = noise(5, 3, layer.input_size).requires_grad_()
    given = [noise(*zero.shape).requires_grad_() for zero in layer.zero_states(3)]
    layer.zero_grad()
    output, states = layer(x_TBI, given if len(given) > 1 else given[0], lengths=lengths)
    finals = states if isinstance(states, tuple) else (states,)
    made = {"output": output, **dict(zip(layer.state_names, finals, strict=True))}
    sum((value * noise(*value.shape)).sum() for value in made.values()).backward()
    made |= {"∂x": x_TBI.grad, **{f"∂{name}": s.grad for name, s in zip(layer.state_names, given, strict=True)}}
    return made | {f"∂{name}": parameter.grad for name, parameter in layer.named_parameters()}


def check_same(layer: Recurrent, lengths: list[int] | None = None) -> None:
    wanted, found = results(layer, "reference", lengths), results(layer, "builtin", lengths)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, at=name: f"{at}: {m}")


@pytest.mark.parametrize(("kernel", "cell"), FUSED.values(), ids=FUSED)
def test_a_fused_cell_is_known_however_it_is_written_and_gives_the_same_numbers(kernel: str, cell: Cell) -> None:
    for bias in (True, False):
        found = recognise(cell.system(bias=bias))
        assert found is not None
        assert found.kernel == kernel
        layer = Recurrent(cell, 2, 4, bias=bias, dtype=torch.float64)
        check_same(layer)
        check_same(layer, [5, 1, 3])


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("ifgo")])
def test_the_gates_of_an_lstm_are_found_in_any_order(order: str) -> None:
    cell = written(LSTM, f"{order}ch")
    check_same(Recurrent(cell, 2, 3, dtype=torch.float64))


@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
def test_a_projected_lstm_is_known_and_gives_the_same_numbers(lengths: list[int] | None) -> None:
    for cell in (cells["lstm"], written(LSTM, "fogich")):
        check_same(Recurrent(cell, 2, 4, proj_size=2, dtype=torch.float64), lengths)


def test_torch_has_no_kernel_for_other_projected_cells() -> None:
    for name in ("rnn", "gru"):
        assert recognise(cells[name].system(projection=True)) is None


@pytest.mark.parametrize("cell", MISSES.values(), ids=MISSES)
def test_a_near_miss_is_not_taken_for_a_fused_cell(cell: Cell) -> None:
    assert recognise(cell.system()) is None
    layer = Recurrent(cell, 2, 3, engine="builtin")
    with pytest.raises(OptionError, match="engine='builtin' cannot run this layer: torch has no fused kernel"):
        layer(torch.zeros(2, 1, 2))


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "relu", "identity", "sin"])
def test_the_kernel_follows_the_function_slot(function: str) -> None:
    found = recognise(cells["rnn"].system(functions={"nonlinearity": function}))
    assert (found.kernel if found else None) == {"tanh": "rnn_tanh", "relu": "rnn_relu"}.get(function)
