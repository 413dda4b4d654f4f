"""Where did a non-finite loss or gradient come from: the first time step, the first parameter.

Shapes: T time, B batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unvanish import flow
from unvanish.nn import States
from unvanish.train.model import Network, unheard
from unvanish.train.questions import Question

FINITE = "all parameters and their gradients are finite"


def explain(model: Network, question: Question, x: Any, y: Any, states: States | None) -> str:
    """Run a batch that went wrong once more, step by step, and say where its numbers stopped being finite."""
    model.zero_grad(set_to_none=True)
    with torch.enable_grad(), unheard(model.recurrent), flow.record(model) as recording:
        answer, _ = model(x, states)
        loss = question.loss(model, answer, y)
        loss.backward()  # type: ignore[no-untyped-call]
        loss_TB = question.at_steps(model, answer, y)
    forward = None if loss_TB is None else _first(~torch.isfinite(loss_TB).all(1))
    if forward is not None:
        where = f"the loss is first non-finite at time step {forward} of the window"
    elif not bool(torch.isfinite(loss)):
        where = "the loss is not finite"
    else:
        where = f"the loss is finite, its gradient first overflows going back to time step {_backward(recording)}"
    return f"{where}; {_parameter(model)}"


def _parameter(model: Network) -> str:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the first parameter that holds one is {name}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"all parameters are finite, the first whose gradient is not is {name}"
    return FINITE


def _backward(recording: flow.Recording) -> str:
    """The backward pass runs from the last step to the first: the latest non-finite step is where it began."""
    for name in reversed(list(recording)):
        faults = torch.nonzero(~torch.isfinite(recording[name].norms).all(1))
        if len(faults):
            return f"{int(faults[-1])} of {name}"
    return "none: only the sum over all steps overflows"


def _first(mask_T: Tensor) -> int | None:
    found = torch.nonzero(mask_T)
    return int(found[0]) if len(found) else None
