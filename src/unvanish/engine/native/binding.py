"""Where the arrays that a layer stores hold what a kernel reads.

A kernel takes pointers into the stored arrays, so that nothing is cut, stacked or copied on the way in; the
gradients are put together in the same shape.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.engine.ir.plan import Group
from unvanish.engine.layout import Stack
from unvanish.engine.native.kernel import Loaded
from unvanish.engine.native.places import Slot
from unvanish.engine.shared import shared


@dataclass(eq=False)
class Binding:
    """A kernel and the stored arrays of one layer.

    Attributes:
        sizes: how wide each width is.
        stacks: the arrays that the kernel reads, by name; they come first among what a pass is given.
        loose: vectors that are not rows of a stored array: (name, width), brought to their width before the pass.
        pointers: slot -> (position among stacks and loose, offset in numbers).
        vectors: of every vector with an adjoint of its own, its place in the sums over all steps.
    """

    loaded: Loaded
    sizes: dict[str, int]
    stacks: tuple[Stack, ...]
    loose: tuple[tuple[str, str], ...]
    pointers: dict[Slot, tuple[int, int]]
    vectors: dict[str, int]
    vectors_total: int

    def width(self, name: str) -> int:
        """How wide a value is."""
        return self.sizes[self.loaded.kernel.widths[name]]

    def height(self, group: Group) -> int:
        """How wide all products of a group are side by side."""
        return len(group.products) * self.width(group.products[0].target.name)

    def panel(self, group: Group, dtype: torch.dtype, back: bool) -> int:
        """How many numbers the packed weights of a group take."""
        lanes, width = self.loaded.emitted.vector // dtype.itemsize, self.width(group.products[0].target.name)
        count = self.width(group.operand.name)
        if back:
            return -(-count // lanes) * lanes * width * len(group.products)
        return -(-width // lanes) * lanes * count * len(group.products)

    @functools.cached_property
    def slots(self) -> tuple[tuple[int, int, int], ...]:
        """What a call takes of the stored arrays: (slot, position among stacks and loose, offset in numbers)."""
        slots = self.loaded.slots
        return tuple((slots[slot], *where) for slot, where in self.pointers.items() if slot in slots)

    @functools.cached_property
    def wholes(self) -> tuple[int | None, ...]:
        """For each group, the position of the stored array that holds just its matrices, in their order."""
        return tuple(self._whole(group) for group in self.loaded.kernel.all_groups)

    @functools.cached_property
    def owners(self) -> tuple[frozenset[int], ...]:
        """For each group, the positions of the stored arrays that hold its matrices."""
        return tuple(
            frozenset(self.pointers[Slot("weight", matrix)][0] for matrix in group.matrices)
            for group in self.loaded.kernel.all_groups
        )

    def _whole(self, group: Group) -> int | None:
        position = self.pointers[Slot("weight", group.matrices[0])][0]
        return position if tuple(self.stacks[position].rows) == group.matrices else None

    def weight(self, group: Group, arrays: tuple[Tensor, ...]) -> Tensor:
        """Return a group's matrices side by side."""
        position = self._whole(group)
        if position is not None:
            return arrays[position]
        places = [self.stacks[self.pointers[Slot("weight", matrix)][0]] for matrix in group.matrices]
        return torch.cat(
            [
                arrays[self.pointers[Slot("weight", matrix)][0]][stack.rows[matrix]]
                for matrix, stack in zip(group.matrices, places, strict=True)
            ]
        )

    @functools.cached_property
    def segments(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """For each stored array, the runs of its rows that are vectors: (first row, place in the sums, length)."""
        kernel = self.loaded.kernel
        found: list[list[tuple[int, int, int]]] = [[] for _ in self.stacks]
        for name, width in kernel.vectors:
            if (name, width) not in self.loose:
                position, row = self.pointers[Slot("vector", name)]
                found[position].append((row, self.place((name, width)), self.sizes[width]))
        return tuple(tuple(_joined(sorted(runs))) for runs in found)

    def place(self, vector: tuple[str, str]) -> int:
        """Where the adjoint of a vector is, among the sums."""
        return self.vectors[self.loaded.kernel.label(*self.loaded.kernel.same_vector[vector])]


def _joined(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: list[tuple[int, int, int]] = []
    for row, place, length in runs:
        if joined and joined[-1][0] + joined[-1][2] == row and joined[-1][1] + joined[-1][2] == place:
            joined[-1] = (joined[-1][0], joined[-1][1], joined[-1][2] + length)
        else:
            joined.append((row, place, length))
    return joined


@shared(256)
def bind(loaded: Loaded, stacks: tuple[Stack, ...], input_width: int, state_widths: tuple[int, ...]) -> Binding:
    """Find a kernel's arrays among those that a layer stores."""
    kernel, system = loaded.kernel, loaded.kernel.plan.system
    rows = {name: (stack, place) for stack in stacks for name, place in stack.rows.items()}
    sizes = {"one": 1, "input": input_width}
    for parameter in system.parameters:
        stack, place = rows[parameter.name]
        sizes[parameter.rows] = place.stop - place.start
        if parameter.columns:
            sizes[parameter.columns] = stack.shape[1]
    sizes |= {state.width: size for state, size in zip(system.states, state_widths, strict=True)}
    matrices = [matrix for group in kernel.all_groups for matrix in group.matrices]
    stored = [
        (name, width)
        for name, width in kernel.vectors
        if name in rows
        and rows[name][1].stop - rows[name][1].start == sizes[width]
        and kernel.label(name, width) == name
    ]
    used = tuple(stack for stack in stacks if {*stack.rows} & {*matrices, *(name for name, _ in stored)})
    pointers = dict[Slot, tuple[int, int]]()
    for matrix in matrices:
        stack, place = rows[matrix]
        pointers[Slot("weight", matrix)] = (used.index(stack), place.start * stack.shape[1])
    for name, _ in stored:
        stack, place = rows[name]
        pointers[Slot("vector", name)] = (used.index(stack), place.start)
    loose = tuple(vector for vector in kernel.vectors if vector not in stored)
    for position, vector in enumerate(loose):
        pointers[Slot("vector", kernel.label(*vector))] = (len(used) + position, 0)
    places: dict[str, int] = {}
    total = 0
    for vector in sorted(kernel.vectors, key=lambda vector: pointers[Slot("vector", kernel.label(*vector))]):
        if kernel.same_vector[vector] == vector:
            places[kernel.label(*vector)] = total
            total += sizes[vector[1]]
    return Binding(loaded, sizes, used, loose, pointers, places, total)
