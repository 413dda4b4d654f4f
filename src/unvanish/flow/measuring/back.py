"""Send random directions back through a part.

Shapes: T time, B batch, I input, N full state, D draws, R rows of all draws side by side, S states.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from unvanish.flow.finding.graph import Norms
from unvanish.flow.finding.parts import LayerPart, SteppedPart
from unvanish.flow.finding.recorder import Track

AT_ONCE = 256  # steps whose graph is held
ROWS_AT_ONCE = 64


def norms_back(
    part: SteppedPart,
    draws: int = 1,
    generator: torch.Generator | None = None,
    around: contextlib.AbstractContextManager[object] | None = None,
) -> Norms:
    """Return what is left of random directions at the last step, k steps back, by state, (T + 1, S).

    The root of the sum of their squares is g(k) of the profile; what is one step before the first is the initial
    state. Each state is measured in its own size, the root of its mean square along the trajectory, so that no
    number depends on a unit; of a state that is read several steps back its newest value counts. In double
    precision; `around` surrounds the steps, which are then run in plain torch.
    """
    squares_GTS = squares_back(part, draws, generator, around)
    return np.asarray(np.sqrt(squares_GTS.mean(0)))


def squares_back(
    part: SteppedPart,
    draws: int = 1,
    generator: torch.Generator | None = None,
    around: contextlib.AbstractContextManager[object] | None = None,
    groups: int = 1,
) -> Norms:
    """Return the squares of `norms_back`, apart for `groups` of so many directions each, (G, T + 1, S)."""
    exact = part.double()
    initial_BN, sizes = exact.state_before(0), exact.sizes()
    weights_N = torch.zeros(initial_BN.shape[-1], dtype=torch.float64, device=initial_BN.device)
    for name, place in exact.newest().items():
        weights_N[place] = 1 / sizes[name]
    shape = (groups * draws, *initial_BN.shape)
    v_DBN = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(initial_BN.device)
    sent = (v_DBN.square() * (weights_N > 0)).sum((1, 2))
    together = isinstance(exact, LayerPart) and AT_ONCE > 1
    at_once = min(draws, max(1, ROWS_AT_ONCE // len(initial_BN))) if together else draws
    found = []
    for group, of_group in zip(v_DBN.split(draws), sent.split(draws), strict=True):  # type: ignore[no-untyped-call]
        squares = [
            _many_steps(exact, some, around)
            if isinstance(exact, LayerPart) and together
            else _step_by_step(exact, some, around)
            for some in (group * weights_N).split(at_once)
        ]
        found.append(torch.stack(squares).sum(0) / of_group.sum())
    scale_S = torch.tensor([sizes[name] for name in exact.newest()], dtype=torch.float64, device="cpu")
    squares_GTS = torch.stack(found).cpu() * scale_S.square()
    return np.asarray(squares_GTS.numpy(), dtype=np.float64)


def _many_steps(
    exact: LayerPart, v_DBN: Tensor, around: contextlib.AbstractContextManager[object] | None
) -> Tensor:
    """Send directions back, the rows of all draws side by side, many steps in one pass; squares, (T + 1, S)."""
    draws, v_RN = len(v_DBN), v_DBN.flatten(0, 1)
    found = [_squares(exact, v_RN)[None]]
    for last in range(exact.steps, 0, -AT_ONCE):
        first, track = max(0, last - AT_ONCE), Track(exact.name, tuple(exact.widths))
        start_RN = exact.state_before(first).repeat(draws, 1).requires_grad_()
        with torch.enable_grad(), around or contextlib.nullcontext():
            engine = None if around is None else "reference"
            end_RN = exact.run(first, last, start_RN, (track,), engine, draws)
        pulled: Tensor | None = None
        if end_RN.requires_grad:
            (pulled,) = torch.autograd.grad(end_RN, start_RN, v_RN, allow_unused=True)
        v_RN = torch.zeros_like(v_RN) if pulled is None else pulled
        squares_TS = track.norms.square() if track.arrived else v_RN.new_zeros(last - first, len(exact.widths))
        found += [squares_TS[:-1].flip(0), _squares(exact, v_RN)[None]]
    return torch.cat(found)


def _step_by_step(
    exact: SteppedPart, v_DBN: Tensor, around: contextlib.AbstractContextManager[object] | None
) -> Tensor:
    """Send directions back through one step after the other; squares, (T + 1, S)."""
    found = [_squares(exact, v_DBN)]
    for t in reversed(range(exact.steps)):
        start_BN = exact.state_before(t).detach().requires_grad_()
        with torch.enable_grad(), around or contextlib.nullcontext():
            end_BN = exact.step(t)(start_BN)
        pulled = [_pulled(end_BN, start_BN, v_BN) for v_BN in v_DBN]
        v_DBN = torch.stack(pulled)
        found.append(_squares(exact, v_DBN))
    return torch.stack(found)


def _pulled(end_BN: Tensor, start_BN: Tensor, v_BN: Tensor) -> Tensor:
    found: Tensor | None = None
    if end_BN.requires_grad:
        (found,) = torch.autograd.grad(end_BN, start_BN, v_BN, retain_graph=True, allow_unused=True)
    return torch.zeros_like(v_BN) if found is None else found


def _squares(part: SteppedPart, v: Tensor) -> Tensor:
    """The sum of the squares of each state's share of directions."""
    return torch.stack([v[..., place].square().sum() for place in part.newest().values()])
