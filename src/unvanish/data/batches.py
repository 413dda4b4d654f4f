"""Sequences in batches: those of like length together, the others filled up, in an order drawn for each epoch.

Shapes: N steps of all sequences, B rows, T steps, F numbers of a step, C categories of a step, G targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.sequences import numbered

NEAR = 16  # so many batches are sorted by length at a time


@dataclass(frozen=True, eq=False)
class Rows:
    """Sequences as arrays: where each begins, how long it is, what it holds and what is wanted of it.

    Attributes:
        wanted: (B, G) for whole sequences, (N, G) for steps.
    """

    numbers_NF: NDArray[np.float32]
    codes_NC: NDArray[np.int64]
    starts_B: NDArray[np.int64]
    lengths_B: NDArray[np.int64]
    wanted: NDArray[Any]
    per_step: bool

    def __len__(self) -> int:
        return len(self.starts_B)

    def padded(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return numbers (T, B, F), codes (T, B, C), lengths (B,) or None where all are equal, and what is wanted.

        Of steps beyond a row's end what is wanted is -1 for classes and NaN for numbers.
        """
        lengths_B = self.lengths_B[rows]
        longest = int(lengths_B.max())
        at_TB = self.starts_B[rows] + np.minimum(np.arange(longest)[:, None], lengths_B - 1)
        beyond_TB = np.arange(longest)[:, None] >= lengths_B
        numbers_TBF, codes_TBC = self.numbers_NF[at_TB], self.codes_NC[at_TB]
        wanted = self.wanted[at_TB] if self.per_step else self.wanted[rows]
        lengths = None
        if beyond_TB.any():
            numbers_TBF[beyond_TB], codes_TBC[beyond_TB] = 0, 0
            lengths = torch.from_numpy(lengths_B)
            if self.per_step:
                wanted[beyond_TB] = np.nan if wanted.dtype.kind == "f" else -1
        kinds = torch.from_numpy(wanted if wanted.dtype.kind == "f" else wanted.astype(np.int64))
        return torch.from_numpy(numbers_TBF), torch.from_numpy(codes_TBC), lengths, kinds

    def cut(self, longest: int) -> Rows:
        """Return the last `longest` steps of each sequence; of wanted steps pieces of at most so many."""
        if int(self.lengths_B.max(initial=0)) <= longest:
            return self
        if not self.per_step:
            lengths_B = np.minimum(self.lengths_B, longest)
            starts_B = self.starts_B + self.lengths_B - lengths_B
        else:
            row_P, piece_P = numbered(-(-self.lengths_B // longest))
            starts_B = self.starts_B[row_P] + piece_P * longest
            lengths_B = np.minimum(self.lengths_B[row_P] - piece_P * longest, longest)
        return Rows(self.numbers_NF, self.codes_NC, starts_B, lengths_B, self.wanted, self.per_step)


class SequenceBatches:
    """Goes through sequences in batches.

    With `share` (k, n) it gives the k-th of n even parts of each batch; where that has no rows, a row with nothing
    that is wanted.

    Args:
        make: what is given for the numbers of some rows.
        seed: of the order; None for the order that they have.
        epoch: says for which epoch the order is drawn.
    """

    def __init__(
        self,
        lengths_B: NDArray[np.int64],
        batch_size: int,
        make: Callable[[NDArray[np.int64]], Any],
        *,
        seed: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        self.lengths_B, self.batch_size, self.make = lengths_B, batch_size, make
        self.seed, self.epoch, self.first = seed, epoch, 0
        self.share = (0, 1)

    def __len__(self) -> int:
        return -(-len(self.lengths_B) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        first, self.first = self.first, 0
        rank, world = self.share
        for rows in self._order()[first:]:
            own = np.array_split(rows, world)[rank]
            yield self.make(own) if len(own) else (self.make(rows[:1])[0], None)

    def _order(self) -> list[NDArray[np.int64]]:
        count, size = len(self.lengths_B), self.batch_size
        if self.seed is None:
            return _pieces(np.arange(count), size)
        rng = np.random.default_rng((self.seed, self.epoch()))
        order = rng.permutation(count)
        if self.lengths_B.min() == self.lengths_B.max():
            return _pieces(order, size)
        near = [part[np.argsort(self.lengths_B[part], kind="stable")] for part in _pieces(order, NEAR * size)]
        batches = _pieces(np.concatenate(near), size)
        return [batches[place] for place in rng.permutation(len(batches))]


def _pieces(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
