"""What a tape hears of a pass is what autograd says, and it keeps nothing alive behind anybody's back."""

from __future__ import annotations

import gc

import pytest
import torch

import unvanish
from unvanish.engine import Tap, Tape
from unvanish.nn import Part


class Tapes(Tap):
    """Keeps the tape of each part."""

    def __init__(self) -> None:
        self.found: dict[str, Tape] = {}

    def start(self, part: Part) -> Tape:
        self.found[part.name] = Tape()
        return self.found[part.name]


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "skip_rnn"])
def test_adjoints_are_the_gradients_of_the_states(cell: str, engine: str) -> None:
    torch.manual_seed(0)
    layer = unvanish.Recurrent(cell, 3, 5, dtype=torch.float64, engine=engine)
    tapes = Tapes()
    layer.taps = (tapes,)
    x, v = torch.randn(6, 2, 3, dtype=torch.float64), torch.randn(6, 2, 5, dtype=torch.float64)
    (layer(x)[0] * v).sum().backward()
    found = tapes.found["l0"].adjoints["h"]
    # By hand: the gradient of what follows from step 3 on, by the state that leaves it.
    layer.taps = ()
    head, states = layer(x[:4])
    states = tuple(s.detach().requires_grad_() for s in (states if isinstance(states, tuple) else (states,)))
    tail = layer(x[4:], states if len(states) > 1 else states[0])[0]
    of_states = torch.autograd.grad((tail * v[4:]).sum(), states)
    if cell != "skip_rnn":  # its state holds older values too
        torch.testing.assert_close(found[3], of_states[0][0] + v[3])
    torch.testing.assert_close(tapes.found["l0"].states["h"][3], head[3])


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_nothing_is_left_to_the_garbage_collector(engine: str) -> None:
    layer = unvanish.LSTM(3, 8, num_layers=2, engine=engine)
    omega = unvanish.penalty.Omega(1.0).attach(layer)

    def step() -> None:
        layer(torch.randn(6, 2, 3))[0][-1].square().sum().backward()
        omega()

    step()
    while gc.collect():  # what other tests left may hang on what only falls away with the first of it
        pass
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()
