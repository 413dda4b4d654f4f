"""A part is one cell of a stack, and the stack is its parts, one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import unvanish
from unvanish import Recurrent, cells
from unvanish.engine import Border, Tap

T, B, I, H = 6, 3, 3, 5


def made(name: str, **options: Any) -> tuple[Recurrent, Tensor, list[Tensor]]:
    torch.manual_seed(0)
    layer = Recurrent(name, I, H, dtype=torch.float64, **options)
    states = [s + torch.randn(s.shape).to(s.dtype) for s in layer.zero_states(B)]
    return layer, torch.randn(T, B, I, dtype=torch.float64), states


def as_hx(states: list[Tensor]) -> Any:
    return tuple(states) if len(states) > 1 else states[0]


STACKS: list[dict[str, Any]] = [
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "connect": "dense"},
    {"num_layers": 3, "connect": "highway", "zoneout": 0.3},
    {"num_layers": 2, "recurrent_dropout": 0.5, "weight_drop": 0.5, "dropout": 0.5},
]


@pytest.mark.parametrize("name", ["lstm", "gru", "skip_rnn", "clockwork_rnn"])
@pytest.mark.parametrize("options", STACKS, ids=["two ways", "dense", "highway", "drawn"])
def test_walk_gives_what_evaluation_gives(name: str, options: dict[str, Any]) -> None:
    layer, x_TBI, states = made(name, **options)
    walked = list(layer.walk(x_TBI, states))
    ran = [one for found in walked for one in found.ran]
    output_TBW, final = layer.eval()(x_TBI, as_hx(states))
    torch.testing.assert_close(walked[-1].handed_TBW, output_TBW)
    assert [one.part.name for one in ran] == [part.name for part in layer.parts()]
    for index, state in enumerate(final if isinstance(final, tuple) else (final,)):
        torch.testing.assert_close(torch.stack([one.final[index] for one in ran]), state)


@pytest.mark.parametrize("name", sorted(cells))
def test_arrays_by_equation_name_are_views_into_the_layer(name: str) -> None:
    layer, _, _ = made(name, num_layers=2, bidirectional=True)
    for part in layer.parts():
        for parameter in part.system.parameters:
            assert part[parameter.name].data_ptr() == layer[part.place.stored(parameter.name)].data_ptr()
        for number in part.system.numbers:
            assert part[number] is getattr(layer, part.place.stored(number))
        with pytest.raises(KeyError):
            part["no such array"]


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_part_in_other_precision_is_a_copy_with_the_same_values(engine: str) -> None:
    torch.manual_seed(1)
    layer = unvanish.LeakyRNN(I, H, engine=engine, constrain="orthogonal")
    x_TBI, states = torch.randn(T, B, I), [torch.randn(B, H)]
    part = layer.part("l0")
    exact = part.to(torch.float64)
    found = exact.run(x_TBI.double(), [state.double() for state in states]).output_TBW
    torch.testing.assert_close(found.float(), part.run(x_TBI, states).output_TBW)
    assert not found.requires_grad
    same, before = part.to(torch.float32), part.run(x_TBI, states).output_TBW
    with torch.no_grad():
        for array in (*layer.buffers(), *layer.parameters()):
            array.zero_()
    again = exact.run(x_TBI.double(), [state.double() for state in states]).output_TBW
    assert torch.equal(found, again)
    assert torch.equal(same.run(x_TBI, states).output_TBW, before)


def test_batch_normalisation_counts_from_the_first_step_of_a_run() -> None:
    layer, x_TBI, states = made("lstm", batch_norm=4)
    for _ in range(5):
        layer(torch.randn(T, 8, I, dtype=torch.float64) + 1)
    part = layer.part("l0", training=False)
    states = [state[0] for state in states]
    whole = part.run(x_TBI, states)
    head = part.run(x_TBI[:2], states)
    tail = part.run(x_TBI[2:], head.final, first=2)
    torch.testing.assert_close(tail.output_TBW, whole.output_TBW[2:])
    assert not torch.allclose(part.run(x_TBI[2:], head.final).output_TBW, whole.output_TBW[2:])


def test_walk_in_training_draws_what_the_layer_draws() -> None:
    layer, x_TBI, states = made("gru", num_layers=2, dropout=0.3, recurrent_dropout=0.5, weight_drop=0.2)
    torch.manual_seed(3)
    output_TBW = layer(x_TBI, as_hx(states))[0]
    torch.manual_seed(3)
    torch.testing.assert_close(list(layer.walk(x_TBI, states, training=True))[-1].handed_TBW, output_TBW)


def test_walk_hears_no_tap_and_draws_nothing() -> None:
    class Never(Tap):
        def border(self, states: Any, at: Border) -> Any:
            raise AssertionError

    layer, x_TBI, states = made("lstm", recurrent_dropout=0.5)
    before = torch.get_rng_state()
    with layer.tapped(Never()):
        list(layer.walk(x_TBI, states))
        with pytest.raises(AssertionError):
            layer(x_TBI)
    assert layer.taps == ()
    torch.set_rng_state(before)
    list(layer.walk(x_TBI, states))
    assert torch.equal(torch.get_rng_state(), before)
