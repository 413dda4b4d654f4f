"""A pass as ONNX's own RNN, GRU or LSTM, for the cells that are just these.

Shapes: T time, B batch, I input, H hidden, G gates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unvanish.engine.builtin import flat_weights
from unvanish.engine.sequence import Pass, Result
from unvanish.equations.recognise import recognise

# By torch's kernel: ONNX's operator, the gates in its order by their number in torch's, attributes.
_NODES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "lstm": ("LSTM", (0, 3, 1, 2), {}),  # i, f, g, o -> i, o, f, c
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # r, z, n -> z, r, h
    "rnn_tanh": ("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", (0,), {"activations": ["Relu"]}),
}


def has_node(job: Pass) -> bool:
    """Whether ONNX has an operator for this pass."""
    fused = recognise(job.plan.system)
    if fused is None or fused.projection is not None or job.reset_TB is not None or not hasattr(torch.onnx, "ops"):
        return False
    hidden = job.wants_all_states and (len(fused.states) > 1 or job.lengths_B is not None)
    return not hidden and job.x_TBI.dtype == torch.float32  # what runtimes have it for


def run_as_node(job: Pass) -> Result:
    """Put a pass into a graph that becomes ONNX as one operator."""
    fused = recognise(job.plan.system)
    assert fused is not None  # has_node() was asked
    operator, order, attributes = _NODES[fused.kernel]
    (w_ih, w_hh, *biases), _ = flat_weights(job, fused)
    steps, batch, _ = job.x_TBI.shape
    hidden = w_hh.shape[1]
    states = [job.states[name] for name in fused.states]
    inputs: list[Tensor | None] = [job.x_TBI, _ordered(w_ih, order), _ordered(w_hh, order)]
    inputs.append(torch.cat([_ordered(bias, order) for bias in biases], -1) if biases else None)
    # A runtime refuses a row without a step: it is given one, and what comes of that is put out below.
    inputs.append(None if job.lengths_B is None else job.lengths_B.clamp(min=1).to(torch.int32))
    found = torch.onnx.ops.symbolic_multi_out(
        operator,
        [*inputs, *(state[None] for state in states)],
        {"hidden_size": hidden, **attributes},
        dtypes=[job.x_TBI.dtype] * (1 + len(states)),
        shapes=[[steps, 1, batch, hidden], *[[1, batch, hidden]] * len(states)],
    )
    output_TBW, final = found[0][:, 0], [value[0] for value in found[1:]]
    if job.lengths_B is not None:
        runs_B1 = (job.lengths_B > 0)[:, None]
        output_TBW = torch.where(runs_B1, output_TBW, 0.0)
        final = [torch.where(runs_B1, new, old) for new, old in zip(final, states, strict=True)]
    every = {job.plan.system.output.name: output_TBW} if job.wants_all_states else None
    return Result(output_TBW, dict(zip(fused.states, final, strict=True)), every)


def _ordered(array: Tensor, order: tuple[int, ...]) -> Tensor:
    """Bring the gates of an array (G·H, …) into another order, behind a first axis for the direction."""
    height = array.shape[0] // len(order)
    return torch.cat([array[number * height : (number + 1) * height] for number in order])[None]
