"""Send random directions back through a part.

Shapes: T time, B batch, N full state, D draws, S states.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.flow.finding.parts import LayerPart, Part
from unvanish.flow.finding.recorder import Track

AT_ONCE = 256  # steps whose graph is held


def norms_back(
    part: Part,
    draws: int = 1,
    generator: torch.Generator | None = None,
    around: contextlib.AbstractContextManager[object] | None = None,
) -> NDArray[np.float64]:
    """Return what is left of random directions at the last step, k steps back, by state, (T + 1, S).

    The root of the sum of their squares is g(k) of the profile; what is one step before the first is the initial
    state. In double precision; `around` surrounds the steps.
    """
    exact = part.double()
    initial_BN = exact.state_before(0)
    shape = (draws, *initial_BN.shape)
    v_DBN = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(initial_BN.device)
    total, found = v_DBN.square().sum(), [_squares(exact, v_DBN)[None]]
    # A state that is read several steps back is more than what passes between two steps: no track has all of it.
    at_once = AT_ONCE if isinstance(exact, LayerPart) and exact.is_first_order else 1
    for last in range(part.steps, 0, -at_once):
        first, track = max(0, last - at_once), Track(part.name, tuple(part.widths), needs="steps")
        start_BN = exact.state_before(first).detach().requires_grad_()
        with torch.enable_grad(), around or contextlib.nullcontext():
            if last - first > 1 and isinstance(exact, LayerPart):
                end_BN = exact.run(first, last, start_BN, (track,))
            else:
                end_BN = exact.step(first)(start_BN)
        squares_TS = v_DBN.new_zeros(last - first, len(exact.widths))
        v_DBN = _sent_back(end_BN, start_BN, v_DBN, track, squares_TS)
        found += [squares_TS[:-1].flip(0), _squares(exact, v_DBN)[None]]
    return np.asarray((torch.cat(found) / total).sqrt().cpu().numpy(), dtype=np.float64)


def _squares(part: Part, v_DBN: Tensor) -> Tensor:
    return torch.stack([v_DBN[..., place].square().sum() for place in part.slices().values()])


def _sent_back(end_BN: Tensor, start_BN: Tensor, v_DBN: Tensor, track: Track, squares_TS: Tensor) -> Tensor:
    """Send directions from the end of some steps to their start, adding up the squares that leave each step."""
    found = []
    for v_BN in v_DBN:
        pulled: Tensor | None = None
        track.clear()
        if end_BN.requires_grad:
            (pulled,) = torch.autograd.grad(end_BN, start_BN, v_BN, retain_graph=True, allow_unused=True)
        found.append(torch.zeros_like(v_BN) if pulled is None else pulled)
        if track.arrived:
            squares_TS += track.norms.square()
    return torch.stack(found)
