"""Two ways to do the same thing, checked against each other and timed in turn.

Each pair of samples gives one ratio, peer over ours, so that a machine whose speed drifts hurts both alike; the
figure is the median of the ratios. Between two samples the process rests: the threads of OpenMP spin for some
milliseconds after their work, and would take a core from whoever comes next.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from machine import version
from torch import Tensor

import unvanish

SAMPLE = 0.03  # seconds that a sample takes at the least: short steps are repeated
REST = 0.02
AGREEMENT = 1e-4  # of the largest entry, in single precision


class Shape(NamedTuple):
    """One size of problem."""

    steps: int
    batch: int
    width: int
    hidden: int

    def __str__(self) -> str:
        return " × ".join(map(str, self))


class Side(Protocol):
    """One of the two: something that can be run again and again."""

    def run(self) -> object:
        """Do the work once."""
        ...


class TorchSide:
    """A forward pass in torch, and a backward pass from a given cotangent; without one, in no_grad."""

    def __init__(
        self, forward: Callable[[], Tensor], leaves: Mapping[str, Tensor], cotangent_TBH: Tensor | None
    ) -> None:
        self.forward, self.leaves, self.cotangent_TBH = forward, leaves, cotangent_TBH

    def run(self) -> Tensor:
        if self.cotangent_TBH is None:
            with torch.no_grad():
                return self.forward()
        for leaf in self.leaves.values():
            leaf.grad = None
        output_TBH = self.forward()
        output_TBH.backward(self.cotangent_TBH)
        return output_TBH

    def result(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output, and the gradient of each leaf."""
        output_TBH = self.run().detach()
        return output_TBH, {name: leaf.grad for name, leaf in self.leaves.items() if leaf.grad is not None}


class Case:
    """Our layer at one shape, its input, and the cotangent of its output."""

    def __init__(
        self, cell: str, shape: Shape, engine: str, options: Mapping[str, Any], *, backward: bool = True
    ) -> None:
        torch.manual_seed(0)
        self.shape = shape
        self.x_TBI = torch.randn(shape.steps, shape.batch, shape.width)
        self.cotangent_TBH = torch.randn(shape.steps, shape.batch, shape.hidden) if backward else None
        self.layer = unvanish.Recurrent(cell, shape.width, shape.hidden, engine=engine, **options)

    def ours(self) -> TorchSide:
        layer, x_TBI = self.layer, self.x_TBI
        return TorchSide(lambda: layer(x_TBI)[0], dict(layer.named_parameters()), self.cotangent_TBH)

    def arrays(self, holds: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
        """Return copies of our parameters, side by side as a peer holds them."""
        return {own: _gathered(self.layer, names) for own, names in holds.items()}


def _gathered(layer: unvanish.Recurrent, names: tuple[str, ...]) -> Tensor:
    return torch.cat([layer[name].detach() for name in names]).clone()


@dataclass(frozen=True)
class Peer:
    """Somebody else's way: `holds` says which of our parameters, side by side, each of its arrays holds."""

    title: str
    holds: Mapping[str, tuple[str, ...]]
    make: Callable[[Case, dict[str, Tensor]], Any]
    package: str = "torch"
    same_numbers: bool = True


@dataclass(frozen=True)
class Comparison:
    """Our layer of a cell, a peer, and how many times as fast ours should be: in the mean, and at worst."""

    cell: str
    peer: Peer
    bar_mean: float
    bar_worst: float
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_run(self) -> bool:
        return version(self.peer.package) is not None

    def sides(self, shape: Shape, engine: str, *, backward: bool = True) -> tuple[Side, Side]:
        case = Case(self.cell, shape, engine, self.options, backward=backward)
        return case.ours(), self.peer.make(case, case.arrays(self.peer.holds))

    def check(self, engine: str) -> None:
        """See that the peer gives our output and our gradients. Raises AssertionError where it does not."""
        if not self.peer.same_numbers:
            return
        case = Case(self.cell, Shape(9, 3, 4, 5), engine, self.options)
        output_TBH, _ = case.ours().result()
        theirs_TBH, gradients = self.peer.make(case, case.arrays(self.peer.holds)).result()
        same(f"{self.cell}: the output of {self.peer.title}", output_TBH, theirs_TBH)
        slopes = copy.deepcopy(case.layer)  # the gradients, to be had by their equation names
        with torch.no_grad():
            for slope, parameter in zip(slopes.parameters(), case.layer.parameters(), strict=True):
                slope.copy_(parameter.grad if parameter.grad is not None else torch.zeros_like(parameter))
        for own, names in self.peer.holds.items():
            same(f"{self.cell}: the gradient of {own}, {self.peer.title}", _gathered(slopes, names), gradients[own])


def same(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Refuse numbers that differ by more than rounding."""
    difference = float((ours - theirs).abs().max() / ours.abs().max())
    if not difference < AGREEMENT:
        raise AssertionError(f"{what} differs from ours by {difference:.1e} of its largest entry")


def warm(side: Side) -> int:
    """Run a side until its time is known, and return how often a sample repeats it."""
    for _ in range(2):
        side.run()
    began = time.perf_counter()
    side.run()
    return max(1, math.ceil(SAMPLE / (time.perf_counter() - began)))


def sample(side: Side, repeats: int) -> float:
    """Return the seconds that one run takes, after a rest."""
    gc.collect()
    time.sleep(REST)
    if repeats > 1:
        side.run()  # wakes the threads
    began = time.perf_counter()
    for _ in range(repeats):
        side.run()
    return (time.perf_counter() - began) / repeats


def pairs(ours: Side, theirs: Side, runs: int) -> list[tuple[float, float]]:
    """Time both in turn, `runs` times, and return the seconds (ours, theirs) of each pair."""
    repeats = warm(ours), warm(theirs)
    found = []
    for index in range(runs):
        if index % 2:  # neither is always the one that comes after the other
            second, first = sample(theirs, repeats[1]), sample(ours, repeats[0])
        else:
            first, second = sample(ours, repeats[0]), sample(theirs, repeats[1])
        found.append((first, second))
    return found


def row(shape: Shape, timed: list[tuple[float, float]]) -> dict[str, Any]:
    """Return what is written of one shape."""
    ours, theirs = ([1e3 * pair[side] for pair in timed] for side in (0, 1))
    ratios = sorted(second / first for first, second in timed)
    return {
        "shape": list(shape),
        "ours_ms": round(statistics.median(ours), 4),
        "peer_ms": round(statistics.median(theirs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_lowest": round(ratios[0], 3),
        "ratio_highest": round(ratios[-1], 3),
    }
