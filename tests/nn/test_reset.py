"""A row that starts anew on its way is several rows that know nothing of one another, in both directions.

Shapes: T time, B batch, I input, L layers, R directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from unvanish import Recurrent
from unvanish.errors import OptionError

from .layers import HIDDEN, INPUT, as_tuple, each_cell, made, noise, random_states

TIME, BATCH = 7, 6
# The steps before which each row starts anew. One is whole, one is cut into single steps.
RESETS = [[], [0], [3], [0, 1, 2, 6], list(range(TIME)), [0, 4]]
LENGTHS = [7, 5, 3, 7, 4, 0]  # the third row's reset lies past its end
each_engine = pytest.mark.parametrize("engine", ["reference", "native"])
two_ways = pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
with_lengths = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole rows", "lengths"])


def same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def mask() -> Tensor:
    reset_TB = torch.zeros(TIME, BATCH, dtype=torch.bool)
    for row, steps in enumerate(RESETS):
        reset_TB[steps, row] = True
    return reset_TB


def pieces(row: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield the first step of each piece of a row, and the one after its last."""
    borders = sorted({0, length, *(step for step in RESETS[row] if 0 < step < length)})
    yield from itertools.pairwise(borders)


def run_in_pieces(
    layer: Recurrent, x_TBI: Tensor, states: tuple[Tensor, ...], lengths: list[int] | None
) -> list[Tensor]:
    """Return outputs and final states of a layer that has never heard of resets, piece by piece."""
    forth = torch.tensor([not part.place.backwards for part in layer.parts()])
    width, outputs, finals = HIDDEN * (1 + layer.bidirectional), [], []
    for row, length in enumerate(lengths or [TIME] * BATCH):
        given = tuple(state[:, row] for state in states)
        final, output = given, [x_TBI.new_zeros(0, width)]
        for first, end in pieces(row, length):
            begins = first == 0 and 0 not in RESETS[row]
            # What is carried comes in where the row begins, on the way back where it ends.
            carried = torch.where(forth, torch.tensor(begins), torch.tensor(end == length))[:, None]
            begin = tuple(torch.where(carried, state, torch.zeros_like(state)) for state in given)
            part, after = layer(x_TBI[first:end, row], begin if len(begin) > 1 else begin[0])
            leaves = torch.where(forth, torch.tensor(end == length), torch.tensor(first == 0))[:, None]
            final = tuple(torch.where(leaves, new, old) for new, old in zip(as_tuple(after), final, strict=True))
            output.append(part)
        outputs.append(torch.cat([*output, x_TBI.new_zeros(TIME - length, width)]))
        finals.append(final)
    return [torch.stack(outputs, 1), *(torch.stack(parts, 1) for parts in zip(*finals, strict=True))]


