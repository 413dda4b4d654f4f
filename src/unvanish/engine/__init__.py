"""System -> plan -> running code. A back end is a way to run a plan; all agree with `reference`."""

from __future__ import annotations

import functools
import math
import warnings

import torch

from unvanish.engine import builtin, native, tracing
from unvanish.engine.arrays import evaluate
from unvanish.engine.clipping import StepClip
from unvanish.engine.hoist import Timeless
from unvanish.engine.ir.plan import Plan, make_plan
from unvanish.engine.layout import Stack, Weights, layout
from unvanish.engine.operator import Registered, run_as_operator
from unvanish.engine.operator import register as _register
from unvanish.engine.reference import run_reference
from unvanish.engine.segments import run_in_segments
from unvanish.engine.sequence import Observer, Result, Run, final_time
from unvanish.engine.stepper import PlainStepper, Stepper
from unvanish.engine.tape import Tape
from unvanish.errors import OptionError, nearest

__all__ = [
    "ENGINES",
    "Observer",
    "Plan",
    "Registered",
    "Result",
    "Run",
    "Stack",
    "StepClip",
    "Stepper",
    "Tape",
    "Weights",
    "check_engine",
    "check_memory",
    "evaluate",
    "final_time",
    "layout",
    "make_plan",
    "register",
    "run",
    "stepper",
]

ENGINES = ("auto", "reference", "builtin", "native")
_BACK_ENDS = {"native": (native, native.run_native), "builtin": (builtin, builtin.run_builtin)}


def check_engine(engine: str) -> str:
    """Refuse what is not the name of a back end."""
    if engine not in ENGINES:
        raise OptionError(f"unknown engine {engine!r}: {nearest(str(engine), ENGINES)}")
    return engine


def check_memory(memory: str | int) -> str | int:
    """Refuse what is neither `fast`, nor `lean`, nor the length of a segment."""
    if memory in ("fast", "lean") or (isinstance(memory, int) and not isinstance(memory, bool) and memory > 0):
        return memory
    raise OptionError(f"memory={memory!r}: give 'fast', 'lean', or the number of steps in a segment")


def register(plan: Plan, stacks: tuple[Stack, ...], engine: str, memory: str | int, name: str) -> Registered:
    """Make a layer known to the operator that graphs hold, as long as what is returned is held."""
    return _register(
        plan, stacks, functools.partial(_eager, engine=engine, memory=memory), f"{name}-{engine}-{memory}"
    )


def run(job: Run, engine: str = "auto", memory: str | int = "fast", registered: Registered | None = None) -> Result:
    """Run a plan over a sequence on a back end.

    `auto` takes the native kernels on the CPU, where there is a compiler, then torch's fused kernels for the cells
    that these are, then plain torch. A single pass that a back end cannot do (a second derivative, say) goes to
    `reference` by itself. Equations that are beyond a back end that was asked for by name are an `OptionError`.

    `memory` is `fast`, `lean` (segments of ⌈√T⌉ steps are worked out again in the backward pass) or the number of
    steps in such a segment. `registered` is what `register` returned: while a graph is traced, or a mode of torch
    looks at every operation, the pass becomes one operator.
    """
    listens = job.step_clip is not None or job.tape is not None or bool(job.normalisers)
    if not torch.compiler.is_compiling() and tracing.by_example():
        return _traced(job, engine, None if listens else registered)
    graph = registered is not None and engine in ("auto", "native") and not listens
    if graph and job.x_TBI.device.type == "cpu" and tracing.sees_operators(job.x_TBI):
        assert registered is not None
        return run_as_operator(job, registered.word, Timeless(job).__getitem__)
    return _eager(job, engine, memory)


def _traced(job: Run, engine: str, registered: Registered | None) -> Result:
    """Run so that what is recorded holds for an input of any length: as torch's own layer, or as one operator."""
    is_torchs = engine != "reference" and builtin.cannot_plan(job.plan) is None
    if is_torchs and builtin.cannot_run(job) is None:
        return builtin.run_builtin(job)
    if registered is None:
        raise OptionError(
            "torch.jit.trace records one length of this layer's loop, which would be wrong for any other, because "
            "the layer is clipped, penalised or normalised step by step: use torch.export, or take that off first"
        )
    return run_as_operator(job, registered.word, Timeless(job).__getitem__)


def stepper(job: Run, engine: str) -> Stepper:
    """Make ready to run a plan a step a call, from the states of `job` on; its input is a blank."""
    asked = engine in ("auto", "native")
    if asked and native.cannot_plan(job.plan) is None and native.cannot_run(job) is None:
        return native.stepper(job)
    return PlainStepper(job, functools.partial(_run_whole, engine=engine))


def _eager(job: Run, engine: str, memory: str | int) -> Result:
    length = _segment_length(job, memory)
    if length is None:
        return _run_whole(job, engine)
    return run_in_segments(job, length, functools.partial(_run_whole, engine=engine))


def _segment_length(job: Run, memory: str | int) -> int | None:
    """How many steps a segment has; None where nothing is gained, or a watcher wants to see every step."""
    steps = job.x_TBI.shape[0]
    length = math.isqrt(steps - 1) + 1 if memory == "lean" else memory
    watched = job.observer is not None or job.tape is not None
    return (
        length if isinstance(length, int) and length < steps and torch.is_grad_enabled() and not watched else None
    )


def _run_whole(job: Run, engine: str) -> Result:
    if engine == "reference":
        return run_reference(job)
    if engine != "auto":
        back_end, start = _BACK_ENDS[engine]
        reason = back_end.cannot_plan(job.plan)
        if reason is not None:
            raise OptionError(f"engine='{engine}' cannot run this layer: {reason}; use engine='auto'")
        return start(job) if back_end.cannot_run(job) is None else run_reference(job)
    for back_end, start in _BACK_ENDS.values():
        if back_end.cannot_plan(job.plan) is None and back_end.cannot_run(job) is None:
            return start(job)
    if job.x_TBI.device.type == "cpu":
        _tell_what_is_missing()
    return run_reference(job)


@functools.lru_cache(maxsize=1)
def _tell_what_is_missing() -> None:
    reason = native.no_compiler()
    if reason is not None:
        warnings.warn(f"running in plain torch, step by step, which is slow: {reason}", stacklevel=2)
