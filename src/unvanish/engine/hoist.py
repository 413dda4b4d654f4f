"""What is worked out before the loop over time: once from the parameters, and for all steps at once from the input.

Shapes: T time, B batch, I input, W any width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.engine.arrays import evaluate, rowwise
from unvanish.engine.ir.opened import opened
from unvanish.engine.ir.plan import Group
from unvanish.engine.sequence import Run
from unvanish.equations.expression import Ref
from unvanish.equations.system import Elementwise, Product, Rowwise, Statement


class Timeless:
    """The values of a run that do not depend on time: parameters, fixed numbers, and what follows from them.

    Masks that are drawn once for each row are among them, (B, W).
    """

    def __init__(self, run: Run) -> None:
        self.job = run
        self.values: dict[str, Tensor] = {**run.numbers, **masks(run, "row")}
        for statement in run.plan.once:
            if statement.target.name in self.values:  # worked out before, and given
                continue
            self.values[statement.target.name] = value(statement, lambda ref: self[ref.name], run)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.values:
            self.values[name] = self.job.weights[name]
        return self.values[name]


class Hoisted:
    """The values of a run that no state changes.

    Attributes:
        timeless: parameters, fixed numbers, what follows from them, masks of rows, by name.
        over_time: the input, what follows from it, masks of steps, (T, B, W), by name.
    """

    def __init__(self, run: Run) -> None:
        self.job, self.timeless = run, Timeless(run)
        self.over_time: dict[str, Tensor] = {"x": run.x_TBI, **masks(run, "step")}
        for part in run.plan.hoisted:
            if isinstance(part, Group):
                self._products(part)
            else:
                self.over_time[part.target.name] = value(part, self._read, run)

    def _read(self, ref: Ref) -> Tensor:
        found = self.over_time.get(ref.name)
        return self.timeless[ref.name] if found is None else found

    def _products(self, group: Group) -> None:
        side_by_side = F.linear(self._read(group.operand), self.job.weights.side_by_side(group.matrices))
        parts = torch.split(side_by_side, part_widths(group, self.job), -1)
        for product, part in zip(group.products, parts, strict=True):
            self.over_time[product.target.name] = part


def value(statement: Statement, read: Callable[[Ref], Tensor], run: Run) -> Tensor:
    """Work out a statement that no state changes."""
    match statement:
        case Elementwise(target):
            found = evaluate(opened(run.plan.system)[target], read, None, run.x_TBI)
            return found if isinstance(found, Tensor) else run.x_TBI.new_tensor(found)
        case Rowwise(target, "batchnorm", operand):
            return run.normalisers[target.name](read(operand), None)
        case Rowwise(_, function, operand):
            return rowwise(function, read(operand))
        case Product(_, matrix, operand):
            return F.linear(read(operand), run.weights[matrix])


def masks(run: Run, of: str) -> dict[str, Tensor]:
    """The masks of a run that were drawn for each row, or for each step."""
    return {mask.name: run.masks[mask.name] for mask in run.plan.system.masks if mask.of == of}


def part_widths(group: Group, run: Run) -> list[int]:
    """How wide each product of a group is."""
    return [run.weights[matrix].shape[0] for matrix in group.matrices]
