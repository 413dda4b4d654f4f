"""The needed lag of labels, where one step has many columns: kernels of the last k steps.

Least squares step by step cannot tell hundreds of columns apart by hundreds of sequences. Kernel ridge regression
(Saunders et al. 1998) needs the distances between sequences alone, and these add up from lag to lag. The error of
each row is that without it, e_i = α_i / (K + λ)⁻¹_ii with α = (K + λ)⁻¹ y; kernel and λ are chosen in half of the
blocks for the other half, so that the choice tells nothing.

Shapes: N labelled sequences, E columns of a step, G targets, K lags, B blocks, O ways to predict.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.dependency.needed.past import Floats, Lags, Steps

FEWEST, MOST = 20, 500  # sequences: fewer tell nothing, and the work grows with the third power
ENDS, REFINED = 12, 4  # contexts that are tried, and those between the last two of them
STRENGTHS = (1e-2, 0.1, 1.0, 10.0)
WIDTHS = (0.3, 1.0, 3.0)
AT_ONCE = 64  # lags
TINY = 1e-9  # of the columns' own size


def losses_of_kernels(
    steps: Steps, x_TE: Floats, y_NG: Floats, lags_K: Lags, block_N: NDArray[np.int64], enough: float
) -> Floats:
    """Squared errors of held-out labels, summed over targets, by block: (B, 1 + K); column 0 is that of the mean.

    Contexts in between those that are tried have the error of the next shorter one. `enough` is the share of the
    gain by which it is judged where to look more closely.
    """
    kernels = _Kernels(steps, x_TE, lags_K)
    y = torch.from_numpy(y_NG - y_NG.mean(0))
    found: dict[int, Floats] = {}

    def look(ends: list[int]) -> None:
        for end in ends:
            found[end] = _error_of(kernels.upto(end), y, block_N)

    count = len(lags_K)
    look(sorted({min(count, max(1, round(count ** (place / (ENDS - 1))))) for place in range(ENDS)}))
    whole_B = _by_block((y**2).sum(1).numpy(), block_N)
    gains = {end: float((whole_B - loss_B).mean()) for end, loss_B in found.items()}
    best = max(gains.values())
    first = min(end for end, gain in gains.items() if gain >= enough * best or best <= 0)
    below = max((end for end in gains if end < first), default=0)
    look(
        sorted({round(below + (first - below) * part / (REFINED + 1)) for part in range(1, REFINED + 1)} - {below})
    )
    losses_BK = np.repeat(whole_B[:, None], 1 + count, 1)
    for end in sorted(found):
        losses_BK[:, end:] = found[end][:, None]
    return losses_BK


class _Kernels:
    """The squared distances of all pairs of sequences by how many lags are seen."""

    def __init__(self, steps: Steps, x_TE: Floats, lags_K: Lags) -> None:
        self.steps, self.x_TE, self.lags_K = steps, x_TE, lags_K
        self.sums: dict[int, Tensor] = {0: torch.zeros(len(steps.now), len(steps.now), dtype=torch.float64)}

    def upto(self, end: int) -> Tensor:
        """The products of all pairs over the first `end` lags, (N, N)."""
        if end not in self.sums:
            nearest = max(other for other in self.sums if other < end)
            total = self.sums[nearest].clone()
            for start in range(nearest, end, AT_ONCE):
                lags = self.lags_K[start : min(start + AT_ONCE, end)]
                columns = torch.from_numpy(np.ascontiguousarray(self.steps.columns(self.x_TE, lags)))
                total += columns @ columns.T
            self.sums[end] = total
        return self.sums[end]


def _error_of(products_NN: Tensor, y_NG: Tensor, block_N: NDArray[np.int64]) -> Floats:
    """The error by block of the better way to predict, by what the other half of the blocks say."""
    ways_NO = np.stack([_left_out(kernel, y_NG, strength) for kernel, strength in _ways(products_NN)], 1)
    error_N = np.empty(len(ways_NO))
    for half in (0, 1):
        here = block_N % 2 == half
        error_N[here] = ways_NO[here][:, int(ways_NO[~here].mean(0).argmin())]
    return _by_block(error_N, block_N)


def _ways(products_NN: Tensor) -> list[tuple[Tensor, float]]:
    square_N = products_NN.diagonal()
    distances = (square_N[:, None] + square_N - 2 * products_NN).clamp_min(0)
    size = float(distances.mean())
    if size <= TINY * float(square_N.mean()):  # nothing tells one sequence from another
        return [(torch.zeros_like(products_NN), 1.0)]
    # The fewer lags tell nothing, the narrower the best kernel: it must not be longer contexts that widen it.
    curved = [torch.exp(-width * distances / size) for width in WIDTHS]
    # Not centred: that would leave each row out of itself, and all errors without it too small.
    kernels = [*curved, products_NN / float(square_N.mean())]
    return [(kernel, strength) for kernel in kernels for strength in STRENGTHS]


def _left_out(kernel_NN: Tensor, y_NG: Tensor, strength: float) -> Floats:
    """The squared error of each row as predicted from all others."""
    gram = kernel_NN.clone()
    gram.diagonal().add_(strength)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    error_NG = (inverse @ y_NG) / inverse.diagonal()[:, None]
    found: Floats = (error_NG**2).sum(1).numpy()
    return found


def _by_block(values_N: Floats, block_N: NDArray[np.int64]) -> Floats:
    found: Floats = np.bincount(block_N, values_N) / np.bincount(block_N)
    return found
