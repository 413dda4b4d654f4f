"""Which back end runs a pass: the one asked for, or the first that can; whole, in segments, or as one operator."""

from __future__ import annotations

import functools
import math
import warnings

import torch

from unvanish import torch_internals
from unvanish.checks import is_whole
from unvanish.engine.backend import BackEnd
from unvanish.engine.builtin import Builtin
from unvanish.engine.ir.plan import Plan
from unvanish.engine.layout import Stack
from unvanish.engine.leaving import leaves_python, write_out
from unvanish.engine.native.backend import Native
from unvanish.engine.native.build import no_compiler
from unvanish.engine.operator import Registered, run_as_operator
from unvanish.engine.operator import register as _register
from unvanish.engine.reference import Reference
from unvanish.engine.segments import run_in_segments
from unvanish.engine.sequence import Pass, Result
from unvanish.engine.stepper import PlainStepper, Stepper
from unvanish.errors import ExportError, OptionError, nearest

_ALL: tuple[BackEnd, ...] = (Native(), Builtin(), Reference())
BACK_ENDS = {back_end.name: back_end for back_end in _ALL}  # in the order in which `auto` tries them
ENGINES = ("auto", *reversed(BACK_ENDS))


def check_engine(engine: str) -> str:
    """Refuse what is not the name of a back end."""
    if engine not in ENGINES:
        raise OptionError(f"unknown engine {engine!r}: {nearest(str(engine), ENGINES)}")
    return engine


def check_memory(memory: str | int) -> str | int:
    """Refuse what is neither `fast`, nor `lean`, nor the length of a segment."""
    if memory in ("fast", "lean"):
        return memory
    if is_whole(memory) and memory > 0:
        return int(memory)
    raise OptionError(f"memory={memory!r}: give 'fast', 'lean', or the number of steps in a segment")


def register(plan: Plan, stacks: tuple[Stack, ...], engine: str, memory: str | int, name: str) -> Registered:
    """Make a layer known to the operator that graphs hold, as long as what is returned is held."""
    return _register(
        plan, stacks, functools.partial(_eager, engine=engine, memory=memory), f"{name}-{engine}-{memory}"
    )


def run(
    job: Pass, engine: str = "auto", memory: str | int = "fast", registered: Registered | None = None
) -> Result:
    """Run a plan over a sequence on a back end.

    `auto` takes the native kernels on the CPU, where there is a compiler, then torch's fused kernels for the cells
    that these are, then plain torch. A single pass that a back end cannot do (a second derivative, say) goes to
    `reference` by itself. Equations that are beyond a back end that was asked for by name are an `OptionError`.

    `memory` is `fast`, `lean` (segments of ⌈√T⌉ steps are recomputed in the backward pass) or the number of steps
    in such a segment. `registered` is what `register` returned: while a graph is traced, or a mode of torch looks
    at every operation, the pass becomes one operator; in a graph that leaves Python, operators of torch or ONNX.
    """
    listens = bool(job.normalisers) or any(tap.needs != "norms" for tap in job.taps)
    if not torch.compiler.is_compiling() and torch_internals.by_example():
        return _traced(job, engine, None if listens else registered)
    if leaves_python():
        return write_out(job)
    graph = registered is not None and engine in ("auto", "native") and not listens
    if graph and job.x_TBI.device.type == "cpu" and torch_internals.sees_operators(job.x_TBI):
        assert registered is not None
        return run_as_operator(job, registered)
    return _eager(job, engine, memory)


def _traced(job: Pass, engine: str, registered: Registered | None) -> Result:
    """Run so that what is recorded holds for an input of any length: as torch's own layer, or as one operator."""
    fused = BACK_ENDS["builtin"]
    if engine != "reference" and fused.unsupported(job) is None:
        return fused.run(job)
    if torch.onnx.is_in_onnx_export():
        raise ExportError(f"torch.onnx.export(dynamo=False) knows no loop for {job.name}: use dynamo=True")
    if registered is None:
        raise OptionError(
            "torch.jit.trace records one length of this layer's loop, which would be wrong for any other, because "
            "the layer is clipped, penalised or normalised step by step: use torch.export, or take that off first"
        )
    return run_as_operator(job, registered)


def stepper(job: Pass, engine: str) -> Stepper:
    """Return what runs a plan one step per call, from the states of `job` on; its input is a blank."""
    for back_end in BACK_ENDS.values() if engine == "auto" else [BACK_ENDS[engine]]:
        if back_end.unsupported(job) is None:
            found = back_end.stepper(job)
            if found is not None:
                return found
    return PlainStepper(job, functools.partial(_run_whole, engine=engine))


def _eager(job: Pass, engine: str, memory: str | int) -> Result:
    length = _segment_length(job, memory)
    if length is None:
        return _run_whole(job, engine)
    return run_in_segments(job, length, functools.partial(_run_whole, engine=engine))


def _segment_length(job: Pass, memory: str | int) -> int | None:
    """How many steps a segment has; None where nothing is gained, or a tap listens to all steps."""
    steps = job.x_TBI.shape[0]
    length = math.isqrt(steps - 1) + 1 if memory == "lean" else memory
    watched = any(tap.needs != "clip" for tap in job.taps)
    return (
        length if isinstance(length, int) and length < steps and torch.is_grad_enabled() and not watched else None
    )


def _run_whole(job: Pass, engine: str) -> Result:
    reference = BACK_ENDS["reference"]
    if engine == "auto":
        found = next((one for one in BACK_ENDS.values() if one.unsupported(job) is None), reference)
        if found is reference and job.x_TBI.device.type == "cpu":
            _tell_what_is_missing()
        return found.run(job)
    unsupported = BACK_ENDS[engine].unsupported(job)
    if unsupported is None:
        return BACK_ENDS[engine].run(job)
    if unsupported.lasting:
        raise OptionError(f"engine='{engine}' cannot run this layer: {unsupported.reason}; use engine='auto'")
    return reference.run(job)


@functools.lru_cache(maxsize=1)
def _tell_what_is_missing() -> None:
    reason = no_compiler()
    if reason is not None:
        warnings.warn(f"running in plain torch, step by step, which is slow: {reason}", stacklevel=2)
