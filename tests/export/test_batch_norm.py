"""Batch normalisation outside of Python: each step has its own statistics, those past the last the last ones.

Shapes: T time, B batch, I input, L layers, W width.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.export.compiled import Library, compiled
from tests.export.together import near
from tests.nn.layers import INPUT, as_tuple
from tests.support.whole import usual
from unvanish import Recurrent
from unvanish.errors import OptionError
from unvanish.export import to_onnx, to_torch

HIDDEN, OWN, STEPS = 7, 4, 9  # units, steps with statistics of their own, steps that are run

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {"num_layers": 2}),
    "gru": ("gru", {"skips": (2,)}),
    "reset before": ("gru_reset_before", {"num_layers": 2, "connect": "residual"}),
    "time": ("clockwork_rnn", {}),
    "projection": ("lstm", {"proj_size": 3, "num_layers": 2}),
    "batch first": ("mgu", {"batch_first": True}),
}
TRIED = usual(("lstm", "time"), LAYERS)
BOTH_WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "two directions": ("rnn", {"bidirectional": True, "num_layers": 2})
}


def trained(name: str) -> Recurrent:
    """A layer whose statistics differ from step to step, with gains at which its states move."""
    torch.manual_seed(6)
    cell, options = {**LAYERS, **BOTH_WAYS}[name]
    layer = Recurrent(cell, INPUT, HIDDEN, batch_norm=OWN, **options)
    with torch.no_grad():
        for name, array in layer.named_parameters():
            if "gain" in name:
                array.uniform_(0.5, 1.5)
    for _ in range(10):
        x_TBI = torch.randn(OWN, 8, INPUT) * torch.arange(1, OWN + 1)[:, None, None]
        layer(x_TBI.transpose(0, 1) if layer.batch_first else x_TBI)
    return layer.eval()


def asked(layer: Recurrent, rows: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """An input, and what the layer itself makes of it: output and states."""
    x_TBI = torch.randn(STEPS, rows, INPUT)
    given = x_TBI.transpose(0, 1) if layer.batch_first else x_TBI
    with torch.no_grad():
        output, final = layer(given)
    return given, output, as_tuple(final)


class Onnx:
    """A file in onnxruntime."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path)
        self.names = [one.name for one in self.session.get_inputs()]

    def __call__(self, input: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        arrays = [array.numpy() for array in (input, *states)]
        output, *final = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return torch.from_numpy(output), tuple(map(torch.from_numpy, final))


def written(model: Any, to: str, folder: Path, **options: Any) -> Any:
    if to == "onnx":
        to_onnx(model, folder / "net.onnx", **options)
        return Onnx(folder / "net.onnx")
    to_torch(model, folder / "net.pt2", **options)
    return torch.export.load(folder / "net.pt2").module()


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("name", [*TRIED, *BOTH_WAYS])
def test_a_whole_sequence_has_the_statistics_of_each_step(name: str, to: str, tmp_path: Path) -> None:
    layer = trained(name)
    run = written(layer, to, tmp_path)
    for rows in (3, 1):
        x, *wanted = asked(layer, rows)
        near(tuple(run(x, layer.zero_states(rows))), tuple(wanted))


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("name", TRIED)
def test_step_by_step_the_index_of_a_step_is_carried(name: str, to: str, tmp_path: Path) -> None:
    layer = trained(name)
    step = written(layer, to, tmp_path, streaming=True)
    x, output, final = asked(layer, 3)
    states, outputs = zeros(layer, 3), []
    for x_BI in x.unbind(int(layer.batch_first)):
        found, states = step(x_BI, states)
        outputs.append(found)
    near(torch.stack(outputs, int(layer.batch_first)), output)
    near(tuple(states)[: len(final)], final)
    assert states[-1].unique().tolist() == [STEPS]


def test_rows_that_begin_at_different_times_have_statistics_of_their_own(tmp_path: Path) -> None:
    layer = trained("lstm")
    step = written(layer, "torch", tmp_path, streaming=True)
    x, output, _ = asked(layer, 2)
    states, outputs = zeros(layer, 2), []
    late = torch.tensor([[0.0], [1.0]])  # the second row begins again two steps later
    for index in range(STEPS):
        if index == 2:
            states = tuple((state * (1 - late)).to(state.dtype) for state in states)
        found, states = step(torch.stack([x[index, 0], x[index - 2 if index > 1 else index, 1]]), states)
        outputs.append(found)
    found_TBW = torch.stack(outputs)
    near(found_TBW[:, 0], output[:, 0])
    near(found_TBW[2:, 1], output[:-2, 1])


def zeros(layer: Recurrent, rows: int) -> tuple[Tensor, ...]:
    """What a sequence begins with: the states of the layer, and the index of its first step."""
    index = torch.zeros(layer.num_layers, rows, 1, dtype=torch.long)
    return layer.zero_states(rows) + (() if "t" in layer.state_names else (index,))


@compiled
@pytest.mark.parametrize("name", usual(("lstm", "time", "projection"), LAYERS))
def test_a_file_of_c_counts_its_steps(name: str, tmp_path: Path) -> None:
    layer, head = trained(name), nn.Linear(3 if name == "projection" else HIDDEN, 2)
    library = Library(SimpleNamespace(recurrent=layer, head=head), tmp_path)
    x, output, _ = asked(layer, 1)
    x_TI, wanted_TW = x.flatten(0, 1), head(output.flatten(0, 1)).detach()
    for _ in range(2):
        library.init()
        near(torch.stack([library.step(x_I, 2) for x_I in x_TI]), wanted_TW)


def test_lengths_are_refused_as_the_layer_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="leave lengths= and reset= out"):
        to_torch(trained("lstm"), tmp_path / "net.pt2", lengths=True)
