"""Graphs that leave Python: torch's own operators alone, and the same numbers.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from tests.nn.layers import INPUT, as_tuple, close, each_kind, made, noise, random_states
from unvanish import Cell, Recurrent
from unvanish.engine import leaving_python
from unvanish.errors import ExportError

TIME, BATCH = Dim("time"), Dim("batch")


class Given(torch.nn.Module):
    """A layer with what it is given by place."""

    def __init__(self, layer: Recurrent, *names: str, **fixed: Any) -> None:
        super().__init__()
        self.layer, self.names, self.fixed = layer.eval().requires_grad_(False), names, fixed

    def forward(self, input: Tensor, states: tuple[Tensor, ...], *rest: Tensor) -> Any:
        states = states if len(states) > 1 else states[0]
        return self.layer(input, states, **dict(zip(self.names, rest, strict=True)), **self.fixed)


def exported(model: Given, *given: Any, rest: tuple[Any, ...] = ()) -> ExportedProgram:
    states = tuple({1: BATCH} for _ in given[1])
    dims = ({0: TIME, 1: BATCH}, states, *([rest] if rest else []))
    with leaving_python("torch"):
        program = torch.export.export(model, given, dynamic_shapes=dims)
    targets = [str(node.target) for module in program.graph_module.modules() for node in module.graph.nodes]
    assert not [target for target in targets if "unvanish" in target]
    return program


def inputs(layer: Recurrent, steps: int, batch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    return noise(steps, batch, INPUT), random_states(layer, batch)


@each_kind
def test_a_graph_holds_torchs_operators_alone_and_runs_any_length_and_batch(name: str) -> None:
    model = Given(made(name, num_layers=2))
    program = exported(model, *inputs(model.layer, 4, 2))
    for steps, batch in ((7, 3), (1, 1)):
        given = inputs(model.layer, steps, batch)
        found, wanted = program.module()(*given), model(*given)
        close(found[0], wanted[0])
        close(as_tuple(found[1]), as_tuple(wanted[1]))


@pytest.mark.parametrize("name", ["lstm", "skip_rnn", "clockwork_rnn"])
def test_lengths_resets_and_all_states_are_in_the_graph(name: str) -> None:
    model = Given(made(name, bidirectional=True), "lengths", "reset", all_states=True)
    lengths, reset = torch.tensor([3, 0]), torch.zeros(4, 2, dtype=torch.bool)
    program = exported(model, *inputs(model.layer, 4, 2), lengths, reset, rest=({0: BATCH}, {0: TIME, 1: BATCH}))
    given = (*inputs(model.layer, 6, 3), torch.tensor([6, 0, 4]), torch.rand(6, 3) < 0.3)
    for found, wanted in zip(program.module()(*given), model(*given), strict=True):
        close(found, wanted)


def test_a_graph_of_one_step_has_no_loop() -> None:
    model = Given(made("gru_reset_before"))
    with leaving_python("torch"):
        program = torch.export.export(model, inputs(model.layer, 1, 2))
    assert not any("scan" in str(node.target) for node in program.graph.nodes)
    given = inputs(model.layer, 1, 2)
    close(program.module()(*given), model(*given))


def test_a_step_that_does_not_read_the_input_is_a_loop_over_it() -> None:
    model = Given(Recurrent(Cell("alone", "h[t] = tanh(U @ h[t-1] + b)"), INPUT, 4, dtype=torch.float64))
    given = inputs(model.layer, 5, 2)
    close(exported(model, *inputs(model.layer, 3, 2)).module()(*given), model(*given))


def test_batch_norm_has_the_statistics_of_each_step_and_is_refused_in_training() -> None:
    model = Given(made("rnn", batch_norm=4, bidirectional=True))
    model.train()
    for _ in range(5):
        x_TBI, states = inputs(model.layer, 4, 8)
        model(x_TBI + torch.arange(4)[:, None, None], states)
    with pytest.raises(ExportError, match=r"call \.eval\(\) first"):
        exported(model, *inputs(model.layer, 4, 2))
    model.eval()
    given = inputs(model.layer, 6, 3)
    close(exported(model, *inputs(model.layer, 4, 2)).module()(*given), model(*given))
