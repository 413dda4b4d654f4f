"""One step at a time, for streams: weights packed once, memory taken once, one call a step.

Shapes: B batch, I input, W width, D depth in time.
"""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from unvanish.engine.native.forward import begin
from unvanish.engine.native.places import Slot
from unvanish.engine.native.prepared import Prepared, call_of, set_block, set_pointer, split
from unvanish.engine.product import times_transposed


class Stepper:
    """Runs a kernel forward, one step per call, with the weights as they were when it was made.

    The states lie in rings of D + 1 steps, so that nothing is moved: after as many steps as all rings have in
    common, the step index begins again.
    """

    def __init__(self, ready: Prepared, given: list[Tensor], time_B1: Tensor | None) -> None:
        self.memory, self.binding, self.given = ready.memory, ready.binding, given
        self.kernel, self.states = ready.memory.kernel, ready.memory.states
        memory, like = ready.memory, given[0]
        self.rows = ready.schedule.rows
        self.period = math.lcm(*(state.depth + 1 for state in self.states))
        _, arrays, initial, _ = split(ready, given)
        self.arrays = tuple(arrays)
        self.block = torch.zeros(memory.kept.total, dtype=like.dtype, device="cpu")
        self.fresh = {slot: like.new_zeros(count) for slot, count in memory.given_out.items()}
        self._make_call(ready)
        for slot, values in self.fresh.items():
            set_pointer(ready, self.call, slot, values)
        self.rings: dict[str, Tensor] = {}
        for state, value in zip(self.states, initial, strict=True):
            shape = state.depth + 1, self.rows, self.binding.width(state.name)
            ring = like.new_zeros(shape)
            begin(ring.view(-1, shape[2]), value, state.depth)
            self.rings[state.name] = ring
            set_pointer(ready, self.call, Slot("state", state.name), ring)
        self.time_B = None if time_B1 is None else time_B1[:, 0].clone()
        if self.time_B is not None:
            set_pointer(ready, self.call, Slot("time"), self.time_B)
        self.step, self.steps = 0, 0
        self._pack = True

    def _make_call(self, ready: Prepared) -> None:
        loaded = self.binding.loaded
        self.tables = self._tables()
        sizes = self.memory.sizes | {"T": self.period, "threads": 1, "parts": 1, "by_units": 0}
        # The struct stays where it is: only the input and the step change from call to call.
        self.call = call_of(ready, self.given)
        blank = loaded.new_call([table.data_ptr() for table in self.tables], sizes)
        self.call[len(loaded.emitted.pointers) :] = blank[len(loaded.emitted.pointers) :]
        set_block(self.call, self.memory.kept_slots, self.block)
        self.reference = ctypes.c_void_p(self.call.buffer_info()[0])
        self.slots, self.function = loaded.slots, loaded.forward

    def _tables(self) -> list[Tensor]:
        zeros = torch.zeros(self.period, dtype=torch.long, device="cpu")
        tables = [zeros + self.rows, zeros, zeros]
        tables += [
            torch.arange(state.depth + self.period, device="cpu") % (state.depth + 1) * self.rows
            for state in self.states
        ]
        return [*tables, torch.tensor([0, self.rows], device="cpu")]

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Run one step; return the output, (B, W)."""
        call, slots = self.call, self.slots
        x_BI = x_BI.contiguous()
        if Slot("x") in slots:
            call[slots[Slot("x")]] = x_BI.data_ptr()
        products = [
            times_transposed(x_BI, self.binding.weight(stream, self.arrays)) for stream in self.kernel.streams
        ]
        for number, product in enumerate(products):
            call[slots[Slot("stream", number)]] = product.data_ptr()
        call[slots[Slot("size", "first")]], call[slots[Slot("size", "last")]] = self.step, self.step + 1
        call[slots[Slot("size", "pack")]] = self._pack
        self.function(self.reference)
        self._pack = False
        output = self._output()
        self.step, self.steps = self.step + 1, self.steps + 1
        if self.step == self.period:
            self.step = 0
            if self.time_B is not None:
                self.time_B += self.period
        return output

    def _output(self) -> Tensor:
        name = self.kernel.plan.system.output.name
        ring = self.rings.get(name)
        if ring is None:
            return self.fresh[Slot("saved", name)].view(self.rows, -1).clone()
        return ring[(ring.shape[0] - 1 + self.step) % ring.shape[0]].clone()

    def carried(self) -> dict[str, Tensor]:
        """The states as a layer returns them, the last D values side by side, newest first."""
        found = {}
        for state in self.states:
            ring = self.rings[state.name]
            slots = [(state.depth + self.step - 1 - back) % (state.depth + 1) for back in range(state.depth)]
            found[state.name] = torch.cat([ring[slot] for slot in slots], -1)
        if self.time_B is not None:
            found["t"] = (self.time_B + self.step)[:, None]
        return found
