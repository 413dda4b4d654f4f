"""System -> plan -> running code. A back end is a way to run a plan; all agree with `reference`."""

from __future__ import annotations

from collections.abc import Callable

from unvanish.engine.builtin import refusal, run_builtin
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

ENGINES = ("auto", "reference", "builtin")


def check_engine(engine: str) -> str:
    """Refuse what is not the name of a back end."""
    if engine not in ENGINES:
        raise OptionError(f"unknown engine {engine!r}: {nearest(str(engine), ENGINES)}")
    return engine


def run(job: Run, engine: str = "auto") -> Result:
    """Run a plan over a sequence on a back end; `auto` takes the fastest that can do it.

    A pass that `builtin` cannot do goes to `reference` by itself, except where torch has no kernel for the
    equations at all and `builtin` was asked for by name: that is an `OptionError`.
    """
    reason = refusal(job) if check_engine(engine) != "reference" else "reference was asked for"
    if engine == "builtin" and reason is not None and job.observer is None and not job.wants_all_states:
        raise OptionError(f"engine='builtin' cannot run this layer: {reason}; use engine='auto'")
    backend: Callable[[Run], Result] = run_builtin if reason is None else run_reference
    return backend(job)
