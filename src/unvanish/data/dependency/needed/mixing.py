"""Predictions of contexts of several lengths, mixed.

log p ∝ Σ_c w_c(n_c) log p_c, with a weight for every length c and for how often its context was seen, n_c, in
powers of two (Mahoney 2005, "Adaptive weighing of context models for lossless data compression"). The weights are
fitted on rows that were not counted.

Shapes: R rows, C context lengths, S symbols, W powers of two.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.dependency.needed.contexts import Table
from unvanish.data.dependency.needed.past import Lags

POWERS = 8
ROUNDS, BATCH, RATE = 50, 4096, 0.05


def mixed(levels: list[Table], seen: list[Lags], y_R: Lags, fitted_R: NDArray[np.bool_]) -> list[Table]:
    """Mix the levels up to each length."""
    logs = [torch.from_numpy(level).clamp_min(1e-6).log() for level in levels]
    power_CR = torch.from_numpy(np.minimum(np.log2(np.stack(seen) + 1), POWERS - 1).astype(np.int64))
    y, rows = torch.from_numpy(y_R), torch.from_numpy(np.flatnonzero(fitted_R))
    generator = torch.Generator().manual_seed(0)
    weights, found = torch.ones(1, POWERS), [levels[0]]
    for last in range(1, len(levels)):
        # A longer context begins where the shorter ended, and the first with what it says itself.
        new = torch.full((1, POWERS), float(last == 1))
        weights = torch.cat([weights - new if last == 1 else weights, new]).requires_grad_()
        optimiser = torch.optim.Adam([weights], lr=RATE)
        for _ in range(ROUNDS):
            batch = rows[torch.randint(len(rows), (BATCH,), generator=generator)]
            loss = torch.nn.functional.cross_entropy(_mix(weights, logs, power_CR, batch), y[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        weights = weights.detach()
        found.append(torch.softmax(_mix(weights, logs, power_CR, None), 1).numpy())
    return found


def _mix(weights: Tensor, logs: list[Tensor], power_CR: Tensor, rows: Tensor | None) -> Tensor:
    total: Tensor | None = None
    for weight, log, power in zip(weights, logs, power_CR, strict=False):
        here, at = (log, power) if rows is None else (log[rows], power[rows])
        term = weight[at][:, None] * here
        total = term if total is None else total + term
    assert total is not None
    return total
