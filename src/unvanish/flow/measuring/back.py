"""Send random directions back through a part, step by step.

Shapes: T time, B batch, N full state, D draws, S states.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.flow.finding.parts import Part


def norms_back(
    part: Part,
    draws: int = 1,
    generator: torch.Generator | None = None,
    around: contextlib.AbstractContextManager[object] | None = None,
) -> NDArray[np.float64]:
    """Return what is left of random directions at the last step, k steps back, by state, (T + 1, S).

    The root of the sum of their squares is g(k) of the profile; what is one step before the first is the initial
    state. In double precision, one vector-Jacobian product a step and draw; `around` surrounds every step.
    """
    exact = part.double()
    s_TBN = exact.trajectory()
    shape = (draws, *s_TBN.shape[1:])
    v_DBN = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(s_TBN.device)
    total, found = v_DBN.square().sum(), [_squares(exact, v_DBN)]
    for t in reversed(range(part.steps)):
        start_BN = s_TBN[t].detach().requires_grad_()
        with torch.enable_grad(), around or contextlib.nullcontext():
            end_BN = exact.step(t)(start_BN)
        v_DBN = torch.stack([_pulled(end_BN, start_BN, v_BN) for v_BN in v_DBN])
        found.append(_squares(exact, v_DBN))
    squares_TS = torch.stack(found) / total
    return np.asarray(squares_TS.sqrt().cpu().numpy(), dtype=np.float64)


def _squares(part: Part, v_DBN: Tensor) -> Tensor:
    return torch.stack([v_DBN[..., place].square().sum() for place in part.slices().values()])


def _pulled(end_BN: Tensor, start_BN: Tensor, v_BN: Tensor) -> Tensor:
    if not end_BN.requires_grad:
        return torch.zeros_like(v_BN)
    (found,) = torch.autograd.grad(end_BN, start_BN, v_BN, retain_graph=True, allow_unused=True)
    return torch.zeros_like(v_BN) if found is None else found
