"""What comes back to a state from later steps, of all steps at once; the rest of its gradient is the loss's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import unvanish
from tests.support.whole import KINDS, usual
from unvanish.engine import Tap, Tape
from unvanish.engine.steps import Steps
from unvanish.errors import FlowError, OptionError
from unvanish.nn import Part

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer norm": {"layer_norm": True},
    "drawn": {"zoneout": 0.3, "recurrent_dropout": 0.3},
    "skips": {"skips": (3,)},
}
FREE = {("indrnn", "drawn"), ("indrnn", "skips"), ("delayed_rnn", "skips")}  # what these cells refuse
SHARED = unvanish.Cell(  # p stands beside a gate, so that what it is multiplied by differs from step to step
    "shared",
    """
    g    = sigmoid(V @ x[t] + b_g)
    h[t] = tanh(W @ x[t] + p * g * h[t-1])
""",
)


class Listener(Tap):
    """Keeps the tape of a pass."""

    def __init__(self) -> None:
        self.tape = Tape()

    def start(self, part: Part) -> Tape:
        return self.tape


def taped(
    cell: str | unvanish.Cell, engine: str, reset: bool, **options: Any
) -> tuple[unvanish.Recurrent, Tape, torch.Tensor]:
    """Run a layer forth and back: what it left on tape, and what the loss sends to its output itself."""
    layer = unvanish.Recurrent(cell, 3, 5, dtype=torch.float64, engine=engine, **options)
    listener = Listener()
    layer.taps = (listener,)
    cotangent_TB1 = torch.randn(7, 4, 1, dtype=torch.float64)
    given = {"reset": torch.rand(7, 4) < 0.2} if reset else {}
    output_TBW = layer(torch.randn(7, 4, 3, dtype=torch.float64), **given)[0]
    (output_TBW * cotangent_TB1).sum().backward()
    return layer, listener.tape, cotangent_TB1.expand_as(output_TBW)


def windows(directions: dict[str, torch.Tensor]) -> Callable[[str, int, int], torch.Tensor]:
    """Give a direction as it is asked for: of some steps."""
    return lambda name, first, last: directions[name][first:last]


@pytest.mark.parametrize("reset", [False, True], ids=["whole", "reset"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", unvanish.cells)
def test_what_comes_from_later_steps_and_from_the_loss_is_the_gradient(
    cell: str, options: str, reset: bool
) -> None:
    if (cell, options) in FREE:
        with pytest.raises(OptionError):
            unvanish.Recurrent(cell, 3, 5, **OPTIONS[options])
        return
    layer, tape, cotangent_TBW = taped(cell, "reference", reset, **OPTIONS[options])
    came = Steps(tape).from_future
    assert set(came) == set(tape.adjoints) == {state.name for state in layer.system.states}
    for name, adjoint_TBW in tape.adjoints.items():
        direct_TBW = cotangent_TBW if name == layer.system.output.name else torch.zeros_like(adjoint_TBW)
        torch.testing.assert_close(came[name] + direct_TBW, adjoint_TBW, rtol=1e-10, atol=1e-12)
    assert max(value.abs().max() for value in came.values()) > 1e-3


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        *((cell, "plain") for cell in unvanish.cells),
        *((cell, "drawn") for cell in usual(KINDS, unvanish.cells) if (cell, "drawn") not in FREE),
    ],
)
def test_the_kernels_tell_what_plain_torch_tells(cell: str, options: str) -> None:
    found = []
    for engine in ("reference", "native"):
        torch.manual_seed(8)
        _, tape, _ = taped(cell, engine, True, **OPTIONS[options])
        torch.manual_seed(9)
        steps = Steps(tape)
        directions = {name: torch.randn_like(value) for name, value in tape.states.items()}
        found.append((tape.adjoints, steps.from_future, steps.gradients(windows(directions))))
    for slow, fast in zip(*found, strict=True):
        assert set(slow) == set(fast)
        for name, value in slow.items():
            torch.testing.assert_close(fast[name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize(
    ("cell", "options", "standing"),
    [
        ("rnn", {}, ("U_h",)),
        ("indrnn", {}, ("u_h",)),
        ("delayed_rnn", {"d": 2}, ("V_h",)),
        ("skip_rnn", {"d": 3}, ("U_h", "V_h")),
        ("rnn", {"skips": (3,)}, ("U_h", "U_h_skip3")),
        ("rnn", {"layer_norm": True}, ("U_h",)),
        ("rnn", {"layer_norm": True}, ("gain_U_h",)),
        ("skip_rnn", {"d": 3, "layer_norm": True}, ("gain_U_h", "gain_V_h")),
        (SHARED, {}, ("p",)),
    ],
)
def test_what_comes_back_grows_with_what_it_is_multiplied_by(
    cell: str | unvanish.Cell, options: dict[str, Any], standing: tuple[str, ...], engine: str
) -> None:
    """Euler: where every way back is multiplied once by these parameters, Σ parameter · gradient is the whole."""
    layer, tape, _ = taped(cell, engine, True, **options)
    steps = Steps(tape)
    directions = {name: torch.randn_like(value) for name, value in tape.states.items()}
    gradients = steps.gradients(windows(directions))
    whole = sum((directions[name] * value).sum() for name, value in steps.from_future.items())
    by_parts = sum((layer[name].detach() * gradients[name]).sum() for name in standing)
    torch.testing.assert_close(by_parts, whole, rtol=1e-9, atol=1e-12)


def test_nothing_is_told_before_a_backward_pass() -> None:
    with pytest.raises(FlowError, match=r"loss\.backward"):
        Steps(Tape())
