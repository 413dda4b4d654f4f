"""Memory: used again, never grown, and little where little is asked for.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import unvanish
from tests.support.whole import usual, whole_only
from unvanish import Recurrent
from unvanish.engine.native.kernel import Arena

STEPS = usual(3_000, 10_000)
LONG_STEPS = usual(6_000, 20_000)


def test_a_block_is_used_again_when_nobody_holds_it() -> None:
    arena, like = Arena(), torch.zeros(())
    first = arena.take(100, like)
    second = arena.take(100, like)
    assert first.data_ptr() != second.data_ptr()
    view, address = first[3:5], first.data_ptr()
    del first
    third = arena.take(100, like)
    assert third.data_ptr() != address  # a view still holds it
    del view
    assert arena.take(90, like).data_ptr() == address
    assert len(arena.blocks) == 3


def test_a_block_that_is_too_small_gives_way_to_a_larger_one() -> None:
    arena, like = Arena(), torch.zeros(())
    for count in range(1, 200):
        arena.take(count, like)
    assert len(arena.blocks) == 1


def test_what_a_backward_pass_will_read_is_not_written_over() -> None:
    layer = Recurrent("lstm", 3, 8, engine="native")
    inputs = [torch.randn(12, 4, 3, requires_grad=True) for _ in range(5)]
    together = [layer(x_TBI)[0].sum() for x_TBI in inputs]  # five passes wait at once
    found = [torch.autograd.grad(loss, x_TBI)[0] for loss, x_TBI in zip(together, inputs, strict=True)]
    for x_TBI, gradient in zip(inputs, found, strict=True):
        assert torch.equal(torch.autograd.grad(layer(x_TBI)[0].sum(), x_TBI)[0], gradient)


@whole_only
def test_no_growth_over_many_steps_of_changing_shapes() -> None:
    layer = unvanish.LSTM(3, 16, engine="native")
    generator = torch.Generator().manual_seed(0)

    def train(steps: int) -> None:
        for _ in range(steps):
            time, batch = (int(torch.randint(1, 9, (), generator=generator)) for _ in range(2))
            lengths = torch.randint(0, time + 1, (batch,), generator=generator)
            layer(torch.randn(time, batch, 3), lengths=lengths)[0].sum().backward()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024

    train(1000)
    before = resident()
    train(STEPS)
    assert resident() - before < STEPS / 5  # KiB


@pytest.mark.parametrize("memory", ["lean", 1, 7, 19, 20, 21])
@pytest.mark.parametrize("cell", ["lstm", "delayed_rnn", "clockwork_rnn", "gru_reset_before"])
@pytest.mark.parametrize("lengths", [None, [20, 3, 0]], ids=["even", "uneven"])
def test_segments_change_no_number(cell: str, memory: str | int, lengths: list[int] | None) -> None:
    found = []
    x_TBI = torch.randn(20, 3, 5, dtype=torch.float64, requires_grad=True)
    layers = [
        Recurrent(cell, 5, 6, num_layers=2, bidirectional=True, dtype=torch.float64, memory=m)
        for m in ("fast", memory)
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer in layers:
        output, states, every = layer(x_TBI, lengths=lengths, all_states=True)
        states = states if isinstance(states, tuple) else (states,)
        loss = output.square().sum() + sum(s.double().pow(3).sum() for s in states)
        loss = loss + sum(value.square().sum() for value in every.values())
        found.append([output, *states, *torch.autograd.grad(loss, [x_TBI, *layer.parameters()])])
    for whole, cut in zip(*found, strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-11, atol=1e-11)


LONG = """
import torch, unvanish

def peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

layer = unvanish.LSTM(1, 64, memory={memory!r}, engine="native")
layer(torch.randn(300, 8, 1))[0].sum().backward()
before = peak()
output, (h, c) = layer(torch.randn({steps}, 8, 1))
h.sum().backward()
print(peak() - before)
"""


def test_lean_memory_is_a_fraction() -> None:
    used = {}
    for memory in ("fast", "lean"):
        code = LONG.format(memory=memory, steps=LONG_STEPS)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        used[memory] = int(done.stdout)
    output = LONG_STEPS * 8 * 64 * 4 / 1024
    assert used["lean"] < output * 3  # the output of all steps itself, and what torch needs to start with
    assert used["fast"] > 4 * output


@pytest.mark.parametrize("memory", [0, -3, "thin", True, 2.5, None])
def test_memory_that_cannot_be_meant_is_refused(memory: object) -> None:
    with pytest.raises(unvanish.errors.OptionError, match="memory="):
        Recurrent("lstm", 3, 4, memory=memory)
