"""The builtin back end: torch's own fused RNN, LSTM and GRU for the cells that are just these.

On CUDA they are cuDNN's. Shapes: T time, B batch, I input, H hidden, G gates, W width of the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unvanish.engine.backend import BackEnd
from unvanish.engine.sequence import Pass, Result
from unvanish.equations.backends import unsupported_by_builtin
from unvanish.equations.recognise import Fused, recognise
from unvanish.equations.system import System
from unvanish.torch_internals import by_example, inside_vmap_or_grad

_KERNELS: dict[str, Callable[..., Any]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
}


class Builtin(BackEnd):
    """torch's fused RNN, LSTM and GRU; on CUDA they are cuDNN's."""

    name = "builtin"

    def lasting_hindrance(self, system: System) -> str | None:
        """Return why torch has no kernel for these equations, or None."""
        return unsupported_by_builtin(system)

    def hindrance(self, job: Pass) -> str | None:
        """Return why a fused kernel cannot run this pass, or None."""
        return _unsupported_pass(job)

    def run(self, job: Pass) -> Result:
        """Run a plan over a sequence by torch's fused kernel."""
        fused = recognise(job.plan.system)
        assert fused is not None  # unsupported() was asked
        weights, has_bias = _flat_weights(job, fused)
        states = tuple(job.states[name][None].contiguous() for name in fused.states)
        if job.lengths_B is None:
            output_TBW, final = _call(fused, (job.x_TBI,), states, weights, has_bias, packed=False)
        else:
            output_TBW, final = _run_packed(job, fused, states, weights, has_bias)
        every = {job.plan.system.output.name: output_TBW} if job.wants_all_states else None
        return Result(output_TBW, {name: h[0] for name, h in zip(fused.states, final, strict=True)}, every)


def _unsupported_pass(job: Pass) -> str | None:
    if job.taps:
        return "a fused kernel hides its steps, and this pass is being recorded or clipped step by step"
    if job.wants_all_states and (len(job.plan.system.states) > 1 or job.lengths_B is not None):
        return "a fused kernel hides all states but its output, and that past the end of a row"
    if inside_vmap_or_grad():
        return "a function transform such as vmap cannot look into a fused kernel"
    if job.reset_TB is not None and bool(job.reset_TB.any()):
        return "a fused kernel cannot restart rows in mid-sequence"
    if job.lengths_B is not None and (job.lengths_B.numel() == 0 or bool((job.lengths_B < 1).any())):
        return "a fused kernel takes no empty rows and no empty packed batch"
    return None


def _run_packed(
    job: Pass, fused: Fused, states: tuple[Tensor, ...], weights: list[Tensor], has_bias: bool
) -> tuple[Tensor, list[Tensor]]:
    assert job.lengths_B is not None
    packed = pack_padded_sequence(job.x_TBI, job.lengths_B.cpu(), enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None
    assert back is not None
    sorted_states = tuple(state.index_select(1, order) for state in states)
    data, final = _call(fused, (packed.data, packed.batch_sizes), sorted_states, weights, has_bias, packed=True)
    output_TBW, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, order, back), total_length=job.x_TBI.shape[0]
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


def _flat_weights(job: Pass, fused: Fused) -> tuple[list[Tensor], bool]:
    """Return torch's w_ih, w_hh, b_ih, b_hh (, w_hr) for one layer."""
    weights, gates = job.weights, fused.gates
    flat = [
        weights.side_by_side(tuple(gate.input_matrix for gate in gates)),
        weights.side_by_side(tuple(gate.recurrent_matrix for gate in gates)),
    ]
    has_bias = any(gate.input_biases or gate.hidden_biases for gate in gates)
    if has_bias:
        height = flat[0].shape[0] // len(gates)
        flat.append(_biases(job, [gate.input_biases for gate in gates], height))
        flat.append(_biases(job, [gate.hidden_biases for gate in gates], height))
    if fused.projection is not None:
        flat.append(weights[fused.projection])
    return flat, has_bias


def _biases(job: Pass, names: list[tuple[str, ...]], height: int) -> Tensor:
    if all(len(some) == 1 for some in names):
        return job.weights.side_by_side(tuple(some[0] for some in names))
    zero = job.x_TBI.new_zeros(height)
    return torch.cat([sum((job.weights[name] for name in some), zero) for some in names])
