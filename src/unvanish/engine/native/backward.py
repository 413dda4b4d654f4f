"""The backward pass of a kernel over a sequence: the gradients of what the pass was given.

Shapes: N values of all steps, P rows (pieces), W width, D depth in time, J products side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unvanish.engine.ir.plan import Group
from unvanish.engine.native.places import Slot
from unvanish.engine.native.prepared import Prepared, call_of, set_block, set_pointer, split
from unvanish.engine.product import careful_weight_gradient, times_transposed, weight_gradient
from unvanish.engine.tape import Event
from unvanish.equations.expression import Ref

# Sizes between which the kernels' own sum of outer products is faster than a product through torch.
OUTER_FROM, OUTER_UP_TO = 8, 1 << 20


def backward(
    ready: Prepared,
    given: Sequence[Tensor],
    kept: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Give the gradients of what a pass was given, where they are needed."""
    found = Backward(ready, given, kept, needed)
    found.run(gradients)
    if not found.is_finite():
        # A state that overflowed but is not in the loss must not send NaN: 0 · inf counts as zero.
        found = Backward(ready, given, kept, needed, careful=True)
        found.run(gradients)
    return found.gradients()


class Backward:
    """The backward pass of a kernel over all steps.

    A `careful` one lets no zero adjoint meet what overflowed in the sums of outer products, at twice their cost.
    """

    def __init__(
        self,
        ready: Prepared,
        given: Sequence[Tensor],
        kept: Sequence[Tensor],
        needed: Sequence[bool],
        careful: bool = False,
    ) -> None:
        self.ready, self.memory, self.binding, self.schedule = (
            ready,
            ready.memory,
            ready.binding,
            ready.schedule,
        )
        self.kernel, self.needed, self.careful = ready.memory.kernel, needed, careful
        self.x_NI, self.arrays, self.states, self.masks = split(ready, given)
        self.block = kept[0]
        self.fresh = dict(zip(ready.memory.given_out, kept[1:], strict=True))
        self.work = self.binding.loaded.arena.take(ready.memory.worked_in.total, self.x_NI)
        self.work[: ready.memory.zeroed].zero_()
        self.call = call_of(ready, given)
        set_block(self.call, self.memory.kept_slots, self.block)
        set_block(self.call, self.memory.work_slots, self.work)
        for slot, values in self.fresh.items():
            self.point(slot, values)
        self.squares: Tensor | None = None
        if ready.norms:
            self.squares = torch.zeros(
                ready.memory.parts,
                self.schedule.steps,
                len(ready.memory.states),
                dtype=torch.float64,
                device="cpu",
            )
            self.point(Slot("norms"), self.squares)
        self.clip: Tensor | None = None
        if ready.step_clip is not None:
            self.clip = torch.zeros(2 + 3 * ready.memory.parts, dtype=torch.float64, device="cpu")
            self.clip[0], self.clip[1] = ready.step_clip.limit, ready.step_clip.by == "norm"
            self.point(Slot("clip"), self.clip)
        # Before a step goes back its adjoint is settled, if anybody wants to clip it or to know it.
        self.settles = ready.step_clip is not None or ready.tell is not None
        self.call[self.binding.loaded.slots[Slot("size", "settle")]] = self.settles
        self.written = None if ready.tell is None else Written(self)
        self.adjoint_x = torch.empty_like(self.x_NI) if needed[0] or self.kernel.reads_x_by_unit else None
        if self.adjoint_x is not None and self.kernel.reads_x_by_unit:
            self.point(Slot("adjoint", "x"), self.adjoint_x.zero_())
        self.weights: dict[int, Tensor] = {}

    def point(self, slot: Slot, values: Tensor) -> None:
        """Let the call point to an array, if the kernel has any use for it."""
        set_pointer(self.ready, self.call, slot, values)

    def run(self, gradients: Sequence[Tensor | None]) -> None:
        """Walk back through all steps."""
        loaded, starts = self.binding.loaded, self.schedule.starts
        alive = self._take_gradients(gradients)
        for first, last in reversed(self.memory.chunks):
            count = starts[last] - starts[first]
            if self.written is not None:
                self.written.point(first)
            for number, added_up in enumerate(self.memory.added_up):
                if added_up:
                    self._adjoint(number, first, count).zero_()
            self.memory.set_steps(self.call, first, last, pack=last == self.schedule.steps)
            loaded.run(loaded.backward, self.call)
            self._products(first, last)
        del alive

    def is_finite(self) -> bool:
        """Whether the gradients of the matrices are finite."""
        return all(math.isfinite(float(weight.sum())) for weight in self.weights.values())

    def gradients(self) -> list[Tensor | None]:
        """Tell whoever listens, and give the gradients."""
        for tap in self.ready.norms:
            assert self.squares is not None
            tap.take_norms(self.squares.sum(0).sqrt().to(self.x_NI.dtype))
        if self.ready.step_clip is not None and self.clip is not None:
            self.ready.step_clip.add(self.clip[2:].view(-1, 3).sum(0).long())
        if self.written is not None:
            self.written.tell()
            self.written = (
                None  # it knows of this object too: a circle would keep the block until the collector comes
            )
        return self._gradients()

    def _take_gradients(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """Put the gradients of the steps where the kernel finds them, those of the final states where they wait."""
        alive = []
        count, names = len(self.memory.states), {state.name for state in self.memory.states}
        of_steps = {self.kernel.plan.system.output.name: gradients[0]}
        for index, state in enumerate(self.memory.states):
            final = gradients[1 + index]
            if final is not None:
                self._wait(state.name, state.depth, final)
            if self.memory.wants_all:
                both = [g for g in (of_steps.get(state.name), gradients[1 + count + index]) if g is not None]
                of_steps[state.name] = both[0] + both[1] if len(both) == 2 else both[0] if both else None
        for name, gradient in of_steps.items():
            if gradient is not None:
                alive.append(gradient.contiguous())
                self.point(Slot("given" if self.settles and name in names else "gradient", name), alive[-1])
        return alive

    def _carry(self, name: str, depth: int) -> Tensor:
        width = self.binding.width(name)
        return self.memory.worked_in.view(self.work, Slot("carry", name), depth + 1, self.schedule.rows, width)

    def _wait(self, name: str, depth: int, final: Tensor) -> None:
        carry, lengths_P = self._carry(name, depth), self.schedule.lengths_P
        for back, part in enumerate(final.chunk(depth, -1)):
            if lengths_P is None:
                carry[(self.schedule.steps - 1 - back) % (depth + 1)] = part
            else:
                carry[(lengths_P - 1 - back) % (depth + 1), torch.arange(len(lengths_P), device="cpu")] = part

    def _adjoint(self, number: int, first: int, count: int) -> Tensor:
        """Where the adjoints of a group's products are, over a chunk of steps that begins with `first`."""
        if self.written is not None:
            start = self.schedule.starts[first]
            return self.written.products[self.kernel.same_adjoint[number]][start : start + count]
        height = self.binding.height(self.kernel.all_groups[number])
        place, _ = self.memory.worked_in.places[Slot("adjoint", self.kernel.same_adjoint[number])]
        return self.work[place : place + count * height].view(count, height)

    def _products(self, first: int, last: int) -> None:
        """Add up the gradients of the matrices over a chunk of steps, and give the input its own."""
        start, end = self.schedule.starts[first], self.schedule.starts[last]
        begun = False
        for number, group in enumerate(self.kernel.all_groups):
            adjoint_NJ = self._adjoint(number, first, end - start)
            if any(self.needed[1 + position] for position in self.binding.owners[number]):
                self._add_weight_gradient(number, adjoint_NJ, self._operand(group, first, last))
            if group.operand.name == "x" and self.needed[0]:
                assert self.adjoint_x is not None
                weight = self.binding.weight(group, tuple(self.arrays))
                part = times_transposed(adjoint_NJ, weight.t())
                if begun or self.kernel.reads_x_by_unit:
                    self.adjoint_x[start:end] += part
                else:
                    self.adjoint_x[start:end] = part
                begun = True

    def _add_weight_gradient(self, number: int, adjoint_NJ: Tensor, operand_NK: Tensor) -> None:
        height, width = adjoint_NJ.shape[1], operand_NK.shape[1]
        begun = number in self.weights
        if not self.careful and len(adjoint_NJ) and width >= OUTER_FROM and height * width <= OUTER_UP_TO:
            if not begun:
                self.weights[number] = self.x_NI.new_empty(height, width)
            threads = self.memory.pool
            self.binding.loaded.add_outer(adjoint_NJ, operand_NK, self.weights[number], begun, threads)
        else:
            product = careful_weight_gradient if self.careful else weight_gradient
            part = product(adjoint_NJ, operand_NK)
            self.weights[number] = self.weights[number].add_(part) if begun else part

    def _operand(self, group: Group, first: int, last: int) -> Tensor:
        """What a group's matrices were multiplied with, over a chunk of steps."""
        schedule, name = self.schedule, group.operand.name
        start, end = schedule.starts[first], schedule.starts[last]
        if name == "x":
            return self.x_NI[start:end]
        width = self.binding.width(name)
        state = next((state for state in self.memory.states if state.name == name), None)
        slot = Slot("state", name) if state else Slot("saved", name)
        if slot in self.fresh:
            values = self.fresh[slot].view(-1, width)
        else:
            values = self.memory.kept.view(self.block, slot, -1, width)
        if state is None:
            return values[start:end]
        back = state.depth - int(group.operand.delay or 0)
        if schedule.lengths_P is None:
            return values[back * schedule.rows + start : back * schedule.rows + end]
        return values[schedule.earlier(state.depth, back, first, last)]

    def _gradients(self) -> list[Tensor | None]:
        binding, found = self.binding, list[Tensor | None]()
        found.append(self.adjoint_x if self.needed[0] else None)
        parts, total = self.memory.parts, binding.vectors_total
        sums = self.memory.worked_in.view(self.work, Slot("adjoint vectors"), parts, total).sum(0)
        for position, stored in enumerate(self.arrays):
            if not self.needed[1 + position]:
                found.append(None)
            elif position >= len(binding.stacks):
                vector = binding.loose[position - len(binding.stacks)]
                place = binding.place(vector)
                found.append(sums[place : place + stored.shape[0]].clone())
            else:
                found.append(self._stack_gradient(position, stored, sums))
        for state in self.memory.states:
            carry = self._carry(state.name, state.depth)
            waiting = [carry[(-1 - back) % (state.depth + 1)] for back in range(state.depth)]
            found.append(torch.cat(waiting, -1))
        return [*found, *(None for _ in self.masks)]

    def _stack_gradient(self, position: int, array: Tensor, sums: Tensor) -> Tensor:
        """Put the gradient of a stored array together."""
        binding = self.binding
        touching = [number for number in self.weights if position in binding.owners[number]]
        if len(touching) == 1 and binding.wholes[touching[0]] == position:
            return self.weights[touching[0]]
        gradient = torch.zeros_like(array)
        for row, place, length in binding.segments[position]:
            gradient[row : row + length] = sums[place : place + length]
        for number in touching:
            group, weight = self.kernel.all_groups[number], self.weights[number]
            height = weight.shape[0] // len(group.products)
            for part, matrix in enumerate(group.matrices):
                if binding.pointers[Slot("weight", matrix)][0] == position:
                    rows = binding.stacks[position].rows[matrix]
                    gradient[rows] += weight[part * height : (part + 1) * height]
        return gradient


class Written:
    """What a backward pass keeps of all steps, for a tape: adjoints, and what came to the states."""

    def __init__(self, work: Backward) -> None:
        self.work, self.arrays = work, dict[tuple[Event, Ref], Tensor]()
        kinds: tuple[Event, ...] = ("adjoint", "from_future")
        shapes: dict[tuple[Event, Ref], int] = {
            (kind, Ref(state.name, 0)): work.binding.width(state.name)
            for kind in kinds
            for state in work.memory.states
        }
        groups = list(enumerate(work.kernel.all_groups))
        own = {n: group.products[0].target for n, group in groups if work.kernel.same_adjoint[n] == n}
        shapes |= {("products", ref): work.binding.height(work.kernel.all_groups[n]) for n, ref in own.items()}
        count = work.schedule.count
        block = work.binding.loaded.arena.take(count * sum(shapes.values()), work.x_NI)
        parts = block.split([count * width for width in shapes.values()])  # type: ignore[no-untyped-call]
        for (what, width), part in zip(shapes.items(), parts, strict=True):
            self.arrays[what] = part.view(count, width)
            kind, ref = what
            if kind != "products":
                work.point(Slot("adjoint of" if kind == "adjoint" else "came of", ref.name), part)
        self.products = {number: self.arrays["products", ref] for number, ref in own.items()}

    def point(self, first: int) -> None:
        """Let the adjoints of the products of a chunk of steps be written where those of all steps are kept."""
        for number, kept_NJ in self.products.items():
            place = kept_NJ[self.work.schedule.starts[first] :]
            self.work.point(Slot("adjoint", number), place)

    def tell(self) -> None:
        work, tell = self.work, self.work.ready.tell
        assert tell is not None
        for (kind, ref), values in self.arrays.items():
            tell(kind, ref, values)
        for ref in work.kernel.saved:
            slot = Slot("saved", ref.name)
            if slot not in work.fresh:
                shape = work.schedule.count, work.binding.width(ref.name)
                tell("value", ref, work.memory.kept.view(work.block, slot, *shape))
