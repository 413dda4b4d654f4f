"""What a run over a sequence keeps, for every cell: chunks, rows, lengths, packing, directions, all states.

Shapes: T time, B batch, I input, W width of the output, L layers, R directions.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from unvanish import cells
from unvanish.errors import OptionError

from .layers import HIDDEN, INPUT, as_tuple, close, each_cell, made, noise, random_states

LENGTHS = [5, 2, 7, 0, 1]
two_ways = pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])


@each_cell
@pytest.mark.parametrize("cuts", [[1] * 7, [3, 4], [6, 1]], ids=str)
def test_a_run_in_chunks_with_carried_states_is_the_whole_run(name: str, cuts: list[int]) -> None:
    layer, x_TBI = made(name, num_layers=2), noise(7, 2, INPUT)
    states: Any = random_states(layer, 2)
    whole, final = layer(x_TBI, states)
    outputs = []
    for chunk in x_TBI.split(cuts):
        output, states = layer(chunk, states)
        outputs.append(output)
    close(torch.cat(outputs), whole)
    close(as_tuple(states), as_tuple(final))


@each_cell
@two_ways
def test_rows_do_not_meet(name: str, bidirectional: bool) -> None:
    layer, x_TBI = made(name, bidirectional=bidirectional), noise(5, 4, INPUT)
    states, order = random_states(layer, 4), torch.tensor([2, 0, 3, 1])
    output, final = layer(x_TBI, states)
    mixed, mixed_final = layer(x_TBI[:, order], tuple(state[:, order] for state in states))
    close(mixed, output[:, order])
    close(as_tuple(mixed_final), tuple(state[:, order] for state in as_tuple(final)))


@each_cell
@two_ways
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_rows_of_a_length_are_as_if_they_ran_alone(name: str, bidirectional: bool, engine: str) -> None:
    layer = made(name, num_layers=2, bidirectional=bidirectional, engine=engine)
    x_TBI, states = noise(7, len(LENGTHS), INPUT), random_states(layer, len(LENGTHS))
    output, final = layer(x_TBI, states, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        begin = tuple(state[:, row] for state in states)
        assert (output[length:, row] == 0).all()
        last = tuple(state[:, row] for state in as_tuple(final))
        if length == 0:
            close(last, begin)
            continue
        alone, alone_final = layer(x_TBI[:length, row], begin)
        close(output[:length, row], alone)
        close(last, as_tuple(alone_final))


@each_cell
@two_ways
def test_a_packed_sequence_is_a_padded_one_with_lengths(name: str, bidirectional: bool) -> None:
    layer = made(name, bidirectional=bidirectional)
    x_TBI, lengths = noise(7, 3, INPUT), torch.tensor([4, 7, 1])
    states = random_states(layer, 3)
    wanted, wanted_final = layer(x_TBI, states, lengths=lengths)
    packed, final = layer(pack_padded_sequence(x_TBI, lengths, enforce_sorted=False), states)
    close(pad_packed_sequence(packed)[0], wanted)
    close(as_tuple(final), as_tuple(wanted_final))
    with pytest.raises(OptionError, match="knows its lengths"):
        layer(packed, lengths=lengths)


@each_cell
@two_ways
@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("padding", [float("nan"), float("inf"), 1e300])
def test_padding_reaches_neither_outputs_nor_gradients(
    name: str, bidirectional: bool, engine: str, padding: float
) -> None:
    layer = made(name, num_layers=2, bidirectional=bidirectional, engine=engine)
    clean_TBI, lengths = noise(7, len(LENGTHS), INPUT), torch.tensor(LENGTHS)
    past_TB = torch.arange(7)[:, None] >= lengths
    found = []
    for x_TBI in (clean_TBI, clean_TBI.masked_fill(past_TB[:, :, None], padding)):
        x_TBI = x_TBI.requires_grad_()
        layer.zero_grad()
        output, final = layer(x_TBI, lengths=lengths)
        finals = [state for state in as_tuple(final) if state.is_floating_point()]
        (output.square().sum() + sum(state.sum() for state in finals)).backward()
        found.append([output, *finals, x_TBI.grad, *(p.grad.clone() for p in layer.parameters())])
    for clean, padded in zip(*found, strict=True):
        close(padded, clean)
    assert (found[1][1 + len(finals)][past_TB] == 0).all()


@each_cell
@two_ways
def test_all_states_agree_with_the_output_and_with_every_prefix(name: str, bidirectional: bool) -> None:
    layer, x_TBI = made(name, num_layers=2, bidirectional=bidirectional), noise(5, 2, INPUT)
    states = random_states(layer, 2)
    output, final, every = layer(x_TBI, states, all_states=True)
    names = [state.name for state in cells[name].system().states]
    directions = 1 + bidirectional
    assert set(every) == set(names)
    top_RTBW = every["h"][-directions:]
    close(torch.cat(list(top_RTBW), -1), output)
    for name_of, last in zip(names, as_tuple(final), strict=False):
        width = every[name_of].shape[-1]
        close(every[name_of][0, -1], last[0, :, :width])
        if bidirectional:
            close(every[name_of][1, 0], last[1, :, :width])
    for steps in range(1, 5) if not bidirectional else ():
        _, at_prefix = layer(x_TBI[:steps], states)
        for name_of, last in zip(names, as_tuple(at_prefix), strict=False):
            close(every[name_of][:, steps - 1], last[..., : every[name_of].shape[-1]])


@each_cell
def test_all_states_stand_still_past_the_end_of_a_row(name: str) -> None:
    layer = made(name)
    _, _, every = layer(noise(6, 3, INPUT), random_states(layer, 3), lengths=[2, 6, 0], all_states=True)
    for value_LTBW in every.values():
        assert torch.equal(value_LTBW[0, 2:, 0], value_LTBW[0, 1, 0].expand(4, -1))
        assert torch.equal(value_LTBW[0, :, 2], value_LTBW[0, 0, 2].expand(6, -1))


@each_cell
@two_ways
def test_a_sequence_without_a_batch_is_a_batch_of_one(name: str, bidirectional: bool) -> None:
    layer, x_TI = made(name, num_layers=2, bidirectional=bidirectional), noise(5, INPUT)
    states = random_states(layer)
    output, final, every = layer(x_TI, states, all_states=True)
    wanted, wanted_final, wanted_every = layer(
        x_TI[:, None], tuple(state[:, None] for state in states), all_states=True
    )
    close(output, wanted[:, 0])
    close(as_tuple(final), tuple(state[:, 0] for state in as_tuple(wanted_final)))
    close(every, {state: value[:, :, 0] for state, value in wanted_every.items()})


@each_cell
def test_batch_first_is_the_same_turned_round(name: str) -> None:
    layer, turned = made(name), made(name, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    x_TBI, states = noise(5, 2, INPUT), random_states(layer, 2)
    wanted, wanted_final, wanted_every = layer(x_TBI, states, lengths=[3, 5], all_states=True)
    output, final, every = turned(x_TBI.transpose(0, 1), states, lengths=[3, 5], all_states=True)
    close(output, wanted.transpose(0, 1))
    close(as_tuple(final), as_tuple(wanted_final))
    close(every, {state: value.transpose(1, 2) for state, value in wanted_every.items()})


@each_cell
def test_the_way_back_is_the_way_forth_over_the_sequence_turned_round(name: str) -> None:
    both, one = made(name, bidirectional=True), made(name)
    one.load_state_dict(
        {
            key.removesuffix("_reverse"): value
            for key, value in both.state_dict().items()
            if key.endswith("_reverse")
        }
    )
    x_TBI = noise(5, 2, INPUT)
    output, final = both(x_TBI)
    wanted, wanted_final = one(x_TBI.flip(0))
    close(output[..., HIDDEN:], wanted.flip(0))
    close(tuple(state[1:] for state in as_tuple(final)), as_tuple(wanted_final))


@each_cell
@two_ways
@pytest.mark.parametrize("lengths", [None, []])
def test_a_batch_of_none_runs(name: str, bidirectional: bool, lengths: list[int] | None) -> None:
    layer = made(name, bidirectional=bidirectional)
    given = None if lengths is None else torch.tensor(lengths, dtype=torch.long)
    output, final = layer(noise(4, 0, INPUT), lengths=given)
    assert output.shape == (4, 0, HIDDEN * (1 + bidirectional))
    assert {state.shape[1] for state in as_tuple(final)} == {0}
