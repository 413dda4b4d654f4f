"""A pass as ONNX's own RNN, GRU or LSTM, for the cells that are just these.

Shapes: T time, B batch, I input, H hidden, G gates.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unvanish.cells import find
from unvanish.engine.sequence import Pass, Result
from unvanish.equations.recognise import Gate, recognise
from unvanish.equations.system import System

# By torch's kernel: ONNX's operator, the gates in its order by their number in torch's, attributes.
_OF_TORCH: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "lstm": ("LSTM", (0, 3, 1, 2), {}),  # i, f, g, o -> i, o, f, c
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # r, z, n -> z, r, h
    "rnn_tanh": ("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", (0,), {"activations": ["Relu"]}),
}
# Cells of the catalogue that ONNX has and torch does not: gates and peepholes in ONNX's order, by their letters.
_MORE = {
    "gru_reset_before": ("GRU", "zrn", ""),
    "peephole_lstm": ("LSTM", "iofg", "iof"),
}


@dataclass(frozen=True)
class _Node:
    """An operator of ONNX, with the names of what it takes in the order in which it takes it."""

    operator: str
    gates: tuple[Gate, ...]
    states: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    peepholes: tuple[str, ...] = ()


@functools.lru_cache(maxsize=256)
def _node_of(system: System) -> _Node | None:
    fused = recognise(system)
    if fused is not None and fused.projection is None:
        operator, order, attributes = _OF_TORCH[fused.kernel]
        return _Node(operator, tuple(fused.gates[number] for number in order), fused.states, attributes)
    for name, (operator, letters, peepholes) in _MORE.items():
        for bias in (True, False):
            if system == find(name).system(bias=bias):
                gates = (Gate(f"W_{g}", f"U_{g}", (f"b_{g}",) if bias else (), ()) for g in letters)
                states = tuple(state.name for state in system.states)
                return _Node(operator, tuple(gates), states, peepholes=tuple(f"p_{g}" for g in peepholes))
    return None


def has_node(job: Pass) -> bool:
    """Whether ONNX has an operator for this pass."""
    node = _node_of(job.plan.system)
    if node is None or job.reset_TB is not None or not hasattr(torch.onnx, "ops"):
        return False
    hidden = job.wants_all_states and (len(node.states) > 1 or job.lengths_B is not None)
    return not hidden and job.x_TBI.dtype == torch.float32  # what runtimes have it for


def run_as_node(job: Pass) -> Result:
    """Put a pass into a graph that becomes ONNX as one operator."""
    node = _node_of(job.plan.system)
    assert node is not None  # has_node() was asked
    steps, batch, _ = job.x_TBI.shape
    states = [job.states[name] for name in node.states]
    hidden = states[0].shape[-1]
    # A runtime refuses a row without a step: it is given one, and what comes of that is put out below.
    lengths_B = None if job.lengths_B is None else job.lengths_B.clamp(min=1).to(torch.int32)
    inputs = [*_matrices(job, node), _biases(job, node, hidden), lengths_B, *(state[None] for state in states)]
    if node.peepholes:
        inputs.append(torch.cat([job.weights[name] for name in node.peepholes])[None])
    found = torch.onnx.ops.symbolic_multi_out(
        node.operator,
        [job.x_TBI, *inputs],
        {"hidden_size": hidden, **node.attributes},
        dtypes=[job.x_TBI.dtype] * (1 + len(states)),
        shapes=[[steps, 1, batch, hidden], *[[1, batch, hidden]] * len(states)],
    )
    output_TBW, final = found[0][:, 0], [value[0] for value in found[1:]]
    if job.lengths_B is not None:
        runs_B1 = (job.lengths_B > 0)[:, None]
        output_TBW = torch.where(runs_B1, output_TBW, 0.0)
        final = [torch.where(runs_B1, new, old) for new, old in zip(final, states, strict=True)]
    every = {job.plan.system.output.name: output_TBW} if job.wants_all_states else None
    return Result(output_TBW, dict(zip(node.states, final, strict=True)), every)


def _matrices(job: Pass, node: _Node) -> list[Tensor | None]:
    """The matrices of the input and those of the state, (1, G·H, …) each."""
    names = [gate.input_matrix for gate in node.gates], [gate.recurrent_matrix for gate in node.gates]
    return [torch.cat([job.weights[name] for name in some])[None] for some in names]


def _biases(job: Pass, node: _Node, hidden: int) -> Tensor | None:
    """The biases of the input, then those of the state, (1, 2·G·H); None if there are none."""
    names = [gate.input_biases for gate in node.gates] + [gate.hidden_biases for gate in node.gates]
    if not any(names):
        return None
    zero = job.x_TBI.new_zeros(hidden)
    found = ([job.weights[name] for name in some] or [zero] for some in names)
    return torch.cat([functools.reduce(torch.add, some) for some in found])[None]
