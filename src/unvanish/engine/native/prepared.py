"""What a pass of a kernel is given: input, the stored arrays of the layer, loose vectors, initial states, masks.

Shapes: N values of all steps, P rows (pieces), W width.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from unvanish.engine.clipping import StepClip
from unvanish.engine.native.binding import Binding
from unvanish.engine.native.memory import Memory
from unvanish.engine.native.places import KINDS, Slot
from unvanish.engine.native.schedule import Schedule
from unvanish.engine.tap import Tap
from unvanish.engine.tape import Event
from unvanish.equations.expression import Ref


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a pass is, besides its arrays: where they lie, the index of each row's first step, who wants to know the
    norms of the states' adjoints, who clips them, and who is told all of them.
    """

    memory: Memory
    schedule: Schedule
    time_P: Tensor | None = None
    norms: tuple[Tap, ...] = ()
    step_clip: StepClip | None = None
    tell: Callable[[Event, Ref, Tensor], None] | None = None

    @property
    def binding(self) -> Binding:
        """The kernel and the stored arrays."""
        return self.memory.binding


def split(
    ready: Prepared, given: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """The input; stored arrays and loose vectors; initial states; masks."""
    arrays = 1 + len(ready.binding.stacks) + len(ready.binding.loose)
    states = arrays + len(ready.memory.states)
    return given[0], given[1:arrays], given[arrays:states], given[states:]


def call_of(ready: Prepared, given: Sequence[Tensor]) -> array[int]:
    """A call that holds the addresses of what a pass is given."""
    call = ready.memory.blank[:]
    x_NI, arrays, _, masks = split(ready, given)
    starts = [stored.data_ptr() for stored in arrays]
    size = x_NI.element_size()
    for slot, position, offset in ready.binding.slots:
        call[slot] = starts[position] + offset * size
    set_pointer(ready, call, Slot("x"), x_NI)
    for mask, values in zip(ready.memory.kernel.plan.system.masks, masks, strict=True):
        set_pointer(ready, call, Slot("mask", mask.name), values)
    if ready.time_P is not None:
        set_pointer(ready, call, Slot("time"), ready.time_P)
    return call


def set_pointer(ready: Prepared, call: array[int], slot: Slot, values: Tensor) -> None:
    """Let a call point to an array, if the kernel has any use for it."""
    assert slot.kind in KINDS, slot
    place = ready.binding.loaded.slots.get(slot)
    if place is not None:
        call[place] = values.data_ptr()


def set_block(call: array[int], slots: Sequence[tuple[int, int]], block: Tensor) -> None:
    """Let a call point to the arrays of a block."""
    start, size = block.data_ptr(), block.element_size()
    for slot, place in slots:
        call[slot] = start + place * size
