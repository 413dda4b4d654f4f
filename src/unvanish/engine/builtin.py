"""The builtin back end: torch's own fused RNN, LSTM and GRU for the cells that are just these.

On CUDA they are cuDNN's. Shapes: T time, B batch, I input, H hidden, G gates, W width of the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unvanish.engine.ir.plan import Plan
from unvanish.engine.sequence import Result, Run
from unvanish.engine.tracing import by_example
from unvanish.equations.backends import unsupported_by_builtin
from unvanish.equations.recognise import Fused, recognise

_KERNELS: dict[str, Callable[..., Any]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
}


def cannot_plan(plan: Plan) -> str | None:
    """Say why this back end can run no pass of a plan, or None."""
    return unsupported_by_builtin(plan.system)


def cannot_run(run: Run) -> str | None:
    """Say why this back end cannot do one pass of a plan that it can run, or None."""
    if run.observer is not None or run.step_clip is not None or run.tape is not None:
        return "a fused kernel hides its steps, and this pass is being recorded or clipped step by step"
    if run.wants_all_states and (len(run.plan.system.states) > 1 or run.lengths_B is not None):
        return "a fused kernel hides all states but its output, and that past the end of a row"
    if torch._C._functorch.maybe_current_level() is not None:
        return "a function transform such as vmap cannot look into a fused kernel"
    if run.reset_TB is not None and bool(run.reset_TB.any()):
        return "a fused kernel does not start rows anew on their way"
    if run.lengths_B is not None and (run.lengths_B.numel() == 0 or bool((run.lengths_B < 1).any())):
        return "a fused kernel takes no empty rows, nor a packed batch of none"
    return None


def run_builtin(run: Run) -> Result:
    """Run a plan over a sequence by torch's fused kernel, where nothing speaks against it."""
    fused = recognise(run.plan.system)
    assert fused is not None  # cannot_plan() was asked
    weights, has_bias = _flat_weights(run, fused)
    states = tuple(run.states[name][None].contiguous() for name in fused.states)
    if run.lengths_B is None:
        output_TBW, final = _call(fused, (run.x_TBI,), states, weights, has_bias, packed=False)
    else:
        output_TBW, final = _run_packed(run, fused, states, weights, has_bias)
    every = {run.plan.system.output.name: output_TBW} if run.wants_all_states else None
    return Result(output_TBW, {name: h[0] for name, h in zip(fused.states, final, strict=True)}, every)


def _run_packed(
    run: Run, fused: Fused, states: tuple[Tensor, ...], weights: list[Tensor], has_bias: bool
) -> tuple[Tensor, list[Tensor]]:
    assert run.lengths_B is not None
    packed = pack_padded_sequence(run.x_TBI, run.lengths_B.cpu(), enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None
    assert back is not None
    sorted_states = tuple(state.index_select(1, order) for state in states)
    data, final = _call(fused, (packed.data, packed.batch_sizes), sorted_states, weights, has_bias, packed=True)
    output_TBW, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, order, back), total_length=run.x_TBI.shape[0]
    )
    return output_TBW, [state.index_select(1, back) for state in final]


def _call(
    fused: Fused,
    sequence: tuple[Tensor, ...],
    states: tuple[Tensor, ...],
    weights: list[Tensor],
    has_bias: bool,
    *,
    packed: bool,
) -> tuple[Tensor, list[Tensor]]:
    hx = states if fused.kernel == "lstm" else states[0]
    # A trace is replayed with gradients and without: what it records must serve both.
    trains = torch.is_grad_enabled() or by_example()
    tail: list[Any] = [weights, has_bias, 1, 0.0, trains, False]
    # torch's two overloads: (input, hx, …, batch_first) and (data, batch_sizes, hx, …)
    arguments = [*sequence, hx, *tail] if packed else [*sequence, hx, *tail, False]
    output, *final = _KERNELS[fused.kernel](*arguments)
    return output, final


def _flat_weights(run: Run, fused: Fused) -> tuple[list[Tensor], bool]:
    """Return torch's w_ih, w_hh, b_ih, b_hh (, w_hr) for one layer."""
    weights, gates = run.weights, fused.gates
    flat = [
        weights.side_by_side(tuple(gate.input_matrix for gate in gates)),
        weights.side_by_side(tuple(gate.recurrent_matrix for gate in gates)),
    ]
    has_bias = any(gate.input_biases or gate.hidden_biases for gate in gates)
    if has_bias:
        height = flat[0].shape[0] // len(gates)
        flat.append(_biases(run, [gate.input_biases for gate in gates], height))
        flat.append(_biases(run, [gate.hidden_biases for gate in gates], height))
    if fused.projection is not None:
        flat.append(weights[fused.projection])
    return flat, has_bias


def _biases(run: Run, names: list[tuple[str, ...]], height: int) -> Tensor:
    if all(len(some) == 1 for some in names):
        return run.weights.side_by_side(tuple(some[0] for some in names))
    zero = run.x_TBI.new_zeros(height)
    return torch.cat([sum((run.weights[name] for name in some), zero) for some in names])
