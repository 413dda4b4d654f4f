"""Who looks at what runs: a graph that is being made, a mode that sees every operation, tensors without numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def by_example() -> bool:
    """Whether torch.jit.trace is recording (TensorBoard's add_graph and Lightning's log_graph use it too)."""
    return torch._C._get_tracing_state() is not None


def sees_operators(x: Tensor) -> bool:
    """Whether a graph, a dispatch mode (make_fx, fake tensors, counters) or the tensor itself takes operators."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0 or is_subclass(x)


def is_subclass(x: Tensor) -> bool:
    """Whether a tensor takes its operations itself, so that its memory says nothing."""
    return torch._C._dispatch_keys(x).has(torch._C.DispatchKey.Python)


def has_numbers(x: Tensor) -> bool:
    """Whether the numbers of a tensor can be looked at: not inside a graph, not of a fake one, nor on `meta`."""
    hidden = torch.compiler.is_compiling() or by_example() or x.device.type == "meta"
    return not (hidden or is_subclass(x) or torch._C._len_torch_dispatch_stack() > 0)
