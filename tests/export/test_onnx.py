"""ONNX files give the numbers of the layers, for any length and batch, as a whole and step by step.

Shapes: T time, B batch, I input, L layers, W width.
"""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch

from tests.export.together import Exported, layer_of, near, ours, states_of
from tests.nn.layers import INPUT, each_cell
from tests.support.whole import usual
from unvanish import Recurrent, cells

SHAPES = ((7, 3), (1, 1))


@pytest.fixture(scope="module")
def layers() -> dict[str, Recurrent]:
    torch.manual_seed(3)
    return {name: layer_of(name) for name in cells}


@pytest.fixture(scope="module")
def whole(layers: dict[str, Recurrent], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(layers, tmp_path_factory.mktemp("whole") / "model.onnx")


@pytest.fixture(scope="module")
def stepwise(layers: dict[str, Recurrent], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(layers, tmp_path_factory.mktemp("steps") / "model.onnx", streaming=True)


@each_cell
def test_a_whole_sequence_is_the_layers(name: str, layers: dict[str, Recurrent], whole: Exported) -> None:
    for steps, batch in SHAPES:
        x_TBI, states = torch.randn(steps, batch, INPUT), states_of(layers, batch)
        near(whole.run(x_TBI, states)[name], ours(layers[name], x_TBI, states[name]))


def test_cells_that_onnx_has_are_its_own_and_every_other_is_one_scan(
    layers: dict[str, Recurrent], whole: Exported, stepwise: Exported
) -> None:
    own = ["LSTM", "GRU", "RNN"]
    operators = [node.op_type for node in onnx.load(whole.path).graph.node]
    assert [operators.count(name) for name in own] == [2, 2, 1]  # with peepholes, with the reset before
    assert operators.count("Scan") == len(layers) - 5
    assert "Scan" not in [node.op_type for node in onnx.load(stepwise.path).graph.node]


@each_cell
def test_step_by_step_is_the_whole_sequence(name: str, layers: dict[str, Recurrent], stepwise: Exported) -> None:
    for steps, batch in SHAPES:
        x_TBI, states = torch.randn(steps, batch, INPUT), states_of(layers, batch)
        wanted, outputs = ours(layers[name], x_TBI, states[name]), []
        for x_BI in x_TBI:
            found = stepwise.run(x_BI, states)
            states = {cell: final for cell, (_, final) in found.items()}
            outputs.append(found[name][0])
        near((torch.stack(outputs), states[name]), wanted)


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "two directions": ("lstm", {"bidirectional": True}),
    "two directions of a scan": ("leaky_rnn", {"bidirectional": True}),
    "no biases": ("gru", {"bias": False}),
    "peepholes": ("peephole_lstm", {"bias": False, "bidirectional": True}),
    "reset before": ("gru_reset_before", {}),
    "projection": ("lstm", {"proj_size": 2}),
    "skips": ("rnn", {"skips": (2, 3), "layer_norm": True}),
    "residual": ("gru", {"num_layers": 2, "connect": "residual"}),
    "dense": ("rnn", {"num_layers": 2, "connect": "dense", "nonlinearity": "relu"}),
    "highway": ("rnn", {"num_layers": 2, "connect": "highway"}),
    "zoneout": ("rnn", {"zoneout": 0.5}),
    "orthogonal": ("rnn", {"constrain": "orthogonal"}),
    "drops": ("lstm", {"recurrent_dropout": 0.5, "weight_drop": 0.5}),
    "time": ("clockwork_rnn", {}),
}
TRIED = usual(("two directions", "peepholes", "reset before", "projection", "skips", "residual", "time"), OPTIONS)


@pytest.fixture(scope="module")
def optioned(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(4)
    layers = {name: layer_of(OPTIONS[name][0], **OPTIONS[name][1]) for name in TRIED}
    return Exported(layers, tmp_path_factory.mktemp("options") / "model.onnx", lengths=True)


@pytest.mark.parametrize("name", TRIED)
def test_options_and_lengths_are_the_layers(name: str, optioned: Exported) -> None:
    x_TBI, states = torch.randn(6, 4, INPUT), states_of(optioned.layers, 4)
    lengths_B = torch.tensor([6, 0, 3, 1])
    near(
        optioned.run(x_TBI, states, lengths_B)[name],
        ours(optioned.layers[name], x_TBI, states[name], lengths=lengths_B),
    )
