"""Taps at the border between two steps: in a chain, each as if it were alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import unvanish
from unvanish import clip, flow, penalty
from unvanish.engine import Border, StepClip, Tap, chain
from unvanish.equations.expression import Ref


class Scale(Tap):
    """Multiplies all states, and writes down what it was shown."""

    def __init__(self, factor: float) -> None:
        self.factor, self.steps, self.before = factor, list[int](), list[Tensor]()

    def border(self, states: Mapping[str, Tensor], at: Border) -> dict[str, Tensor]:
        self.steps.append(at.step)
        self.before.append(at.read(Ref("h", 1)))
        return {name: self.factor * value for name, value in states.items()}


def test_what_a_tap_returns_goes_on_to_the_output_and_the_next_step() -> None:
    cell = unvanish.Cell("counts", "h[t] = W @ x[t] + h[t-1]")
    layer = unvanish.Recurrent(cell, 1, 1, init=1.0)
    tap = Scale(0.5)
    with layer.tapped(tap), layer.tapped(Scale(3.0)):
        found = layer(torch.ones(3, 1, 1))[0].flatten()
    torch.testing.assert_close(found, torch.tensor([1.5, 3.75, 7.125]))  # 1.5 (1 + what was before)
    assert tap.steps == [0, 1, 2]
    torch.testing.assert_close(torch.cat(tap.before).flatten(), torch.tensor([0.0, 1.5, 3.75]))


def test_clips_come_last_and_a_listener_may_leave_a_pass_alone() -> None:
    class Deaf(Tap):
        def start(self, part: object) -> None:
            return None

    first, second, other = StepClip(1.0), StepClip(2.0), Scale(1.0)
    assert chain((first, Deaf(), second, other), None) == (other, first, second)


def test_a_tap_leaves_by_itself_whatever_came_after_it() -> None:
    layer, one, other = unvanish.RNN(2, 3), Scale(1.0), Scale(2.0)
    with layer.tapped(one):
        held = layer.tapped(other)
        held.__enter__()
    assert layer.taps == (other,)
    held.__exit__(None, None, None)
    assert layer.taps == ()


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_recording_clip_and_penalty_share_a_layer(engine: str) -> None:
    def passed(*, record: bool, omega: bool) -> tuple[Tensor | None, float | None, Tensor, tuple[int, int, int]]:
        torch.manual_seed(0)
        layer = unvanish.LSTM(3, 5, engine=engine, dtype=torch.float64)
        x_TBI = torch.randn(9, 4, 3, dtype=torch.float64)
        regulariser = penalty.Omega().attach(layer) if omega else None
        with clip.PerStep(0.05, "norm").attach(layer) as clipped:
            if record:
                with flow.record(layer) as recording:
                    layer(x_TBI)[0].sum().backward()
                norms = recording["l0"].norms
            else:
                layer(x_TBI)[0].sum().backward()
                norms = None
            gradient = layer.weight_hh_l0.grad.clone()
            clipped(layer)
        return norms, regulariser().value if regulariser else None, gradient, clipped.adjoints

    norms, value, gradient, adjoints = passed(record=True, omega=True)
    assert adjoints[1] > 0
    for record, omega in [(True, False), (False, True), (False, False)]:
        other = passed(record=record, omega=omega)
        if record:
            torch.testing.assert_close(other[0], norms)
        if omega:
            assert other[1] == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(other[2], gradient)
        assert other[3] == adjoints


def test_two_clips_both_act() -> None:
    torch.manual_seed(1)
    layer = unvanish.RNN(3, 5, dtype=torch.float64)
    loose, tight = StepClip(0.5, "norm"), StepClip(0.05, "norm")
    x_TBI = torch.randn(9, 4, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for taps in [(tight,), (loose, tight)]:
        layer.taps = taps
        found.append(torch.autograd.grad(layer(x_TBI)[0].sum(), x_TBI)[0])
    torch.testing.assert_close(*found)
    assert loose.seen == 36
    assert tight.seen == 72
