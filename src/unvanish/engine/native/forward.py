"""The forward pass of a kernel over a sequence: the output of all steps, the final states, all states if asked for.

Everything else lies in one block of memory that is used again.

Shapes: N values of all steps, P rows (pieces), W width, D depth in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unvanish.engine.native.places import Slot
from unvanish.engine.native.prepared import Prepared, call_of, set_block, set_pointer, split
from unvanish.engine.native.schedule import Schedule
from unvanish.engine.product import times_transposed


def forward(ready: Prepared, given: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Run a kernel over all steps; return the outputs, and what the backward pass reads again."""
    memory, binding, schedule = ready.memory, ready.binding, ready.schedule
    x_NI, arrays, states, _ = split(ready, given)
    block = binding.loaded.arena.take(memory.kept.total, x_NI)
    fresh = {slot: x_NI.new_empty(count) for slot, count in memory.given_out.items()}
    call = call_of(ready, given)
    set_block(call, memory.kept_slots, block)
    for slot, values in fresh.items():
        set_pointer(ready, call, slot, values)
    pasts = []
    for state, initial in zip(memory.states, states, strict=True):
        slot, width = Slot("state", state.name), binding.width(state.name)
        past = fresh[slot].view(-1, width) if slot in fresh else memory.kept.view(block, slot, -1, width)
        begin(past, initial, state.depth)
        pasts.append(past)
    streams = memory.kernel.streams
    for first, last in memory.chunks if streams else [(0, schedule.steps)]:
        rows = x_NI[schedule.starts[first] : schedule.starts[last]]
        products = [times_transposed(rows, binding.weight(stream, tuple(arrays))) for stream in streams]
        for number, product in enumerate(products):
            set_pointer(ready, call, Slot("stream", number), product)
        memory.set_steps(call, first, last, pack=first == 0)
        binding.loaded.run(binding.loaded.forward, call)
    return _outputs(ready, pasts, fresh), [block, *fresh.values()]


def begin(past: Tensor, initial: Tensor, depth: int) -> None:
    """Put the initial values, newest first side by side, before the first step, oldest first."""
    rows = initial.shape[0]
    for back, part in enumerate(initial.chunk(depth, -1) if depth > 1 else (initial,)):
        past[(depth - 1 - back) * rows : (depth - back) * rows] = part


def _outputs(ready: Prepared, pasts: list[Tensor], fresh: dict[Slot, Tensor]) -> list[Tensor]:
    """The output of all steps, the final states, the states of all steps."""
    memory, schedule, name = ready.memory, ready.schedule, ready.memory.kernel.plan.system.output.name
    finals, steps = [], {}
    for state, past in zip(memory.states, pasts, strict=True):
        finals.append(_final(schedule, past, state.depth, not memory.is_whole(state.name)))
        if state.name == name or memory.wants_all:
            steps[state.name] = _no_view(past[state.depth * schedule.rows :])
    if name in steps:
        output = steps[name].clone() if memory.wants_all else steps[name]
    else:
        output = _no_view(fresh[Slot("saved", name)].view(-1, memory.binding.width(name)))
    return [output, *finals, *(steps.values() if memory.wants_all else ())]


def _no_view(values: Tensor) -> Tensor:
    """The same memory, not as a view: torch lets nobody change a view that a function of autograd returns."""
    return values.new_empty(0).set_(
        values.untyped_storage(), values.storage_offset(), values.shape, values.stride()
    )


def _final(schedule: Schedule, past: Tensor, depth: int, ring: bool) -> Tensor:
    rows = schedule.rows
    if schedule.lengths_P is not None:
        return torch.cat([past[schedule.newest(depth, back, ring)] for back in range(depth)], -1)
    slots = [depth + schedule.steps - 1 - back for back in range(depth)]
    slots = [slot % (depth + 1) for slot in slots] if ring else slots
    parts = [past[slot * rows : (slot + 1) * rows] for slot in slots]
    return parts[0].clone() if depth == 1 else torch.cat(parts, -1)
