"""The native back end: C++ for the CPU, emitted from the plan, compiled once.

Shapes: T time, B batch, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unvanish.engine.hoist import Hoisted
from unvanish.engine.native.build import compiler
from unvanish.engine.native.kernel import LANES, NativePass, load
from unvanish.engine.native.lower import Kernel, lower
from unvanish.engine.native.lower import refusal as not_lowered
from unvanish.engine.native.product import linear
from unvanish.engine.plan import Group, Plan
from unvanish.engine.sequence import Result, Run

__all__ = ["cannot_plan", "cannot_run", "run_native"]


def cannot_plan(plan: Plan) -> str | None:
    """Say why this back end can run no pass of a plan, or None."""
    if compiler() is None:
        return "no C++ compiler was found: install g++ (Debian: apt-get install g++), or set CXX"
    return not_lowered(plan)


def cannot_run(run: Run) -> str | None:
    """Say why this back end cannot do one pass of a plan that it can run, or None."""
    if run.x_TBI.device.type != "cpu" or run.x_TBI.dtype not in LANES:
        return f"the native kernels run float32 and float64 on the CPU, not {run.x_TBI.dtype} on {run.x_TBI.device}"
    if run.observer is not None:
        return "this pass is being recorded step by step"
    if run.lengths_B is not None:
        return "rows of different lengths are not emitted yet"
    if torch._C._functorch.maybe_current_level() is not None:
        return "function transforms see through plain torch only"
    return None if load(lower(run.plan), run.x_TBI.dtype) else "the compiler failed"


def run_native(run: Run) -> Result:
    """Run a plan over a sequence in C++, where nothing speaks against it."""
    kernel, hoisted = lower(run.plan), Hoisted(run, linear)
    dtype, system = run.x_TBI.dtype, run.plan.system
    given = [*_streams(kernel, hoisted), *_vectors(kernel, hoisted, run)]
    given += [run.weights.side_by_side(group.matrices) for group in kernel.groups]
    given += [run.states[state.name] for state in system.states]
    time = None if run.time_B1 is None else run.time_B1[:, 0].to(dtype).contiguous()
    found = NativePass.apply(load(kernel, dtype), run.x_TBI.shape[:2], time, *given)  # type: ignore[no-untyped-call]
    steps = {state.name: found[2 * index] for index, state in enumerate(system.states)}
    final = {state.name: found[2 * index + 1] for index, state in enumerate(system.states)}
    return Result(steps.get(system.output.name, found[-1]), final, steps if run.wants_all_states else None)


def _streams(kernel: Kernel, hoisted: Hoisted) -> list[Tensor]:
    return [
        hoisted.groups[stream] if isinstance(stream, Group) else hoisted.over_time[stream.name]
        for stream in kernel.streams
    ]


def _vectors(kernel: Kernel, hoisted: Hoisted, run: Run) -> list[Tensor]:
    widths = {state.width: run.states[state.name].shape[-1] // state.depth for state in run.plan.system.states}
    widths["input"] = run.x_TBI.shape[-1]
    for group in kernel.groups:
        widths[group.products[0].width] = run.weights[group.matrices[0]].shape[0]
    return [hoisted.timeless[name].expand(widths[kernel.widths[name]]) for name in kernel.vectors]
