"""Small experiments on a model: what would be, if one thing were otherwise.

Shapes: T time, B batch, I input, F all numbers of a step.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.diagnosis.facts import Padding
from unvanish.diagnosis.findings import PartFinding
from unvanish.diagnosis.question import Question
from unvanish.flow.finding.calling import called
from unvanish.flow.finding.graph import INPUT, time_axis, watched_input
from unvanish.flow.finding.observe import Observation
from unvanish.flow.finding.parts import LayerPart
from unvanish.flow.finding.untouched import same_random, untouched
from unvanish.flow.measuring.saturation import saturation_of

MIXED = 1e-4  # of the output's size: less is rounding
READ = 1e-6  # of the loss: less is rounding
SHARE = 1e-3  # of the loss's gradient, that padding has where it is read
PADDED_ROWS, PADDED_STEPS, FEW = 0.25, 0.05, 3  # shares of the rows and of the steps that look like padding; steps
INSIDE = 0.05  # of the steps before the end: what stands there more often is no padding
FLAT, LARGE = 0.5, 3.0  # share of flat values; size of an input in units of a standardised one


def mixed_rows(model: nn.Module, batch: Any, observation: Observation) -> float:
    """By how much the output of other rows changes where the first row of the batch does, as a share of its size.

    What the rows are is told by the output: the axis of the input that is as long as its first axis, where no other
    is. Only a recurrence that runs along that axis is suspected. 0 where nothing is.
    """
    x = batch
    if not isinstance(x, Tensor) or x.dim() != 3 or not x.is_floating_point():
        return 0.0
    with untouched(model), torch.no_grad(), contextlib.suppress(Exception):  # whatever the user's own code raises
        model.eval()
        y = _drawn_alike(model, x)
        if not isinstance(y, Tensor) or y.dim() == 0 or y.dim() > 2:
            return 0.0
        rows, axes = y.shape[0], [axis for axis in (0, 1) if x.shape[axis] == y.shape[0]]
        runs = {part.steps for part in observation.parts.values()}
        if len(axes) != 1 or rows < 2 or rows not in runs or x.shape[1 - axes[0]] in runs:
            return 0.0
        other = x.clone()
        other.select(axes[0], 0).add_(x.std() + 1.0)
        change = (_drawn_alike(model, other) - y)[1:].norm() / y.norm().clamp_min(1e-12)
        return float(change) if change > MIXED else 0.0
    return 0.0


def _drawn_alike(model: nn.Module, x: Tensor) -> Any:
    """Run a model with the random numbers of every other such run: it may draw in evaluation, too."""
    with same_random(model):
        return called(model, x)


def padding_read(asked: Question, model: nn.Module) -> Padding | None:
    """Whether shorter rows are filled up at their end with one number, and a gradient of the loss comes to that.

    The gradient, and not what the loss is with other numbers there: many a model finds the length of a row by what
    stands at its end.
    """
    for _, x in _tensors_of(asked.batch):
        if x.dim() < 2 or (x.dim() == 2 and x.is_floating_point()):
            continue
        axis = time_axis(model, x, asked.need)
        x_TBF = x.movedim(axis, 0).flatten(2) if x.dim() > 2 else x.movedim(axis, 0)[..., None]
        tails_B = _tails(x_TBF)
        gradient_TB = None if tails_B is None else _gradient_by_step(asked, model, x, axis)
        if tails_B is None or gradient_TB is None:
            continue
        steps, rows = gradient_TB.shape
        at_end_TB = torch.arange(steps, device="cpu")[:, None] >= steps - tails_B.cpu()
        share = float(gradient_TB[at_end_TB].sum() / gradient_TB.sum().clamp_min(1e-300))
        if share > SHARE:
            return Padding(int((tails_B > 0).sum()), rows, int(tails_B.max()), share)
    return None


def _gradient_by_step(asked: Question, model: nn.Module, x: Tensor, axis: int) -> Tensor | None:
    """How large the gradient of the loss is at every step of every row of an input, or of what is made of it."""
    with (
        untouched(model),
        contextlib.suppress(Exception),
        watched_input(model, [x]) as found,
    ):  # the user's own code
        value = asked.run(model)
        if found and found[0].shape[:2] == x.shape[:2]:
            (gradient,) = torch.autograd.grad(value, found[0], allow_unused=True)
            if gradient is not None:
                by_step: Tensor = gradient.detach().double().flatten(2).norm(dim=2).movedim(axis, 0).cpu()
                return by_step
    return None


def read_without_gradient(asked: Question, model: nn.Module, parts: Sequence[PartFinding]) -> float:
    """By how much of its size the loss changes with early steps of the input from which no gradient comes.

    Those of other rows stand there in their place. 0 where a recurrence was seen, or where a gradient comes.
    """
    norms = [max(of_step) for of_step in zip(*parts[0].loss_norms.values(), strict=True)]
    early = next((step for step, norm in enumerate(norms) if norm), 0)
    if len(parts) > 1 or parts[0].name != INPUT or 2 * early < len(norms):
        return 0.0
    for place, x in _tensors_of(asked.batch):
        axis = time_axis(model, x, asked.need) if x.dim() >= 2 else 0
        if x.dim() < 2 or x.shape[axis] != len(norms):
            continue
        other = x.clone()
        early_TB = other.movedim(axis, 0)[:early]
        early_TB.copy_(early_TB.roll(1, 1) if early_TB.shape[1] > 1 else early_TB.roll(1, 0))
        before, after = _losses(asked, model, (asked.batch, _with(asked.batch, place, other)))
        change = abs(after - before) / max(abs(before), 1e-12)
        if change > READ:
            return change
    return 0.0


def _tails(x_TBF: Tensor) -> Tensor | None:
    """How many steps of one and the same number each row ends with, where that looks like padding; else None.

    As where rows are filled up: some need more than others, and the number stands hardly anywhere else.
    """
    steps, rows = x_TBF.shape[:2]
    if steps < 2 or rows < 2:
        return None
    counts_PB = torch.stack(
        [(x_TBF == x_TBF[-1, row]).all(-1).flip(0).long().cumprod(0).sum(0) for row in range(rows)]
    )
    which = int(counts_PB.sum(1).argmax())
    tails_B = counts_PB[which]
    some = tails_B[tails_B > 0].double()
    looks = bool((tails_B != tails_B[0]).any()) and len(some) >= PADDED_ROWS * rows
    if not looks or float(some.mean()) < max(FEW, PADDED_STEPS * steps):
        return None
    equal = int((x_TBF == x_TBF[-1, which]).all(-1).sum()) - int(tails_B.sum())
    return tails_B if equal <= INSIDE * (steps * rows - int(tails_B.sum())) else None


def _tensors_of(batch: Any) -> list[tuple[Any, Tensor]]:
    """The tensors of a batch that can be exchanged one by one, each with its place."""
    if isinstance(batch, Tensor):
        return [(None, batch)]
    items = batch.items() if isinstance(batch, Mapping) else enumerate(batch) if type(batch) is tuple else ()
    return [(place, value) for place, value in items if isinstance(value, Tensor)]


def _with(batch: Any, place: Any, value: Tensor) -> Any:
    if isinstance(batch, Tensor):
        return value
    if isinstance(batch, Mapping):
        return {**batch, place: value}
    return (*batch[:place], value, *batch[place + 1 :])


def _losses(asked: Question, model: nn.Module, batches: Sequence[Any]) -> list[float]:
    """The loss of each batch, in evaluation mode; of one that cannot be run, that of the first."""
    found: list[float] = []
    for batch in batches:
        with untouched(model), torch.no_grad(), contextlib.suppress(Exception):  # the user's own code
            model.eval()
            found.append(float(dataclasses.replace(asked, batch=batch).run(model)))
    return found if len(found) == len(batches) else [0.0] * len(batches)


def calmed(observation: Observation, parts: Sequence[PartFinding]) -> dict[str, tuple[float, float]]:
    """Which parts have activations that are flat only because their input is large.

    For each such part: the share of saturated values as it is, and with a standardised input.
    """
    found = {}
    for finding in parts:
        part = observation.parts[finding.name]
        flat = {one.name: one.saturated for one in finding.saturation.activations if one.saturated >= FLAT}
        if not flat or not isinstance(part, LayerPart):
            continue
        x_TBI = part.x_TBI
        if float(x_TBI.square().mean().sqrt()) < LARGE:
            continue
        deviation_I = x_TBI.flatten(0, 1).std(0).clamp_min(1e-12)
        standard_TBI = (x_TBI - x_TBI.flatten(0, 1).mean(0)) / deviation_I
        calm = saturation_of(dataclasses.replace(part, x_TBI=standard_TBI))
        freed = [name for name in flat if calm[name].saturated < flat[name] / 2]
        if freed:  # a gate that is held open by its bias stays flat
            worst = max(freed, key=lambda name: flat[name] - calm[name].saturated)
            found[finding.name] = flat[worst], calm[worst].saturated
    return found
