"""What `diagnose` is asked: a model, a batch as people have it, and a loss."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

from unvanish.errors import FlowError
from unvanish.flow.finding.calling import arguments, called
from unvanish.flow.finding.untouched import same_start


@dataclass(frozen=True)
class Question:
    """What `diagnose` is asked.

    `target` is what the loss takes beside the model's output, if it takes two; `say` is told what is being done.
    """

    model: nn.Module
    batch: Any
    loss: Any
    need: int | None
    data: Any
    optimizer: torch.optim.Optimizer | None
    step: Callable[[], Any] | None
    cells: tuple[str, ...]
    prescriptions: bool
    seed: int
    say: Callable[[str], None]
    target: tuple[Any, ...] = ()

    def run(self, model: nn.Module) -> Tensor:
        """Run a model, or a copy of it, with the batch, and return its loss."""
        with same_start(model):
            value: Tensor = self.loss(called(model, self.batch), *self.target)
            return value


def understood(asked: Question) -> Question:
    """Bring the batch into tensors; where the loss takes two, the batch's last is the target.

    Raises:
        FlowError: the batch is of a kind that no model takes, or that this one does not.
    """
    batch = next(iter(asked.batch), None) if isinstance(asked.batch, DataLoader) else asked.batch
    batch = _tensors(batch, next((p.dtype for p in asked.model.parameters()), torch.float32))
    if batch is None or isinstance(batch, int | float | bool):
        raise FlowError(f"the batch is {batch!r}: give what the model is called with, such as a tensor")
    if _takes(asked.loss) != 2:
        _check_call(asked.model, batch, "")
        return dataclasses.replace(asked, batch=batch)
    if not isinstance(batch, tuple) or len(batch) < 2:
        raise FlowError("the loss takes an output and a target: give the batch as (input, target)")
    inputs = batch[0] if len(batch) == 2 else batch[:-1]
    _check_call(asked.model, inputs, "; the loss takes two, so that the batch's last is its target")
    return dataclasses.replace(asked, batch=inputs, target=(batch[-1],))


def check_kinds(asked: Question) -> None:
    """Refuse a class where an instance is meant, and a model and a batch in the wrong order.

    Raises:
        FlowError: the model, the optimizer or the loss is none.
    """
    _check_made("model", asked.model, nn.Module, ", then the batch and the loss")
    if asked.optimizer is not None:
        _check_made("optimizer", asked.optimizer, torch.optim.Optimizer)
    if isinstance(asked.loss, type):
        raise FlowError(f"the loss is a class: give one that was made, {asked.loss.__name__}()")
    if not callable(asked.loss):
        told = type(asked.loss).__name__
        raise FlowError(f"the loss is a {told}: give what makes one number of the model's output, a function")


def _check_made(name: str, given: Any, kind: type, order: str = "") -> None:
    if isinstance(given, type):
        raise FlowError(f"the {name} is a class: give one that was made, {given.__name__}(…)")
    if not isinstance(given, kind):
        raise FlowError(f"the {name} is a {type(given).__name__}: give a torch {kind.__name__}{order}")


def _check_call(model: nn.Module, batch: Any, told: str) -> None:
    """Refuse a batch that the model's forward has no places for."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # what is scripted, or of C
        return
    if isinstance(model, torch.jit.ScriptModule):
        return
    try:
        if isinstance(batch, Mapping):
            signature.bind(**batch)
        else:
            signature.bind(*arguments(batch))
    except TypeError as fault:
        raise FlowError(f"the model cannot be called with the batch: {fault}{told}") from fault


def _tensors(value: Any, dtype: torch.dtype) -> Any:
    """Bring arrays into tensors, those with a fraction into the type of the model."""
    if isinstance(value, Tensor | PackedSequence):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise FlowError(f"the batch has an array of {value.dtype}: give numbers")
        found = torch.as_tensor(value)
        return found.to(dtype) if found.is_floating_point() else found
    if isinstance(value, Mapping):
        return {key: _tensors(inner, dtype) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_tensors(inner, dtype) for inner in value))
    if isinstance(value, list | tuple):
        return tuple(_tensors(inner, dtype) for inner in value)
    if value is None or isinstance(value, int | float | bool):
        return value
    raise FlowError(
        f"the batch is, or holds, a {type(value).__name__}: give a tensor, an array, a tuple of arguments, a "
        "mapping of keywords, or a DataLoader"
    )


def _takes(loss: Any) -> int:
    """How many arguments a loss cannot do without."""
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
    except (TypeError, ValueError):  # a function of C
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds and one.default is inspect.Parameter.empty for one in parameters)
