"""Big matrix products, where they are fastest on this machine.

torch sends float32 products to MKL, which uses half the vector width on some AMD processors; oneDNN, which torch
carries too, does not. The choice is made by the processor's vendor, not by a measurement, so that two runs give the
same bits. Where oneDNN is not there, everything falls back to plain torch.

Shapes: N rows (all steps and batch rows), I input, J output.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from unvanish.engine.shared import shared
from unvanish.torch_internals import onednn_product

SMALL = 1 << 21  # multiplications under which the detour costs more than it saves


@shared(1)
def onednn_is_faster() -> bool:
    """Whether this is a processor on which MKL is slow, and torch has oneDNN's product."""
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in vendor and _works()


def _works() -> bool:
    try:
        found = onednn_product(torch.eye(3, device="cpu"), torch.ones(2, 3, device="cpu"))
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.equal(found, torch.ones(3, 2, device="cpu")))


def _goes_to_onednn(x_NI: Tensor, weight_JI: Tensor) -> bool:
    work = x_NI.numel() * weight_JI.shape[0]
    return x_NI.dtype is torch.float32 and work > SMALL and x_NI.shape[1] > 1 and onednn_is_faster()


def times_transposed(x_NI: Tensor, weight_JI: Tensor) -> Tensor:
    """Return x · weightᵀ, contiguous, (N, J); not differentiable."""
    return onednn_product(x_NI, weight_JI) if _goes_to_onednn(x_NI, weight_JI) else x_NI @ weight_JI.t()


def weight_gradient(adjoint_NJ: Tensor, x_NI: Tensor) -> Tensor:
    """Return Σ over the rows of adjoint ⊗ x, (J, I); not differentiable."""
    if _goes_to_onednn(x_NI.t(), adjoint_NJ.t()) and x_NI.shape[1] > 1:
        return onednn_product(x_NI.t(), adjoint_NJ.t()).t()
    return adjoint_NJ.t() @ x_NI


def careful_weight_gradient(adjoint_NJ: Tensor, x_NI: Tensor) -> Tensor:
    """Return the same where zero times infinity, or times NaN, is zero."""
    finite_NI = torch.isfinite(x_NI)
    found_JI = weight_gradient(adjoint_NJ, torch.where(finite_NI, x_NI, 0.0))
    met_JI = (adjoint_NJ != 0).to(x_NI.dtype).t() @ (~finite_NI).to(x_NI.dtype) > 0
    return torch.where(met_JI, torch.nan, found_JI)
