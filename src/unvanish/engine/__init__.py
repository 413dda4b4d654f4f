"""System -> plan -> running code. A back end is a way to run a plan; all agree with `reference`."""

from __future__ import annotations

from unvanish.engine import builtin, native
from unvanish.engine.layout import Stack, Weights, layout
from unvanish.engine.plan import Plan, make_plan
from unvanish.engine.reference import run_reference
from unvanish.engine.sequence import Observer, Result, Run, final_time
from unvanish.errors import OptionError, nearest

__all__ = [
    "ENGINES",
    "Observer",
    "Plan",
    "Result",
    "Run",
    "Stack",
    "Weights",
    "check_engine",
    "final_time",
    "layout",
    "make_plan",
    "run",
]

ENGINES = ("auto", "reference", "builtin", "native")


def check_engine(engine: str) -> str:
    """Refuse what is not the name of a back end."""
    if engine not in ENGINES:
        raise OptionError(f"unknown engine {engine!r}: {nearest(str(engine), ENGINES)}")
    return engine


def run(job: Run, engine: str = "auto") -> Result:
    """Run a plan over a sequence on a back end; `auto` takes torch's fused kernels where they can do it.

    A single pass that a back end cannot do (one that is recorded, say) goes to `reference` by itself. Equations
    that are beyond a back end that was asked for by name are an `OptionError`.
    """
    if check_engine(engine) == "reference":
        return run_reference(job)
    backend = native if engine == "native" else builtin
    reason = backend.cannot_plan(job.plan)
    if reason is not None and engine != "auto":
        raise OptionError(f"engine='{engine}' cannot run this layer: {reason}; use engine='auto'")
    if reason is not None or backend.cannot_run(job) is not None:
        return run_reference(job)
    return native.run_native(job) if engine == "native" else builtin.run_builtin(job)
