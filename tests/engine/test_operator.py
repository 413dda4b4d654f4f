"""Graphs: torch.compile without a break, torch.export, and torch's own check of the operator.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch._inductor.config
from torch.export import Dim

import unvanish
from unvanish import Cell, Recurrent
from unvanish.engine import make_plan

CELLS = ["lstm", "gru_reset_before", "delayed_rnn", "clockwork_rnn", "trained_leaky_rnn"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("cell", CELLS)
def test_compiled_whole_and_the_same_numbers(cell: str) -> None:
    layer = Recurrent(cell, 5, 8, num_layers=2, bidirectional=True, dtype=torch.float64)
    x_TBI = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = []
    for run in (layer, compiled):
        output, states = run(x_TBI)
        states = states if isinstance(states, tuple) else (states,)
        loss = output.square().sum() + sum(state.double().sum() for state in states)
        found.append([output, *torch.autograd.grad(loss, [x_TBI, *layer.parameters()])])
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_compiled_with_lengths_and_all_states() -> None:
    layer = unvanish.LSTM(5, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x_TBI, lengths = torch.randn(6, 3, 5), torch.tensor([2, 6, 0])
    for wanted, got in zip(
        layer(x_TBI, lengths=lengths, all_states=True)[2].values(),
        compiled(x_TBI, lengths=lengths, all_states=True)[2].values(),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_compiled_by_inductor_inside_a_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), unvanish.GRUResetBefore(5, 8, batch_first=True))
    compiled, x_BTI = torch.compile(model, fullgraph=True), torch.randn(2, 7, 4)
    # Without vectors: to find out which the processor has, inductor compiles a program for each kind.
    with torch._inductor.config.patch({"cpp.simdlen": 0}):
        for layer in (model, compiled):
            model.zero_grad()
            layer(x_BTI)[0].square().sum().backward()
    gradient = model[0].weight.grad.clone()
    model.zero_grad()
    model(x_BTI)[0].square().sum().backward()
    torch.testing.assert_close(gradient, model[0].weight.grad)


def test_the_operator_keeps_torchs_rules() -> None:
    layer = unvanish.LSTM(3, 4, dtype=torch.float64)
    x_TBI = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    word = layer._registered[True][0].word
    arguments = (word, [x_TBI, *layer.parameters()], [], states, [], None, None, None, True)
    torch.library.opcheck(torch.ops.unvanish.sequence.default, arguments)


@pytest.mark.parametrize("cell", CELLS)
def test_exported_with_free_lengths(cell: str) -> None:
    layer = Recurrent(cell, 5, 8)
    x_TBI = torch.randn(6, 3, 5)
    program = torch.export.export(layer, (x_TBI,), dynamic_shapes={"input": {0: Dim("T"), 1: Dim("B")}})
    assert [node.target for node in program.graph.nodes if "unvanish" in str(node.target)] == [
        torch.ops.unvanish.sequence.default
    ]
    other = torch.randn(9, 2, 5)
    torch.testing.assert_close(program.module()(other)[0], layer(other)[0])


def test_a_graph_whose_layer_is_not_there_says_so() -> None:
    x_TBI = torch.randn(5, 2, 3)
    with pytest.raises(unvanish.errors.OptionError, match="make the same layer first"):
        torch.ops.unvanish.sequence("lstm-0", [x_TBI], [], [], [], None, None, None, False)


def test_where_a_line_stands_makes_no_other_layer() -> None:
    text = "h[t] = tanh(W @ x[t] + U @ h[t-1] + b)"
    words = set()
    for way in (text, f"\n\n{text}  # a word"):
        make_plan.clear()  # as in another process
        words.add(Recurrent(Cell("own", way), 3, 4)._registered[True][0].word)
    assert len(words) == 1
