"""Big matrix products, where they are fastest on this machine.

torch sends float32 products to MKL, which uses half the vector width on AMD processors; oneDNN, which torch
carries too, does not. Where it is not there, everything falls back to plain torch.

Shapes: N rows (all steps and batch rows), I input, J output.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether this is a processor on which MKL is slow, and torch has oneDNN's product."""
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in vendor and _works()


def _works() -> bool:
    try:
        found = _onednn(torch.eye(3), torch.ones(2, 3))
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.equal(found, torch.ones(3, 2)))


def _onednn(x_NI: Tensor, weight_JI: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_JI, None, "none", [], "")
    return found


def times_transposed(x_NI: Tensor, weight_JI: Tensor) -> Tensor:
    """Return x · weightᵀ, not differentiable."""
    if x_NI.dtype is torch.float32 and x_NI.numel() and onednn_is_faster():
        return _onednn(x_NI, weight_JI)
    return x_NI @ weight_JI.t()


def weight_gradient(adjoint_NJ: Tensor, x_NI: Tensor) -> Tensor:
    """Return Σ over the rows of adjoint ⊗ x, (J, I), not differentiable."""
    return times_transposed(x_NI.t(), adjoint_NJ.t()).t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_JI: Tensor) -> Tensor:
        ctx.save_for_backward(x_NI, weight_JI)
        return times_transposed(x_NI, weight_JI)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, adjoint_NJ: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_NI, weight_JI = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        return (
            times_transposed(adjoint_NJ, weight_JI.t()) if wants_x else None,
            weight_gradient(adjoint_NJ, x_NI) if wants_weight else None,
        )


def linear(x: Tensor, weight_JI: Tensor) -> Tensor:
    """Return x · weightᵀ over the last dimension, differentiable once."""
    if x.dtype is not torch.float32 or not onednn_is_faster():
        return F.linear(x, weight_JI)
    found: Tensor = _Linear.apply(x.flatten(0, -2), weight_JI)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], -1)
