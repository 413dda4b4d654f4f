"""One step at a time, for streams: weights packed once, memory taken once, one call a step.

Shapes: B batch, I input, W width, D depth in time.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from unvanish.engine.native.passes import Job, begin, pointers_of, split
from unvanish.engine.native.product import times_transposed


class Stepper:
    """Runs a kernel forward, a step a call, with the weights as they were when it was made.

    The states lie in rings of D + 1 steps, so that nothing is moved: after as many steps as all rings have in
    common, the step index begins again.
    """

    def __init__(self, job: Job, given: list[Tensor], time_B1: Tensor | None) -> None:
        self.memory, self.binding, self.given = job.memory, job.binding, given
        self.kernel, self.states = job.memory.kernel, job.memory.states
        memory, like = job.memory, given[0]
        self.rows = job.schedule.rows
        _, arrays, initial, _ = split(job, given)
        self.arrays = tuple(arrays)
        self.block = torch.zeros(memory.kept.total, dtype=like.dtype)
        self.fresh = {meaning: like.new_zeros(count) for meaning, count in memory.given_out.items()}
        pointers = pointers_of(job, given) | memory.kept.pointers(self.block)
        pointers |= {meaning: array.data_ptr() for meaning, array in self.fresh.items()}
        self.rings: dict[str, Tensor] = {}
        for state, value in zip(self.states, initial, strict=True):
            shape = state.depth + 1, self.rows, self.binding.width(state.name)
            ring = like.new_zeros(shape)
            begin(ring.view(-1, shape[2]), value, state.depth)
            self.rings[state.name] = ring
            pointers[f"state {state.name}"] = ring.data_ptr()
        self.period = math.lcm(*(state.depth + 1 for state in self.states))
        self.time_B = None if time_B1 is None else time_B1[:, 0].to(like.dtype).contiguous()
        if self.time_B is not None:
            pointers["time"] = self.time_B.data_ptr()
        self.step, self.steps = 0, 0
        self._make_call(pointers)
        self._pack = True

    def _make_call(self, pointers: Mapping[str, int]) -> None:
        emitted = self.binding.loaded.emitted
        self.tables = self._tables()
        sizes = self.memory.sizes | {"T": self.period, "threads": 1, "parts": 1, "by_units": 0}
        self.call = self.binding.loaded.call(
            *[pointers.get(meaning) for meaning in emitted.pointers],
            *[table.data_ptr() for table in self.tables],
            *[sizes.get(size, 0) for size in emitted.sizes],
        )
        self.fields = {meaning: f"p{number}" for number, meaning in enumerate(emitted.pointers)}
        self.fields |= {f"size {size}": f"s{number}" for number, size in enumerate(emitted.sizes)}
        self.reference = ctypes.byref(self.call)
        self.function = self.binding.loaded.forward

    def _tables(self) -> list[Tensor]:
        zeros = torch.zeros(self.period, dtype=torch.long)
        tables = [zeros + self.rows, zeros, zeros]
        tables += [torch.arange(state.depth + self.period) % (state.depth + 1) * self.rows for state in self.states]
        return [*tables, torch.tensor([0, self.rows])]

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Run one step; return the output, (B, W)."""
        call, fields = self.call, self.fields
        x_BI = x_BI.contiguous()
        if "x" in fields:
            setattr(call, fields["x"], x_BI.data_ptr())
        products = [
            times_transposed(x_BI, self.binding.weight(stream, self.arrays)) for stream in self.kernel.streams
        ]
        for number, product in enumerate(products):
            setattr(call, fields[f"stream {number}"], product.data_ptr())
        setattr(call, fields["size first"], self.step)
        setattr(call, fields["size last"], self.step + 1)
        setattr(call, fields["size pack"], self._pack)
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
            return self.fresh[f"saved {name}"].view(self.rows, -1).clone()
        return ring[(ring.shape[0] - 1 + self.step) % ring.shape[0]].clone()

    def carried(self) -> dict[str, Tensor]:
        """The states as a layer returns them, the last D values side by side, newest first."""
        found = {}
        for state in self.states:
            ring = self.rings[state.name]
            slots = [(state.depth + self.step - 1 - back) % (state.depth + 1) for back in range(state.depth)]
            found[state.name] = torch.cat([ring[slot] for slot in slots], -1)
        if self.time_B is not None:
            found["t"] = (self.time_B + self.step).long()[:, None]
        return found
