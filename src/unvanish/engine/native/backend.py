"""The native back end: what it can run, and a pass brought into the order that kernels take.

Shapes: T time, B batch, P rows of a schedule, N values of all steps, I input, W width, D depth in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unvanish import torch_internals
from unvanish.engine.backend import BackEnd
from unvanish.engine.clipping import StepClip
from unvanish.engine.hoist import Timeless
from unvanish.engine.ir.lower import Kernel, lower
from unvanish.engine.ir.plan import make_plan
from unvanish.engine.layout import Weights
from unvanish.engine.native import fallback, ready
from unvanish.engine.native.backward import backward
from unvanish.engine.native.binding import Binding, bind
from unvanish.engine.native.build import no_compiler
from unvanish.engine.native.forward import forward
from unvanish.engine.native.kernel import DTYPES, Loaded, comes_with_the_package, load
from unvanish.engine.native.memory import memory_of
from unvanish.engine.native.prepared import Prepared
from unvanish.engine.native.schedule import Schedule, even, uneven, with_resets
from unvanish.engine.native.stepper import Stepper
from unvanish.engine.sequence import Pass, Result
from unvanish.engine.shared import shared
from unvanish.engine.tape import Event, Tape
from unvanish.equations.backends import unsupported_by_native
from unvanish.equations.expression import Ref
from unvanish.equations.system import Mask, System

# An input so narrow is multiplied inside the loop over time, where its products never leave the caches; but the
# matrix passes through them at every step, which pays where enough rows share it, or where it is tiny.
FOLD_UP_TO, FOLD_FROM_ROWS, FOLD_ALWAYS_UP_TO = 512, 4, 16
STREAM_FOLD_UP_TO = 1024  # where there is one step, nothing is won by multiplying before it


class Native(BackEnd):
    """C++ emitted from the plan, compiled once, for float32 and float64 on the CPU."""

    name = "native"

    def available(self) -> bool:
        """Return whether there are kernels of the package, or a C++ compiler."""
        return ready.any_here() or no_compiler() is None

    def lasting_hindrance(self, system: System) -> str | None:
        """Return why the kernels cannot run these equations, or why there can be none of them; else None."""
        return unsupported_by_native(system) or (None if ready.any_here() and _came(system) else no_compiler())

    def hindrance(self, job: Pass) -> str | None:
        """Return why the kernels cannot run this pass, or None."""
        return _unsupported_pass(job)

    def run(self, job: Pass) -> Result:
        """Run a plan over a sequence in C++."""
        system = job.plan.system
        loaded = load(_kernel(job), job.x_TBI.dtype, job.name)
        assert loaded is not None  # unsupported() was asked
        widths = tuple(job.states[state.name].shape[-1] // state.depth for state in system.states)
        binding = bind(loaded, job.weights.stacks, job.x_TBI.shape[-1], widths)
        rows = _Rows(job)
        given = [rows.values(job.x_TBI), *_arrays(binding, job)]
        given += [rows.states(job.states[state.name]).contiguous() for state in system.states]
        given += [rows.mask(mask, job.masks[mask.name]) for mask in system.masks]
        saves = torch.is_grad_enabled() and any(array.requires_grad for array in given)
        kind = saves, job.wants_all_states, torch.get_num_threads(), job.x_TBI.dtype
        ready = Prepared(
            memory_of(binding, rows.schedule, *kind),
            rows.schedule,
            rows.time(job.time_B1),
            tuple(tap for tap in job.taps if tap.needs == "norms"),
            next((tap for tap in job.taps if isinstance(tap, StepClip)), None),
            _teller([tap for tap in job.taps if isinstance(tap, Tape)], rows, loaded),
        )
        found = _recorded(ready, job.weights, given) if saves else forward(ready, given)[0]
        count = len(system.states)
        finals = zip(system.states, found[1 : 1 + count], strict=True)
        final = {state.name: rows.finals(one) for state, one in finals}
        every = None
        if job.wants_all_states:
            steps = zip(system.states, found[1 + count :], strict=True)
            every = {state.name: rows.standing(one, final[state.name]) for state, one in steps}
        return Result(rows.padded(found[0]), final, every)

    def stepper(self, job: Pass) -> Stepper:
        """Return what runs a plan one step per call, with the weights packed once."""
        system = job.plan.system
        loaded = load(lower(job.plan, job.x_TBI.shape[-1] <= STREAM_FOLD_UP_TO), job.x_TBI.dtype, job.name)
        assert loaded is not None  # unsupported() was asked
        widths = tuple(job.states[state.name].shape[-1] // state.depth for state in system.states)
        binding = bind(loaded, job.weights.stacks, job.x_TBI.shape[-1], widths)
        with torch.no_grad():
            given = [job.x_TBI[0].contiguous(), *_arrays(binding, job)]
            given += [job.states[state.name].contiguous() for state in system.states]
            given += [job.masks[mask.name].contiguous() for mask in system.masks]
            once = even(1, job.x_TBI.shape[1])
            ready = Prepared(memory_of(binding, once, False, False, 1, job.x_TBI.dtype), once)
            return Stepper(ready, given, job.time_B1)


def _recorded(ready: Prepared, weights: Weights, given: Sequence[Tensor]) -> Sequence[Tensor]:
    found: Sequence[Tensor] = NativePass.apply(ready, weights, *given)  # type: ignore[no-untyped-call]
    return found


@shared(256)
def _came(system: System) -> bool:
    """Whether all kernels of these equations came with the package."""
    return all(comes_with_the_package(lower(make_plan(system), fold)) for fold in (True, False))


def _unsupported_pass(job: Pass) -> str | None:
    x_TBI = job.x_TBI
    if x_TBI.device.type != "cpu" or x_TBI.dtype not in DTYPES:
        return f"the native kernels run float32 and float64 on the CPU, not {x_TBI.dtype} on {x_TBI.device}"
    needs = [tap.needs for tap in job.taps]
    if "steps" in needs or ("norms" in needs and job.reset_TB is not None) or needs.count("clip") > 1:
        return "this pass is being recorded, or clipped twice, step by step"
    if x_TBI.shape[1] == 0 or x_TBI.shape[0] == 0:
        return "there is nothing to run"
    if torch_internals.inside_vmap_or_grad() or torch_internals.inside_forward_mode():
        return "function transforms see through plain torch only"
    if torch_internals.is_subclass(x_TBI):
        return "a tensor that takes its operations itself has no memory to work in"
    return None if load(_kernel(job), x_TBI.dtype, job.name) else "the compiler failed"


def _kernel(job: Pass) -> Kernel:
    _, rows, width = job.x_TBI.shape
    return lower(job.plan, width <= FOLD_ALWAYS_UP_TO or (width <= FOLD_UP_TO and rows >= FOLD_FROM_ROWS))


def _arrays(binding: Binding, job: Pass) -> list[Tensor]:
    """The stored arrays, then the loose vectors."""
    found = [job.weights.arrays[stack.name].contiguous() for stack in binding.stacks]
    if binding.loose:
        timeless = Timeless(job)
        found += [timeless[name].expand(binding.sizes[width]).contiguous() for name, width in binding.loose]
    return found


def _teller(tapes: Sequence[Tape], rows: _Rows, loaded: Loaded) -> Callable[[Event, Ref, Tensor], None] | None:
    if not tapes:
        return None

    def outer(adjoint_NJ: Tensor, x_NK: Tensor) -> Tensor:
        target_JK = x_NK.new_zeros(adjoint_NJ.shape[1], x_NK.shape[1])  # of no rows nothing is written
        loaded.add_outer(adjoint_NJ.contiguous(), x_NK.contiguous(), target_JK, False, torch.get_num_threads())
        return target_JK

    def tell(kind: Event, ref: Ref, values_NW: Tensor) -> None:
        for tape in tapes:
            tape.take(kind, ref, rows.padded(values_NW))

    for tape in tapes:
        tape.outer = outer
    return tell


class _Rows:
    """Brings what is padded into the order of a schedule, and back."""

    def __init__(self, job: Pass) -> None:
        self.steps, self.batch = job.x_TBI.shape[:2]
        self.lengths_B = job.lengths_B
        self.schedule = self._schedule(job)

    def _schedule(self, job: Pass) -> Schedule:
        if job.reset_TB is not None:
            return with_resets(job.reset_TB, self.lengths_B)
        if self.lengths_B is None:
            return even(self.steps, self.batch)
        return uneven(tuple(self.lengths_B.tolist()))

    def values(self, x_TBI: Tensor) -> Tensor:
        """Bring an array over time into (N, I)."""
        flat = x_TBI.contiguous().view(-1, x_TBI.shape[-1])
        return flat if self.schedule.source_N is None else flat.index_select(0, self.schedule.source_N)

    def states(self, state_BW: Tensor) -> Tensor:
        """Bring initial states into the order of the pieces; a piece that is not its row's first begins at zero."""
        schedule = self.schedule
        if schedule.row_P is None:
            return state_BW
        assert schedule.first_P is not None
        moved = state_BW.index_select(0, schedule.row_P)
        return moved if schedule.first_P.all() else torch.where(schedule.first_P[:, None], moved, 0.0)

    def mask(self, mask: Mask, array: Tensor) -> Tensor:
        """Bring a mask into the order of the pieces, or of all steps."""
        if mask.of == "step":
            return self.values(array)
        return (array if self.schedule.row_P is None else array.index_select(0, self.schedule.row_P)).contiguous()

    def time(self, time_B1: Tensor | None) -> Tensor | None:
        """The index of the first step of each piece."""
        if time_B1 is None:
            return None
        time_P = time_B1[:, 0]
        if self.schedule.row_P is not None and self.schedule.first_P is not None:
            time_P = torch.where(self.schedule.first_P, time_P[self.schedule.row_P], 0)
        return time_P.contiguous()

    def padded(self, values_NW: Tensor) -> Tensor:
        """Bring (N, W) back into (T, B, W), with zeros past the end of a row."""
        if self.schedule.source_N is not None:
            blank = values_NW.new_zeros(self.steps * self.batch, values_NW.shape[1])
            values_NW = blank.index_copy(0, self.schedule.source_N, values_NW)
        return values_NW.view(self.steps, self.batch, values_NW.shape[1])

    def finals(self, final_PW: Tensor) -> Tensor:
        """The final states of the rows."""
        return final_PW if self.schedule.last_B is None else final_PW.index_select(0, self.schedule.last_B)

    def standing(self, values_NW: Tensor, final_BW: Tensor) -> Tensor:
        """All states of all steps, (T, B, W): past its end a row's state stands still."""
        padded = self.padded(values_NW)
        if self.lengths_B is None:
            return padded
        here_TB = torch.arange(self.steps, device="cpu")[:, None] < self.lengths_B
        return torch.where(here_TB[:, :, None], padded, final_BW[:, : padded.shape[-1]])


class NativePass(torch.autograd.Function):
    """Forward and backward pass of a kernel over a sequence."""

    @staticmethod
    def forward(ctx: Any, ready: Prepared, weights: Weights, *given: Tensor) -> Any:
        outputs, kept = forward(ready, given)
        ctx.ready, ctx.weights, ctx.count = ready, weights, len(given)
        # The output of all steps lies where the backward pass reads it; a detached twin counts changes in place.
        ctx.twins = [output.detach() for output in outputs]
        ctx.versions = [torch_internals.changes(twin) for twin in ctx.twins]
        ctx.save_for_backward(*given, *kept)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        saved: Sequence[Tensor] = ctx.saved_tensors
        given, kept, needed = saved[: ctx.count], saved[ctx.count :], ctx.needs_input_grad[2:]
        if [torch_internals.changes(twin) for twin in ctx.twins] != ctx.versions:
            kept = forward(ctx.ready, given)[1]
        if fallback.needs_plain_torch(gradients):
            found = fallback.backward(ctx.ready, ctx.weights, given, gradients, needed)
        else:
            found = backward(ctx.ready, given, kept, gradients, needed)
        return (None, None, *found)
