"""A stream gives, step by step, what the layer gives for the whole sequence.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import unvanish
from unvanish import Cell, Recurrent
from unvanish.errors import OptionError


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("name", sorted(unvanish.cells))
def test_a_stream_is_the_layer_step_by_step(name: str, engine: str) -> None:
    layer = Recurrent(name, 3, 7, num_layers=2, dtype=torch.float64, engine=engine)
    x_TBI = torch.randn(23, 2, 3, dtype=torch.float64)
    states = tuple(
        s + torch.randn(s.shape).double() if s.is_floating_point() else s + 5 for s in layer.zero_states(2)
    )
    hx = states if len(states) > 1 else states[0]
    stream = layer.stream(2, hx)
    found = torch.stack([stream(x_BI) for x_BI in x_TBI])
    wanted, final = layer(x_TBI, hx)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stream.states, final, rtol=1e-12, atol=1e-12)


def test_a_stream_of_an_output_that_is_no_state() -> None:
    layer = Recurrent(Cell("out", "h[t] = tanh(W @ x[t] + U @ h[t-1])\ny[t] = V @ h[t] + b", output="y"), 3, 5)
    x_TBI = torch.randn(6, 1, 3)
    stream = layer.stream()
    torch.testing.assert_close(torch.stack([stream(x_BI) for x_BI in x_TBI]), layer(x_TBI)[0].detach())


def test_a_stream_keeps_what_it_gave_and_the_weights_it_was_made_with() -> None:
    layer = unvanish.LSTM(3, 4)
    stream, again = layer.stream(), layer.stream()
    x_TBI = torch.randn(4, 1, 3)
    first = stream(x_TBI[0])
    kept = first.clone()
    stream(x_TBI[1])
    assert torch.equal(first, kept)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(3)
    torch.testing.assert_close(again(x_TBI[0]), first)


def test_what_a_stream_cannot_do_is_said() -> None:
    with pytest.raises(OptionError, match="bidirectional"):
        unvanish.LSTM(3, 4, bidirectional=True).stream()
    noisy = unvanish.LSTM(3, 4, zoneout=0.1)
    with pytest.raises(OptionError, match=r"\.eval\(\)"):
        noisy.stream()
    assert noisy.eval().stream()(torch.zeros(1, 3)).shape == (1, 4)
    with pytest.raises(OptionError, match=r"takes an input \(2, 3\)"):
        unvanish.LSTM(3, 4).stream(2)(torch.zeros(1, 3))


def test_copies_of_a_layer_stream_too() -> None:
    layer = unvanish.GRUResetBefore(3, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other.stream()(torch.ones(1, 3)), layer.stream()(torch.ones(1, 3)))
