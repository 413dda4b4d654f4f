"""System -> plan -> running code. A back end is a way to run a plan; all agree with `reference`."""

from unvanish.engine.arrays import evaluate
from unvanish.engine.clipping import StepClip
from unvanish.engine.dispatch import BACK_ENDS, ENGINES, check_engine, check_memory, register, run, stepper
from unvanish.engine.ir.plan import Plan, make_plan
from unvanish.engine.layout import Stack, Weights, layout
from unvanish.engine.leaving import Target, leaving_python
from unvanish.engine.operator import Registered
from unvanish.engine.sequence import Pass, Result, final_time
from unvanish.engine.stepper import Stepper
from unvanish.engine.tap import Border, Tap, chain
from unvanish.engine.tape import Tape

__all__ = [
    "BACK_ENDS",
    "ENGINES",
    "Border",
    "Pass",
    "Plan",
    "Registered",
    "Result",
    "Stack",
    "StepClip",
    "Stepper",
    "Tap",
    "Tape",
    "Target",
    "Weights",
    "chain",
    "check_engine",
    "check_memory",
    "evaluate",
    "final_time",
    "layout",
    "leaving_python",
    "make_plan",
    "register",
    "run",
    "stepper",
]