def leaves(x_TBI: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    real = (state.requires_grad_() if state.is_floating_point() else state for state in states)
    return x_TBI.requires_grad_(), tuple(real)


def gradients(values: list[Tensor], layer: Recurrent, x_TBI: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    real = [value for value in values if value.is_floating_point()]
    total = sum((v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in real)
    wanted = [x_TBI, *(state for state in states if state.is_floating_point()), *layer.parameters()]
    return list(torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True))


@each_cell
@each_engine
@two_ways
@with_lengths
def test_a_row_with_resets_is_its_pieces_run_alone(
    name: str, engine: str, bidirectional: bool, lengths: list[int] | None
) -> None:
    layer = made(name, num_layers=2, bidirectional=bidirectional, engine="reference")
    x_TBI, states = leaves(noise(TIME, BATCH, INPUT), random_states(layer, BATCH))
    wanted = run_in_pieces(layer, x_TBI, states, lengths)
    layer.engine = engine
    output, final = layer(x_TBI, states, lengths=lengths, reset=mask())
    found = [output, *as_tuple(final)]
    same(found, wanted)
    same(gradients(found, layer, x_TBI, states), gradients(wanted, layer, x_TBI, states))


@each_cell
@each_engine
def test_all_states_are_those_that_the_steps_made(name: str, engine: str) -> None:
    layer = made(name, bidirectional=True, engine=engine)
    x_TBI, states = noise(TIME, BATCH, INPUT), random_states(layer, BATCH)
    output, _, every = layer(x_TBI, states, lengths=LENGTHS, reset=mask(), all_states=True)
    both_TBW = torch.cat(list(every["h"]), -1)
    for row, length in enumerate(LENGTHS):
        same(both_TBW[:length, row], output[:length, row])
        if length:
            same(every["h"][0, length:, row], every["h"][0, length - 1, row].expand(TIME - length, -1))


@each_engine
def test_a_piece_that_is_shorter_than_a_delay_carries_zeros_for_what_lies_before_it(engine: str) -> None:
    layer = made("skip_rnn", engine=engine)  # reads three steps back
    reset_T = torch.tensor([False, False, False, True, False])
    _, h_LBW = layer(noise(5, 1, INPUT), random_states(layer, 1), reset=reset_T[:, None])
    newest, before, oldest = h_LBW[0, 0].chunk(3)
    assert (newest != 0).all()
    assert (before != 0).all()
    assert (oldest == 0).all()


@pytest.mark.parametrize("engine", ["auto", "reference", "builtin", "native"])
def test_a_mask_that_is_false_everywhere_changes_nothing(engine: str) -> None:
    layer, x_TBI = made("lstm", engine=engine), noise(TIME, 2, INPUT)
    states = random_states(layer, 2)
    same(layer(x_TBI, states, reset=torch.zeros(TIME, 2, dtype=torch.bool)), layer(x_TBI, states))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("engine", ["auto", "builtin"])
def test_what_a_fused_kernel_cannot_restart_runs_where_it_can(name: str, engine: str) -> None:
    layer, x_TBI = made(name, bidirectional=True, engine="reference"), noise(TIME, BATCH, INPUT)
    for lengths in (None, [7, 5, 6, 7, 4, 1]):
        layer.engine = "reference"
        wanted = layer(x_TBI, reset=mask(), lengths=lengths)
        layer.engine = engine
        same(layer(x_TBI, reset=mask(), lengths=lengths), wanted)


@each_cell
def test_the_mask_lies_as_the_input_does(name: str) -> None:
    layer, turned = made(name, bidirectional=True), made(name, bidirectional=True, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    x_TBI, reset_TB = noise(TIME, BATCH, INPUT), mask()
    wanted, wanted_final = layer(x_TBI, reset=reset_TB)
    output, final = turned(x_TBI.transpose(0, 1), reset=reset_TB.t().tolist())
    same(output, wanted.transpose(0, 1))
    same(final, wanted_final)
    alone, alone_final = turned(x_TBI[:, 3], reset=reset_TB[:, 3])
    same(alone, wanted[:, 3])
    same(as_tuple(alone_final), tuple(state[:, 3] for state in as_tuple(wanted_final)))


def test_the_time_counts_from_where_a_row_started_anew() -> None:
    layer = made("clockwork_rnn", bidirectional=True, engine="reference")
    states = random_states(layer, BATCH)
    start_B = states[-1][0, :, 0].tolist()
    _, (_, t_LB1) = layer(noise(TIME, BATCH, INPUT), states, reset=mask())
    assert t_LB1[0, :, 0].tolist() == [start_B[0] + 7, 7, 4, 1, 1, 3]
    back_B = states[-1][1, :, 0].tolist()
    assert t_LB1[1, :, 0].tolist() == [back_B[0] + 7, back_B[1] + 7, 3, 1, 1, 4]


REFUSED = [
    (torch.zeros(TIME, 2), "reset has shape (7, 2) and type torch.float32: give True or False for each step"),
    (torch.zeros(TIME, 2, dtype=torch.long), "type torch.int64"),
    (torch.zeros(2, TIME, dtype=torch.bool), "reset has shape (2, 7) and type torch.bool"),
    (torch.zeros(TIME, dtype=torch.bool), "for each step, (7, 2)"),
    (True, "reset has shape () and type torch.bool"),
    ("yes", "reset='yes' is not a mask"),
    ([[True], [False, True]], "is not a mask"),
]


@pytest.mark.parametrize(("reset", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_is_no_mask_is_refused(reset: Any, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        made("lstm")(noise(TIME, 2, INPUT), reset=reset)
    assert message in str(caught.value)


def test_a_packed_sequence_takes_no_mask() -> None:
    packed = pack_padded_sequence(noise(TIME, 2, INPUT), torch.tensor([7, 3]))
    with pytest.raises(OptionError, match="give that, and lengths=, not a PackedSequence"):
        made("lstm")(packed, reset=torch.zeros(TIME, 2, dtype=torch.bool))
