"""One cell of a stack, one layer in one direction: the unit that is run and measured.

Shapes: T time, B batch, I input, W width of the output or of a state, D how many steps back a state is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unvanish import engine as engines
from unvanish.engine import Pass, Plan, Registered, Stack, Stepper, Tap, Weights
from unvanish.equations import Cell
from unvanish.equations.system import System
from unvanish.nn.batchnorm import StepNorm
from unvanish.nn.masks import Noise


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part stands in its stack: its row among the states, its layer, its direction; `l1_reverse`."""

    index: int
    layer: int
    backwards: bool
    name: str

    def stored(self, name: str) -> str:
        """Return what an array of the part is called in the layer, as torch calls it: `weight_hh_l0_reverse`."""
        return f"{name}_{self.name}"


class Ran(NamedTuple):
    """One pass of a part, in the part's own order of time.

    Attributes:
        states: what it began with, (B, D·W), and the index of the first step where the cell reads t.
        final: the same after the last step.
        every: the states of all steps, (T, B, W), where they were asked for.
    """

    part: Part
    x_TBI: Tensor
    states: Sequence[Tensor]
    output_TBW: Tensor
    final: list[Tensor]
    every: Mapping[str, Tensor]


@dataclass(slots=True, eq=False)  # frozen would take longer to make, and one is made for every pass
class Part:
    """One cell, one layer, one direction, with its arrays; `Recurrent.parts` makes them.

    Attributes:
        place: where it stands in the stack.
        system: the equations, without zoneout and what training draws.
        plan: what is run.
        stacks, arrays: the parameters as they are stored, by the names of the stacks.
        numbers: the fixed numbers.
        widths: how wide each state is, D·W, and 1 for `t`.
        sizes: the number of units of each width of the equations.
    """

    place: Place
    cell: Cell
    system: System
    plan: Plan
    stacks: tuple[Stack, ...]
    arrays: Mapping[str, Tensor]
    numbers: Mapping[str, Tensor]
    normalisers: Mapping[str, StepNorm]
    widths: Mapping[str, int]
    sizes: Mapping[str, int]
    noise: Noise
    training: bool
    engine: str
    memory: str | int
    registered: Registered

    @property
    def name(self) -> str:
        """`l0`, `l1_reverse`."""
        return self.place.name

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states, without t."""
        return tuple(state.name for state in self.system.states)

    def __getitem__(self, name: str) -> Tensor:
        """Return a parameter, as a view into what is stored, or a fixed number, by its name in the equations."""
        if name in self.numbers:
            return self.numbers[name]
        for stack in self.stacks:
            if name in stack.rows:
                return self.arrays[stack.name][stack.rows[name]]
        raise KeyError(name)

    def weights(self) -> Weights:
        """Return the parameters as the equations read them: entries that the cell takes away are zero.

        Weight drop draws a new mask at each call.
        """
        arrays = dict(self.arrays)
        if self.training and self.noise.matrices:
            for stack in self.stacks:
                if self.noise.matrices.issuperset(stack.rows):
                    arrays[stack.name] = self.noise.thinned(arrays[stack.name])
        for matrix, number in self.cell.slower_to_faster.items():
            stack = next(stack for stack in self.stacks if matrix in stack.rows)
            mask, rows = torch.ones_like(arrays[stack.name]), stack.rows[matrix]
            order_H = self.numbers[number].expand(rows.stop - rows.start)
            mask[rows] = (order_H[None, :] >= order_H[:, None]).to(mask.dtype)
            arrays[stack.name] = arrays[stack.name] * mask
        return Weights(self.stacks, arrays)

    def to(self, dtype: torch.dtype) -> Part:
        """Return a part of the same values in another precision, without a graph."""

        def moved(array: Tensor) -> Tensor:
            kept = array.detach()
            return kept.to(dtype, copy=True) if kept.is_floating_point() else kept.clone()

        return dataclasses.replace(
            self,
            arrays={name: moved(array) for name, array in self.arrays.items()},
            numbers={name: moved(array) for name, array in self.numbers.items()},
            normalisers={name: norm.over(moved) for name, norm in self.normalisers.items()},
        )

    def run(
        self,
        x_TBI: Tensor,
        states: Sequence[Tensor],
        lengths_B: Tensor | None = None,
        reset_TB1: Tensor | None = None,
        *,
        every: bool = False,
        taps: tuple[Tap, ...] = (),
        first: int = 0,
        engine: str | None = None,
    ) -> Ran:
        """Run the part over a sequence, from given states on, (B, D·W) each.

        `taps` sit between its steps; `every` asks for the states of all steps; batch normalisation takes `first`
        for the index of the first step; `engine` runs it elsewhere than the layer says.
        """
        job = self._pass(x_TBI, states, lengths_B, reset_TB1, every=every, taps=taps, first=first)
        result = engines.run(job, engine or self.engine, self.memory, self.registered)
        for tap in taps:
            tap.end(job, result)
        final = [result.states[name] for name in job.states]
        time_B1 = engines.final_time(job)
        if time_B1 is not None:
            final.append(time_B1)
        return Ran(self, x_TBI, states, result.output_TBW, final, result.all_states or {})

    def stepper(self, states: Sequence[Tensor], blank_1BI: Tensor) -> Stepper:
        """Return what runs one step per call, from given states on; the blank says how wide an input is."""
        return engines.stepper(self._pass(blank_1BI, states), self.engine)

    def _pass(
        self,
        x_TBI: Tensor,
        states: Sequence[Tensor],
        lengths_B: Tensor | None = None,
        reset_TB1: Tensor | None = None,
        *,
        every: bool = False,
        taps: tuple[Tap, ...] = (),
        first: int = 0,
    ) -> Pass:
        plan, normalisers = self.plan, self.normalisers
        named = dict(zip(self.widths, states, strict=True))
        time_B1 = named.pop("t", None) if plan.system.uses_time else None
        if first and normalisers:
            normalisers = {name: dataclasses.replace(norm, first_step=first) for name, norm in normalisers.items()}
        steps, batch = x_TBI.shape[:2]
        masks = {}
        if plan.system.masks:
            masks = self.noise.draw(steps, batch, self.sizes, self.arrays[self.stacks[0].name])
        return Pass(
            plan=plan,
            weights=self.weights(),
            numbers=self.numbers,
            x_TBI=x_TBI,
            states=named,
            time_B1=time_B1,
            lengths_B=lengths_B,
            reset_TB=None if reset_TB1 is None else reset_TB1[:, :, 0],
            masks=masks,
            taps=taps,
            normalisers=normalisers,
            wants_all_states=every or any(tap.needs == "adjoints" for tap in taps),
            name=self.cell.name,
        )
