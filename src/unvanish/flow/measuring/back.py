"""Send random directions back through a part.

Shapes: T time, B batch, I input, N full state, D draws, G groups of draws, L lots of them that go
back together, R rows of all draws of a lot side by side, S states.
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
    if isinstance(exact, LayerPart) and AT_ONCE > 1:
        squares_GTS = _many_steps(exact, (v_DBN * weights_N).reshape(groups, draws, *initial_BN.shape), around)
    else:
        apart = (v_DBN * weights_N).split(draws)  # type: ignore[no-untyped-call]
        squares_GTS = torch.stack([_step_by_step(exact, group, around) for group in apart])
    sent_G = sent.reshape(groups, draws).sum(1)
    squares_GTS = squares_GTS / sent_G[:, None, None]
    scale_S = torch.tensor([sizes[name] for name in exact.newest()], dtype=torch.float64, device="cpu")
    return np.asarray((squares_GTS.cpu() * scale_S.square()).numpy(), dtype=np.float64)


def _many_steps(
    exact: LayerPart, v_GDBN: Tensor, around: contextlib.AbstractContextManager[object] | None
) -> Tensor:
    """Send directions back through many steps in one pass, as many of a group side by side as rows allow.

    The steps are run once and every lot of directions is sent back through them. Squares, (G, T + 1, S).
    """
    groups, draws, batch, _ = v_GDBN.shape
    room = max(1, ROWS_AT_ONCE // batch)
    at_once = max(count for count in range(1, min(draws, room) + 1) if draws % count == 0)
    lots = v_GDBN.reshape(-1, at_once * batch, v_GDBN.shape[-1])
    found = [torch.stack([_squares(exact, v_RN)[None] for v_RN in lots])]
    for last in range(exact.steps, 0, -AT_ONCE):
        first, track = max(0, last - AT_ONCE), Track(exact.name, tuple(exact.widths))
        start_RN = exact.state_before(first).repeat(at_once, 1).requires_grad_()
        with torch.enable_grad(), around or contextlib.nullcontext():
            engine = None if around is None else "reference"
            end_RN = exact.run(first, last, start_RN, (track,), engine, at_once)
        pulled, squares = [], []
        for v_RN in lots:
            track.clear()
            pulled.append(_pulled(end_RN, start_RN, v_RN))
            told = track.norms.square() if track.arrived else v_RN.new_zeros(last - first, len(exact.widths))
            squares.append(torch.cat([told[:-1].flip(0), _squares(exact, pulled[-1])[None]]))
        lots = torch.stack(pulled)
        found.append(torch.stack(squares))
    squares_LTS = torch.cat(found, 1)
    return squares_LTS.reshape(groups, -1, *squares_LTS.shape[1:]).sum(1)


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
