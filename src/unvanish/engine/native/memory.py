"""What arrays a pass works in and where they lie, and how its work is cut: worked out once for each schedule.

Shapes: N values of all steps, P rows (pieces), W width, D depth in time.
"""

from __future__ import annotations

from array import array

import torch
from torch import Tensor

from unvanish.engine.native.binding import Binding
from unvanish.engine.native.kernel import Loaded
from unvanish.engine.native.places import Slot
from unvanish.engine.native.schedule import Schedule

CHUNK_BYTES = 4 << 20  # of the products of one chunk of steps: what the caches hold
CHUNK_HEIGHTS = 2  # but so many values for each row of the largest matrix, so that summing its gradient pays
UNITS_FROM, UNITS_FROM_FEW_ROWS = 300_000, 60_000  # numbers in the recurrent matrices


class Layout:
    """Arrays side by side in one block, each on a cache line of its own."""

    def __init__(self) -> None:
        self.places: dict[Slot, tuple[int, int]] = {}
        self.total = 0

    def add(self, slot: Slot, count: int) -> None:
        """Make room for an array."""
        self.places[slot] = (self.total, count)
        self.total += -(-count // 16) * 16

    def slots(self, loaded: Loaded) -> tuple[tuple[int, int], ...]:
        """What a call takes of the block: (its slot, offset in numbers)."""
        places = self.places.items()
        return tuple((loaded.slots[slot], place) for slot, (place, _) in places if slot in loaded.slots)

    def view(self, block: Tensor, slot: Slot, *shape: int) -> Tensor:
        """One of the arrays."""
        place, count = self.places[slot]
        return block[place : place + count].view(shape)


class Memory:
    """The arrays of a pass. The schedule keeps it, so it keeps no schedule: a circle would wait for the collector.

    Attributes:
        kept: what the forward pass works in, and the backward pass reads.
        given_out: the sizes of the arrays whose values are outputs: they are not in the block, which is used again.
        worked_in: what the backward pass works in; the first `zeroed` numbers begin as zero.
        by_units: whether threads share the units of a step, not the rows: where rows are few or matrices large.
        parts: into how many parts the work is cut; `threads` run them, of a pool of `pool`.
        chunks: runs of steps whose products with the input, or whose adjoints, are kept at one time.
        sizes: what a call takes besides arrays and tables; `blank` is a call without its arrays.
    """

    def __init__(
        self, binding: Binding, schedule: Schedule, saves: bool, wants_all: bool, threads: int, dtype: torch.dtype
    ) -> None:
        self.binding, self.saves, self.wants_all, self.starts = binding, saves, wants_all, schedule.starts
        self.kernel = binding.loaded.kernel
        self.states = self.kernel.plan.system.states
        numbers = sum(binding.height(group) * binding.width(group.operand.name) for group in self.kernel.groups)
        few = schedule.rows < threads and numbers > UNITS_FROM_FEW_ROWS
        self.by_units = threads > 1 and (few or numbers > UNITS_FROM)
        self.parts = threads if self.by_units else max(1, min(threads, schedule.rows))
        self.threads, self.pool = min(threads, self.parts), threads
        element = dtype.itemsize
        tallest = max((binding.height(group) for group in self.kernel.all_groups), default=1)
        self.chunks = schedule.chunks(max(1, CHUNK_BYTES // (tallest * element), CHUNK_HEIGHTS * tallest))
        self.kept, self.given_out = self._kept(schedule, dtype)
        self.worked_in, self.zeroed = self._worked_in(schedule, dtype)
        self.table_arrays = self._tables(schedule)
        self.sizes = self._sizes(schedule)
        self.blank = binding.loaded.new_call([table.data_ptr() for table in self.table_arrays], self.sizes)
        self.kept_slots, self.work_slots = (layout.slots(binding.loaded) for layout in (self.kept, self.worked_in))
        self.added_up = [self._is_added_up(number) for number in range(len(self.kernel.all_groups))]

    def is_whole(self, state: str) -> bool:
        """Whether a state is kept at all steps."""
        return self.saves or self.wants_all or state == self.kernel.plan.system.output.name

    def _kept(self, schedule: Schedule, dtype: torch.dtype) -> tuple[Layout, dict[Slot, int]]:
        binding, output = self.binding, self.kernel.plan.system.output
        layout, given_out = Layout(), dict[Slot, int]()
        for state in self.states:
            rows = (state.depth + 1) * schedule.rows
            if self.is_whole(state.name):
                rows = state.depth * schedule.rows + schedule.count
            count = rows * binding.width(state.name)
            if self.wants_all or state.name == output.name:
                given_out[Slot("state", state.name)] = count
            else:
                layout.add(Slot("state", state.name), count)
        for ref in self.kernel.saved:
            if ref == output:
                given_out[Slot("saved", ref.name)] = schedule.count * binding.width(ref.name)
            elif self.saves:
                layout.add(Slot("saved", ref.name), schedule.count * binding.width(ref.name))
            elif ref in self.kernel.crossing:
                layout.add(Slot("saved", ref.name), schedule.rows * binding.width(ref.name))
        for index, group in enumerate(self.kernel.groups):
            layout.add(Slot("panel", index), binding.panel(group, dtype, back=False))
        return layout, given_out

    def _worked_in(self, schedule: Schedule, dtype: torch.dtype) -> tuple[Layout, int]:
        layout, binding, rows = Layout(), self.binding, schedule.rows
        for state in self.states:
            layout.add(Slot("carry", state.name), (state.depth + 1) * rows * binding.width(state.name))
        for slot in binding.loaded.emitted.pointers:
            if slot.kind == "scratch":
                layout.add(slot, rows * binding.width(str(slot.name)))
        layout.add(Slot("adjoint vectors"), self.parts * binding.vectors_total)
        start = layout.places[Slot("adjoint vectors")][0]
        for label, place in binding.vectors.items():  # inside: part after part, each with all vectors side by side
            layout.places[Slot("adjoint vector", label)] = (start + place, 0)
        zeroed = layout.total
        most = max((self.starts[last] - self.starts[first] for first, last in self.chunks), default=0)
        for number, group in enumerate(self.kernel.all_groups):
            if self.kernel.same_adjoint[number] == number:
                layout.add(Slot("adjoint", number), most * binding.height(group))
        for index, group in enumerate(self.kernel.groups):
            if group.operand.name != "x":
                layout.add(Slot("back panel", index), binding.panel(group, dtype, back=True))
        return layout, zeroed

    def _tables(self, schedule: Schedule) -> list[Tensor]:
        kept = schedule.at_T if self.saves else torch.zeros_like(schedule.at_T)
        tables = [schedule.sizes_T, schedule.at_T, kept]
        tables += [schedule.table(state.depth, not self.is_whole(state.name)) for state in self.states]
        return [table.contiguous() for table in [*tables, schedule.share(self.parts)]]

    def _sizes(self, schedule: Schedule) -> dict[str, int]:
        found = {f"w {width}": size for width, size in self.binding.sizes.items()}
        return found | {
            "T": schedule.steps,
            "B": schedule.rows,
            "threads": self.threads,
            "parts": self.parts,
            "by_units": self.by_units,
            "vectors": self.binding.vectors_total,
        }

    def set_steps(self, call: array[int], first: int, last: int, pack: bool) -> None:
        """Let a call run over some steps, and say whether it packs the weights before."""
        slots = self.binding.loaded.slots
        call[slots[Slot("size", "first")]], call[slots[Slot("size", "last")]] = first, last
        call[slots[Slot("size", "start")]], call[slots[Slot("size", "pack")]] = self.starts[first], pack

    def _is_added_up(self, number: int) -> bool:
        """Whether a stream's adjoint is not written exactly once a step, and so begins as zero."""
        group = self.kernel.all_groups[number]
        if number < len(self.kernel.groups) or self.kernel.same_adjoint[number] != number:
            return False
        return not all(self.kernel.is_written_once(product.target) for product in group.products)


def memory_of(
    binding: Binding, schedule: Schedule, saves: bool, wants_all: bool, threads: int, dtype: torch.dtype
) -> Memory:
    """Return the arrays of a pass, worked out at the first of its kind."""
    kind = saves, wants_all, threads, dtype
    return schedule.prepared.get((binding, *kind), lambda: Memory(binding, schedule, *kind))
