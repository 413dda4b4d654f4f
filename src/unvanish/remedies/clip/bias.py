"""What clipping every mini-batch does to the mean gradient.

Shapes: P all parameters side by side.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.checks import whole_number
from unvanish.errors import FlowError, OptionError
from unvanish.flow.finding.calling import called
from unvanish.flow.finding.untouched import untouched
from unvanish.remedies.clip.backward import go_back
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.step import PerStep


@dataclass(frozen=True, slots=True)
class Bias:
    """The mean of clipped gradients against the clipped mean.

    Attributes:
        angle: between the two, in degrees: 0 where clipping the parts does not turn their mean.
        ratio: the norm of the mean of the clipped gradients over that of the clipped mean.
        acted: in which share of the parts the clip acted.
        parts: of how many parts the means are.
        nonfinite: how many further parts had a gradient that is not finite, and were left out.
    """

    angle: float
    ratio: float
    acted: float
    parts: int
    nonfinite: int


def bias(
    model: nn.Module,
    batch: Any,
    loss: Callable[..., Any],
    clip: Clip,
    *,
    parts: int = 8,
    dim: int = 1,
    targets: Any = None,
) -> Bias:
    """Split a batch by rows, and compare the mean of the parts' clipped gradients with the clipped mean.

    Clipping is not a linear map: where gradients are skewed, many small ones one way and a few long ones the other,
    cutting the long ones turns the mean step. Chen, Wu, Hong 2020, Understanding gradient clipping in private SGD:
    a geometric perspective; Qian et al. 2021, Understanding gradient clipping in incremental gradient methods.

    Args:
        model: it runs in training mode. Its gradients, modes and buffers are given back as they were.
        batch: what the model takes; a tuple is spread over its arguments, a mapping over their names.
        loss: makes one number, a mean over rows, of the model's output, or of it and the targets where given.
        clip: a copy of it is used, with the statistics that it has. A `PerStep` acts elsewhere and is refused.
        parts: into how many parts the rows are split, as evenly as they go.
        dim: where the rows are in tensors of two dimensions or more: 1 fits time first, (T, B, I); give 0 for
            batch_first and for (B, I). A tensor of one dimension has an entry for each row.
        targets: split as the batch is, and given to the loss.

    Raises:
        OptionError: the rows cannot be split so, or the clip is a `PerStep`.
        FlowError: no part has a finite gradient, or both means are zero.

    >>> from unvanish.remedies.clip.norm import ByNorm
    >>> model = nn.Linear(1, 1, bias=False)
    >>> x_BI = torch.tensor([[1.0], [1.0], [1.0], [-5.0]])  # the mean gradient is -0.5
    >>> bias(model, x_BI, lambda output: output.mean(), ByNorm(1.0), parts=4, dim=0)
    Bias(angle=180.0, ratio=1.0, acted=0.25, parts=4, nonfinite=0)
    """
    if isinstance(clip, PerStep):
        raise OptionError("a PerStep acts inside the backward pass, not on the gradients: give another clip")
    rows = _rows((batch, targets), dim)
    give = f"2 to {rows}: the batch has {rows} rows along dimension {dim}"
    whole_number(parts, "parts", at_least=2, at_most=rows, give=give)
    borders = [rows * part // parts for part in range(parts + 1)]

    def run(part: slice) -> None:
        its, answers = (_cut(given, part, dim) for given in (batch, targets))
        more = () if targets is None else (answers,)
        go_back(model, lambda: loss(called(model, its), *more))

    with untouched(model):
        model.train()
        return _measure(model, run, clip, [slice(*ends) for ends in itertools.pairwise(borders)])


def _measure(model: nn.Module, run: Callable[[slice], None], clip: Clip, parts: list[slice]) -> Bias:
    """Clip the gradient of each part, and that of all, weighed by their rows."""
    for_parts, for_mean = copy.deepcopy(clip), copy.deepcopy(clip)
    total_P = clipped_P = torch.zeros((), dtype=torch.float64, device="cpu")
    rows = count = 0
    for part in parts:
        run(part)
        gradient_P = _gradient(model)
        if not bool(torch.isfinite(gradient_P).all()):
            continue
        for_parts(model)
        weight = part.stop - part.start
        total_P, clipped_P = total_P + weight * gradient_P, clipped_P + weight * _gradient(model)
        rows, count = rows + weight, count + 1
    if not count:
        raise FlowError("no part of the batch has a finite gradient: look at unvanish.diagnose(…) first")
    _give(model, total_P / rows)
    for_mean(model)
    angle, ratio = _compared(clipped_P / rows, _gradient(model))
    return Bias(angle, ratio, (for_parts.acted - clip.acted) / count, count, len(parts) - count)


def _rows(given: Any, dim: int) -> int:
    found = {_length(tensor, dim) for tensor in _tensors(given)}
    if len(found) != 1:
        raise OptionError(
            f"the tensors of the batch have {sorted(found) or 'no'} rows along dimension {dim}: give dim=0 "
            "where rows come first, and tensors with as many rows each"
        )
    return found.pop()


def _tensors(given: Any) -> list[Tensor]:
    if isinstance(given, Tensor):
        return [given] if given.dim() else []
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, tuple | list):
        return [tensor for one in given for tensor in _tensors(one)]
    return []


def _length(tensor: Tensor, dim: int) -> int:
    if not -tensor.dim() <= dim < tensor.dim() and tensor.dim() > 1:
        raise OptionError(
            f"a tensor {tuple(tensor.shape)} has no dimension {dim}: say with dim= where the rows are"
        )
    return tensor.shape[dim if tensor.dim() > 1 else 0]


def _cut(given: Any, part: slice, dim: int) -> Any:
    """Take some rows of everything that has rows."""
    if isinstance(given, Tensor):
        return (
            given.narrow(dim if given.dim() > 1 else 0, part.start, part.stop - part.start)
            if given.dim()
            else given
        )
    if isinstance(given, Mapping):
        return {name: _cut(one, part, dim) for name, one in given.items()}
    if isinstance(given, tuple | list):
        found = [_cut(one, part, dim) for one in given]
        return type(given)(*found) if hasattr(given, "_fields") else type(given)(found)
    return given


def _gradient(model: nn.Module) -> Tensor:
    """Return the gradient of all parameters side by side, in double precision, zero where there is none."""
    found = [
        torch.zeros(parameter.numel(), dtype=torch.float64, device="cpu")
        if parameter.grad is None
        else parameter.grad.to_dense().detach().to("cpu", torch.float64).flatten()
        for parameter in model.parameters()
    ]
    return torch.cat(found)


def _give(model: nn.Module, gradient_P: Tensor) -> None:
    parameters = list(model.parameters())
    pieces = torch.split(gradient_P, [parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view(parameter.shape).to(parameter)


def _compared(first_P: Tensor, second_P: Tensor) -> tuple[float, float]:
    """Return the angle in degrees, and the ratio of the norms."""
    norms = [float(torch.linalg.vector_norm(one)) for one in (first_P, second_P)]
    if not all(norms):
        raise FlowError("a mean gradient is zero and has no direction: give a batch whose rows do not cancel")
    first_P, second_P = first_P / norms[0], second_P / norms[1]
    # exact also for small angles, where the cosine is 1 to rounding
    apart, along = (float(torch.linalg.vector_norm(one)) for one in (first_P - second_P, first_P + second_P))
    return math.degrees(2 * math.atan2(apart, along)), norms[0] / norms[1]
