"""Rows of different lengths, rows that are reset, threads: what runs when, and that it is no more than must be.

Shapes: T time, B batch, P pieces, N sum of lengths.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unvanish import Recurrent
from unvanish.engine.native.schedule import Schedule, even, uneven, with_resets


def values_in_order(schedule: Schedule, batch: int) -> list[list[tuple[int, int]]]:
    """Of each piece, the (step, row) of its values, by reading the tables as a kernel does."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(schedule.rows)]
    assert schedule.source_N is not None
    for step in range(schedule.steps):
        for piece in range(int(schedule.sizes_T[step])):
            source = int(schedule.source_N[int(schedule.at_T[step]) + piece])
            found[piece].append((source // batch, source % batch))
    return found


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7))
def test_every_step_of_every_row_is_run_once_and_no_other(lengths: list[int]) -> None:
    schedule = uneven(tuple(lengths))
    assert schedule.count == sum(lengths)
    rows = values_in_order(schedule, len(lengths))
    seen = sorted(value for row in rows for value in row)
    assert seen == sorted((t, b) for b, length in enumerate(lengths) for t in range(length))
    for row in rows:  # a row's steps follow one another
        assert [t for t, _ in row] == list(range(len(row)))
        assert len({b for _, b in row}) <= 1


@given(st.data())
def test_a_reset_row_is_cut_into_pieces_at_its_resets(data: st.DataObject) -> None:
    steps, batch = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4))
    flags = st.lists(st.booleans(), min_size=steps * batch, max_size=steps * batch)
    reset_TB = torch.tensor(data.draw(flags)).view(steps, batch)
    lengths = data.draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    schedule = with_resets(reset_TB, None if lengths is None else torch.tensor(lengths))
    ends = [steps] * batch if lengths is None else lengths
    wanted = []
    for row, end in enumerate(ends):
        for t in range(end):
            if t == 0 or reset_TB[t, row]:
                wanted.append([(t, row)])
            else:
                wanted[-1].append((t, row))
    found = [piece for piece in values_in_order(schedule, batch) if piece]
    assert sorted(found) == sorted(wanted)
    assert schedule.row_P is not None
    assert schedule.last_B is not None
    for row, end in enumerate(ends):
        last = int(schedule.last_B[row])
        assert int(schedule.row_P[last]) == row
        if end:
            assert values_in_order(schedule, batch)[last][-1] == (end - 1, row)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 6))
def test_threads_share_the_work_not_the_rows(lengths: list[int], parts: int) -> None:
    schedule = uneven(tuple(lengths))
    share = schedule.share(parts).tolist()
    assert share[0] == 0
    assert share[-1] == len(lengths)
    assert share == sorted(share)
    assert schedule.lengths_P is not None
    work = [int(schedule.lengths_P[a:b].sum()) for a, b in itertools.pairwise(share)]
    assert max(work) <= sum(lengths) / parts + max(lengths)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 100))
@settings(max_examples=50)
def test_chunks_are_all_steps_one_after_the_other(steps: int, batch: int, values: int) -> None:
    chunks = even(steps, batch).chunks(values)
    assert [t for first, last in chunks for t in range(first, last)] == list(range(steps))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_two_runs_give_the_same_bits(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        layer, x_TBI = Recurrent("lstm", 5, 40, engine="native"), torch.randn(30, 7, 5)
        for lengths in (None, [30, 2, 0, 9, 9, 17, 30]):
            found = []
            for _ in range(3):
                layer.zero_grad()
                output, _ = layer(x_TBI, lengths=lengths)
                output.square().sum().backward()
                found.append([output.detach(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)])
            for again in found[1:]:
                assert all(torch.equal(a, b) for a, b in zip(found[0], again, strict=True))
    finally:
        torch.set_num_threads(before)


def test_units_split_over_threads_give_what_rows_split_give(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x_TBI = (
        Recurrent("gru_reset_before", 5, 70, dtype=torch.float64, engine="native"),
        torch.randn(6, 3, 5).double(),
    )
    before, found = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        for limit in (10**9, 0):
            monkeypatch.setattr("unvanish.engine.native.memory.UNITS_FROM", limit)
            even.clear()  # what is computed once for a schedule
            layer.zero_grad()
            output, _ = layer(x_TBI)
            output.square().sum().backward()
            found.append([output.detach(), *(p.grad for p in layer.parameters() if p.grad is not None)])
    finally:
        torch.set_num_threads(before)
        even.clear()
    for rows, units in zip(*found, strict=True):
        torch.testing.assert_close(units, rows, rtol=1e-12, atol=1e-12)
