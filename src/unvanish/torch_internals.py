"""Every private name of torch and Lightning that we use, each with what it is for.

There is no public name for these in the versions that we support. Nothing else in the package may reach for one (a
test keeps that), and each has a test of its own, so that a new version that changes one says which and where.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes

# -- who looks at what runs --------------------------------------------------------------------------------


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


def inside_vmap_or_grad() -> bool:
    """Whether a transform of torch.func is at work (vmap, grad, jvp, …)."""
    return torch._C._functorch.maybe_current_level() is not None


def inside_forward_mode() -> bool:
    """Whether forward-mode derivatives are being taken."""
    return bool(forward_ad._current_level >= 0)


def is_batched(x: Tensor) -> bool:
    """Whether a tensor is a batch in disguise: vmap's, or that of a backward pass with `is_grads_batched`."""
    functorch = torch._C._functorch
    return bool(functorch.is_batchedtensor(x) or functorch.is_legacy_batchedtensor(x))


def without_modes() -> contextlib.AbstractContextManager[Any]:
    """Inside the block no dispatch mode of the caller sees what is done."""
    found: contextlib.AbstractContextManager[Any] = _disable_current_modes()
    return found


# -- autograd ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def graph_recorded() -> Iterator[None]:
    """Let autograd see what is done inside an operator, where torch has switched it off."""
    kinds = torch._C.DispatchKey
    with torch._C._PreserveDispatchKeyGuard(), torch.enable_grad():
        for kind in (kinds.AutogradFunctionality, kinds.AutogradOther, kinds.ADInplaceOrView):
            torch._C._dispatch_tls_set_dispatch_key_excluded(kind, False)
        yield


def changes(x: Tensor) -> int:
    """How often a tensor, or one that shares its counter, has been changed in place."""
    return x._version


def after_backward(callback: Callable[[], None]) -> None:
    """Call a function when the backward pass that is running has ended."""
    torch.autograd.Variable._execution_engine.queue_callback(callback)


# -- memory and products -----------------------------------------------------------------------------------


def holders(storage: torch.UntypedStorage) -> int:
    """How many tensors and Python objects hold a block of memory."""
    return int(torch._C._storage_Use_Count(storage._cdata))


def onednn_product(x_NI: Tensor, weight_JI: Tensor) -> Tensor:
    """Return x · weightᵀ by oneDNN; raises AttributeError or RuntimeError where torch has none."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_JI, None, "none", [], "")
    return found


# As torch's own clipping functions use them: one call for a list of tensors.
foreach_norm = torch._foreach_norm
foreach_mul_ = torch._foreach_mul_
foreach_clamp_min_ = torch._foreach_clamp_min_
foreach_clamp_max_ = torch._foreach_clamp_max_

# Nested lists, tuples and mappings of tensors, as torch itself takes them apart.
pytree = _pytree

# -- loops in graphs ---------------------------------------------------------------------------------------


def scan(
    body: Callable[..., tuple[Tensor, ...]],
    carried: Sequence[Tensor],
    over_time: Sequence[Tensor],
    constants: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Put a loop over time into a graph: what is carried after the last step, then what each step gave.

    `body` takes what is carried, slices of what lies over time, and constants; its graph is not differentiated.
    """
    groups = ([_apart(array) for array in arrays] for arrays in (carried, over_time, constants))
    carried, over_time, constants = groups
    found: tuple[Tensor, ...] = torch.ops.higher_order.scan(body, carried, over_time, tuple(constants))
    return found


def _apart(array: Tensor) -> Tensor:
    """Return an array outside of any graph of autograd, with memory of its own, as a scan wants them."""
    return (array.detach() if array.requires_grad else array).clone()


# -- functions and loops -----------------------------------------------------------------------------------


def code_of(function: Callable[..., Any]) -> CodeType:
    """Return the code object of a function, inside what may be wrapped around it (torch's `_no_grad_wrapper`)."""
    found: CodeType = getattr(function, "__wrapped__", function).__code__
    return found


def validate_now(trainer: Any) -> None:
    """Run Lightning's validation loop inside a training that has come to its end."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
