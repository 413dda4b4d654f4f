"""Connections between layers and through time: what they compute, and what they do to the gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import unvanish
from unvanish import flow
from unvanish.errors import OptionError
from unvanish.flow.finding.parts import parts_of

KINDS = ("plain", "residual", "dense", "highway")


def run_alone(layer: unvanish.Recurrent, name: str, x_TBI: Tensor) -> Tensor:
    """The output of one part, from zero states on."""
    states = [state[0] for state in layer.zero_states(x_TBI.shape[1])]
    return layer.part(name).run(x_TBI, states).output_TBW


def by_hand(layer: unvanish.Recurrent, x: Tensor) -> Tensor:
    """Run a stack layer by layer as the papers write it."""
    below = x
    for depth in range(layer.num_layers):
        y = run_alone(layer, f"l{depth}", below)
        if layer.connect == "dense":
            below = torch.cat([below, y], -1) if depth < layer.num_layers - 1 else y
        elif layer.connect == "residual" and depth:
            below = below + y
        elif layer.connect == "highway" and depth:
            gate = layer.highways[depth - 1]
            g = torch.sigmoid(F.linear(below, gate.weight, gate.bias))
            below = g * y + (1 - g) * below
        else:
            below = y
    return below


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_a_stack_is_its_layers_joined(kind: str, cell: str) -> None:
    torch.manual_seed(0)
    layer = unvanish.Recurrent(cell, 3, 5, num_layers=4, connect=kind, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], by_hand(layer, x))
    stream = layer.stream(batch=2)
    torch.testing.assert_close(torch.stack([stream(x_BI) for x_BI in x]), layer(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_is_measured_with_the_input_that_it_gets(kind: str) -> None:
    torch.manual_seed(6)
    layer = unvanish.RNN(4, 4, num_layers=3, connect=kind, zoneout=0.2, dtype=torch.float64).eval()
    x = torch.randn(6, 2, 4, dtype=torch.float64)
    parts = parts_of(layer, x)
    below = x
    for depth, (name, part) in enumerate(parts.items()):
        torch.testing.assert_close(part.x_TBI, below)
        below = layer.handed_on(depth, below, run_alone(layer, name, below)).detach()
    torch.testing.assert_close(below, layer(x)[0])
    assert len(flow.depth(layer, x).norms) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_chunks_lengths_and_batches_as_without(kind: str, bidirectional: bool) -> None:
    torch.manual_seed(1)
    options: dict[str, Any] = {"num_layers": 3, "connect": kind, "bidirectional": bidirectional}
    layer = unvanish.GRUResetBefore(3, 4, dtype=torch.float64, **options)
    x = torch.randn(7, 3, 3, dtype=torch.float64)
    lengths = torch.tensor([7, 3, 5])
    whole = layer(x, lengths=lengths)[0]
    for row, length in enumerate(lengths.tolist()):
        alone = layer(x[:length, row : row + 1])[0][:, 0]
        torch.testing.assert_close(whole[:length, row], alone)
    if not bidirectional:
        first, states = layer(x[:3])
        torch.testing.assert_close(torch.cat([first, layer(x[3:], states)[0]]), layer(x)[0])


def test_a_deep_recurrent_stack_vanishes_in_depth_unless_it_is_connected() -> None:
    torch.manual_seed(2)
    x = torch.randn(4, 8, 16, dtype=torch.float64)
    reaches = {}
    for kind in KINDS:
        layer = unvanish.RNN(16, 16, num_layers=20, nonlinearity="sigmoid", connect=kind, dtype=torch.float64)
        reaches[kind] = flow.depth(layer, x).reach
    assert reaches["plain"] <= 4
    assert reaches["residual"] == 19
    assert reaches["highway"] >= 12
    assert reaches["dense"] > 2 * reaches["plain"]


def test_a_skip_of_delay_d_divides_the_rate_by_d() -> None:
    """The gradient takes one step of the skip where it took d: λ per step becomes about λ / d (Lin et al. 1996)."""
    torch.manual_seed(3)
    size, decay = 16, 0.5
    rates = {}
    for delays in ((), (4,), (8,), (4, 8)):
        cell = unvanish.Cell("linear", "h[t] = W @ x[t] + U @ h[t-1]")
        init: dict[str, Any] = {"U": lambda matrix: matrix.copy_(decay * torch.eye(size))}
        if delays:
            init["U_skip*"] = lambda matrix: matrix.copy_(decay * torch.eye(size))
            init["U"] = 0.0  # the skip alone
        layer = unvanish.Recurrent(cell, 2, size, skips=delays, dtype=torch.float64, init=init)
        rates[delays] = flow.profile(layer, torch.zeros(161, 1, 2, dtype=torch.float64)).rate
    assert rates[()] == pytest.approx(math.log(decay), rel=1e-3)
    for delay in (4, 8):
        assert rates[delay,] == pytest.approx(math.log(decay) / delay, rel=0.1)
    assert rates[4, 8] > rates[4,]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_reset_before", "lem", "leaky_rnn"])
@pytest.mark.parametrize("engine", ["reference", "native"])
def test_skips_lengthen_the_reach_and_run_as_written(cell: str, engine: str) -> None:
    torch.manual_seed(4)
    x = torch.randn(60, 4, 3, dtype=torch.float64)
    plain = unvanish.Recurrent(cell, 3, 12, dtype=torch.float64, engine=engine)
    torch.manual_seed(4)
    layer = unvanish.Recurrent(cell, 3, 12, skips=(5, 11), dtype=torch.float64, engine=engine)
    if cell in ("rnn", "leaky_rnn"):
        assert flow.profile(layer, x).reach > flow.profile(plain, x).reach
    with torch.no_grad():
        for parameter in layer.system.parameters:
            if "_skip" in parameter.name:
                layer[parameter.name].zero_()
            else:
                layer[parameter.name].copy_(plain[parameter.name])
        if cell == "leaky_rnn":
            layer.alpha_l0.copy_(plain.alpha_l0)  # drawn by each for itself
    torch.testing.assert_close(layer(x)[0], plain(x)[0])


def test_the_skip_reads_the_state_of_so_many_steps_back() -> None:
    torch.manual_seed(5)
    layer = unvanish.RNN(3, 4, skips=(3,), dtype=torch.float64, bias=False)
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    h = [torch.zeros(2, 4, dtype=torch.float64)] * 3
    for x_BI in x:
        h.append(torch.tanh(x_BI @ layer["W_h"].T + h[-1] @ layer["U_h"].T + h[-3] @ layer["U_h_skip3"].T))
    output, state = layer(x)
    torch.testing.assert_close(output, torch.stack(h[3:]))
    torch.testing.assert_close(state[0], torch.cat([h[-1], h[-2], h[-3]], -1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connect": "residul", "num_layers": 2}, "did you mean 'residual'"),
        ({"connect": "dense"}, "num_layers=2 or more"),
        ({"skips": (1,)}, "delays of 2 steps or more"),
        ({"skips": (4, 4)}, "each once"),
        ({"skips": 2.5}, "delays of 2 steps or more"),
    ],
)
def test_what_cannot_be_joined_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        unvanish.RNN(3, 4, **options)


def test_a_cell_without_a_recurrent_product_has_nothing_to_skip() -> None:
    with pytest.raises(OptionError, match="nothing to skip"):
        unvanish.IndRNN(3, 4, skips=(5,))
