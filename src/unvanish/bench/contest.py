"""A cell of ours, the same equations in plain PyTorch, and layers of torch.nn, timed in turns on this machine.

Beside the times stands whether both make the same numbers.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.bench.turns import Span, in_turns
from unvanish.engine.dispatch import BACK_ENDS
from unvanish.engine.native.build import COMPILED
from unvanish.equations import Cell
from unvanish.nn import Recurrent

OURS, PLAIN = "unvanish", "plain PyTorch"
LSTM: tuple[str, type[nn.Module]] = ("torch.nn.LSTM", nn.LSTM)  # beside every cell: what people use
OF_TORCH = {"gru": ("torch.nn.GRU", nn.GRU), "rnn": ("torch.nn.RNN", nn.RNN)}  # beside the same cell
TRAINING, FORWARD = "training step", "forward pass"
ROUNDS, FEWEST = 15, 5
ENOUGH = 20.0  # seconds for a cell, after which a few rounds have to do
BRIEF = 4e-3  # seconds: what is quicker is done several times and divided
SAME = 1e-4  # relative to the largest of a tensor: rounding, over many steps


@dataclass(frozen=True)
class Shape:
    """What is timed: so many steps, rows, inputs, units and layers."""

    length: int = 100
    batch_size: int = 32
    input: int = 64
    hidden: int = 64
    layers: int = 1

    def __str__(self) -> str:
        """Write it in words."""
        layers = "" if self.layers == 1 else f", {self.layers} layers"
        return f"{self.length} steps, batch {self.batch_size}, input {self.input}, hidden {self.hidden}{layers}"


@dataclass(frozen=True)
class Contest:
    """A cell beside its peers.

    Attributes:
        cell: its name.
        engine: what ran it, `native`, `builtin` or `reference`; and why, where that is no compiled kernel.
        first: seconds to compile its kernels, at the first use; 0 where they came along or were kept.
        parameters: how many numbers it learns.
        difference: the largest from the same equations in plain PyTorch, of outputs and gradients, relative.
        rounds: in which all were timed.
        milliseconds: by pass and by who, `unvanish` or a peer.
        ratios: by pass and by peer, the peer's time over ours: how many times as fast we are.
    """

    cell: str
    engine: str
    why: str
    first: float
    parameters: int
    difference: float
    rounds: int
    milliseconds: Mapping[str, Mapping[str, Span]]
    ratios: Mapping[str, Mapping[str, Span]]

    @property
    def is_same(self) -> bool:
        """Whether both make the same numbers but for rounding."""
        return self.difference <= SAME

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"is_same": self.is_same}


def contest(cell: Cell, shape: Shape = Shape(), *, rounds: int = ROUNDS, seed: int = 0, **options: Any) -> Contest:
    """Time a cell on this machine's processor, beside the same equations in plain PyTorch and what torch.nn has.

    A training step is a forward pass and the backward pass from a given gradient of the output; a forward pass has
    no gradients. `options` are the cell's own.

    Raises:
        OptionError: the cell does not have such an option.
    """
    cell.check_options(options)
    sizes = shape.input, shape.hidden, shape.layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ours, twin = (Recurrent(cell, *sizes, engine=engine, **options) for engine in ("auto", "reference"))
        twin.load_state_dict(ours.state_dict())
        models: dict[str, nn.Module] = {OURS: ours, PLAIN: twin}
        models |= {name: made(*sizes) for name, made in (LSTM, *filter(None, [OF_TORCH.get(cell.name)]))}
        x_TBI = torch.randn(shape.length, shape.batch_size, shape.input)
        before = len(COMPILED)
        pulls = {who: torch.randn_like(model(x_TBI)[0]) for who, model in models.items()}
    difference = _difference(ours, twin, x_TBI, pulls[PLAIN])
    runs = {
        TRAINING: {who: _training(model, x_TBI, pulls[who]) for who, model in models.items()},
        FORWARD: {who: _forward(model, x_TBI) for who, model in models.items()},
    }
    seconds = {name: _timed(sides, rounds) for name, sides in runs.items()}
    engine, why = _engine(ours)
    return Contest(
        cell=cell.name,
        engine=engine,
        why=why,
        first=sum(COMPILED[before:], start=0.0),
        parameters=sum(parameter.numel() for parameter in ours.parameters()),
        difference=difference,
        rounds=min(len(sides[OURS]) for sides in seconds.values()),
        milliseconds={
            name: {who: Span.of([1e3 * second for second in found]) for who, found in sides.items()}
            for name, sides in seconds.items()
        },
        ratios={
            name: {
                peer: Span.of([theirs / own for theirs, own in zip(found, sides[OURS], strict=True)])
                for peer, found in sides.items()
                if peer != OURS
            }
            for name, sides in seconds.items()
        },
    )


def _engine(layer: Recurrent) -> tuple[str, str]:
    """Which back end runs a layer, and why it is not compiled where it is none of ours."""
    reasons = {name: back_end.lasting_hindrance(layer.system) for name, back_end in BACK_ENDS.items()}
    return next(name for name, reason in reasons.items() if reason is None), reasons["native"] or ""


# -- the numbers -------------------------------------------------------------------------------------------------


def _difference(ours: nn.Module, twin: nn.Module, x_TBI: Tensor, pull_TBH: Tensor) -> float:
    found = [_numbers(model, x_TBI, pull_TBH) for model in (ours, twin)]
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=torch.finfo(other.dtype).tiny))
        for one, other in zip(*found, strict=True)
    )


def _numbers(model: nn.Module, x_TBI: Tensor, pull_TBH: Tensor) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    output_TBH = model(x_TBI)[0]
    output_TBH.backward(pull_TBH)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return [output_TBH.detach(), *(gradient.clone() for gradient in gradients)]


# -- the clock ---------------------------------------------------------------------------------------------------


def _training(model: nn.Module, x_TBI: Tensor, pull_TBH: Tensor) -> Callable[[], object]:
    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(x_TBI)[0].backward(pull_TBH)

    return run


def _forward(model: nn.Module, x_TBI: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            model(x_TBI)

    return run


def _timed(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time all sides in turns; what is brief several times at once."""
    for run in sides.values():
        run()  # the first time something is compiled, or allocated
    times = {who: max(1, math.ceil(BRIEF / _seconds(run, 1))) for who, run in sides.items()}
    clocks = {who: partial(_seconds, run, times[who]) for who, run in sides.items()}
    return in_turns(clocks, rounds=rounds, fewest=FEWEST, enough=ENOUGH)


def _seconds(run: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        run()
    return max(time.perf_counter() - begin, 1e-9) / times
