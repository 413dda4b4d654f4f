"""Which rows run at which step, and where their values lie.

Rows are sorted by length, the longest first, and lie side by side within a step, so that the work grows with the
sum of the lengths. A row that is reset on its way is several pieces that know nothing of one another: each is a
row of its own, and they run side by side.

Shapes: T time, B batch, P pieces, N sum of lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unvanish.engine.shared import Shelf, neutral_mode, shared


@dataclass(eq=False)
class Schedule:
    """The steps of a pass.

    Attributes:
        steps, rows, count: T (of the longest piece), P, N.
        sizes_T: how many pieces run at a step.
        at_T: where a step's first value lies.
        lengths_P: the lengths, sorted; None where all are T.
        source_N: for each value, its place in a padded array (T·B), or None where nothing is moved.
        row_P: the row of the batch that a piece belongs to; first_P: whether it is the first piece of its row.
        last_B: the last piece of each row.
    """

    steps: int
    rows: int
    count: int
    sizes_T: Tensor
    at_T: Tensor
    lengths_P: Tensor | None = None
    source_N: Tensor | None = None
    row_P: Tensor | None = None
    first_P: Tensor | None = None
    last_B: Tensor | None = None
    starts: list[int] = field(default_factory=list)
    prepared: Shelf = field(default_factory=lambda: Shelf(64))

    def __post_init__(self) -> None:
        self.starts = [*self.at_T.tolist(), self.count]

    def table(self, depth: int, ring: bool) -> Tensor:
        """Where the values of a state lie, for steps -depth to T - 1; only the last few are kept in a ring."""
        before = torch.arange(depth, device="cpu") * self.rows
        if ring:
            return torch.arange(depth + self.steps, device="cpu") % (depth + 1) * self.rows
        return torch.cat([before, depth * self.rows + self.at_T])

    def newest(self, depth: int, back: int, ring: bool) -> Tensor:
        """Where the value of each piece lies that is `back` steps before its last one, (P,)."""
        assert self.lengths_P is not None
        when_P = depth + self.lengths_P - 1 - back
        return self.table(depth, ring)[when_P] + torch.arange(self.rows, device="cpu")

    def earlier(self, depth: int, back: int, first: int, last: int) -> Tensor:
        """Where the values of a state lie that the steps from `first` to `last` read, `depth - back` steps ago."""
        step_N = torch.repeat_interleave(self.sizes_T)[self.starts[first] : self.starts[last]]
        piece_N = torch.arange(self.starts[first], self.starts[last], device="cpu") - self.at_T[step_N]
        return self.table(depth, ring=False)[step_N + back] + piece_N

    def share(self, parts: int) -> Tensor:
        """Cut the pieces into parts of about equal work."""
        if self.lengths_P is None:
            return torch.tensor([self.rows * part // parts for part in range(parts + 1)], device="cpu")
        done_P = self.lengths_P.cumsum(0)
        wanted = torch.tensor([self.count * part / parts for part in range(1, parts)], device="cpu")
        inner = torch.searchsorted(done_P.double(), wanted.double(), right=True)
        return torch.cat(
            [torch.zeros(1, dtype=torch.long, device="cpu"), inner, torch.tensor([self.rows], device="cpu")]
        )

    def chunks(self, values: int) -> list[tuple[int, int]]:
        """Cut the steps into runs of about so many values each."""
        if self.count <= values * 3 // 2:
            return [(0, self.steps)]
        found, first = [], 0
        for step in range(1, self.steps + 1):
            if step == self.steps or self.starts[step + 1] - self.starts[first] > values:
                found.append((first, step))
                first = step
        return found


@shared(64)
def even(steps: int, batch: int) -> Schedule:
    """All rows run through all steps."""
    return Schedule(
        steps,
        batch,
        steps * batch,
        torch.full((steps,), batch, device="cpu"),
        torch.arange(steps, device="cpu") * batch,
    )


@shared(64)
def uneven(lengths: tuple[int, ...]) -> Schedule:
    """Rows of different lengths."""
    lengths_B = torch.tensor(lengths, device="cpu")
    every = torch.ones_like(lengths_B, dtype=torch.bool)
    return _of_pieces(
        _Pieces(torch.arange(len(lengths), device="cpu"), torch.zeros_like(lengths_B), lengths_B, every, every)
    )


def with_resets(reset_TB: Tensor, lengths_B: Tensor | None) -> Schedule:
    """Rows that start anew where `reset_TB` says so, before the step is run."""
    with neutral_mode():
        return _of_pieces(_cut(reset_TB, lengths_B))


def _cut(reset_TB: Tensor, lengths_B: Tensor | None) -> _Pieces:
    steps, batch = reset_TB.shape
    ends_B = torch.full((batch,), steps, device="cpu") if lengths_B is None else lengths_B
    begins_BT = reset_TB.t().clone()
    begins_BT[:, 0] = True  # a reset before the first step asks for a piece of no steps before it
    begins_BT &= torch.arange(steps, device="cpu") < ends_B.clamp_min(1)[:, None]
    row_P, start_P = begins_BT.nonzero(as_tuple=True)
    next_P = torch.cat([start_P[1:], start_P.new_zeros(1)])
    last_P = torch.cat([row_P[1:] != row_P[:-1], row_P.new_ones(1, dtype=torch.bool)])
    length_P = torch.where(last_P, ends_B[row_P], next_P) - start_P
    first_P = (start_P == 0) & (~reset_TB[0, row_P] | (length_P == 0))
    return _Pieces(row_P, start_P, length_P, first_P, last_P)


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Of each piece: its row, its first step, its length, and whether its row begins or ends with it."""

    row_P: Tensor
    start_P: Tensor
    length_P: Tensor
    first_P: Tensor
    last_P: Tensor


def _of_pieces(given: _Pieces) -> Schedule:
    length_P, order_P = torch.sort(given.length_P, descending=True, stable=True)
    row_P, start_P, first_P = (array[order_P] for array in (given.row_P, given.start_P, given.first_P))
    steps = int(length_P[0]) if len(length_P) else 0
    count, batch = int(length_P.sum()), int(given.last_P.sum())
    # How many pieces are longer than t: all, less those that have ended by then.
    ended_T = torch.bincount(length_P, minlength=steps + 1)[: steps + 1].cumsum(0)
    sizes_T = len(length_P) - ended_T[:steps]
    at_T = sizes_T.cumsum(0) - sizes_T
    piece_N = torch.repeat_interleave(length_P)
    step_N = torch.arange(count, device="cpu") - torch.repeat_interleave(length_P.cumsum(0) - length_P, length_P)
    source_N = torch.empty(count, dtype=torch.long, device="cpu")
    source_N[at_T[step_N] + piece_N] = (start_P[piece_N] + step_N) * batch + row_P[piece_N]
    last_P = given.last_P[order_P].nonzero()[:, 0]
    last_B = torch.empty(batch, dtype=torch.long, device="cpu")
    last_B[row_P[last_P]] = last_P
    return Schedule(steps, len(length_P), count, sizes_T, at_T, length_P, source_N, row_P, first_P, last_B)
