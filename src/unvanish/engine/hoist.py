"""What is worked out before the loop over time: once from the parameters, and for all steps at once from the input.

Shapes: T time, B batch, I input, W any width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.engine.arrays import evaluate, rowwise
from unvanish.engine.plan import Group
from unvanish.engine.sequence import Run
from unvanish.equations.expression import Ref
from unvanish.equations.system import Elementwise, Product, Rowwise, Statement


class Hoisted:
    """The values of a run that no state changes.

    Attributes:
        timeless: parameters, fixed numbers and what follows from them, by name.
        over_time: what follows from the input, (T, B, W), by name.
        groups: the products of each hoisted group, side by side.
    """

    def __init__(self, run: Run, linear: Callable[[Tensor, Tensor], Tensor] = F.linear) -> None:
        self.job, self.linear = run, linear
        self.timeless: dict[str, Tensor] = {p.name: run.weights[p.name] for p in run.plan.system.parameters}
        self.timeless.update(run.numbers)
        for statement in run.plan.once:
            self.timeless[statement.target.name] = self._value(statement)
        self.over_time: dict[str, Tensor] = {"x": run.x_TBI}
        self.groups: dict[Group, Tensor] = {}
        for part in run.plan.hoisted:
            if isinstance(part, Group):
                self._products(part)
            else:
                self.over_time[part.target.name] = self._value(part)

    def _read(self, ref: Ref) -> Tensor:
        found = self.timeless.get(ref.name)
        return self.over_time[ref.name] if found is None else found

    def _products(self, group: Group) -> None:
        side_by_side = self.linear(self._read(group.operand), self.job.weights.side_by_side(group.matrices))
        self.groups[group] = side_by_side
        parts = torch.split(side_by_side, part_widths(group, self.job), -1)
        for product, part in zip(group.products, parts, strict=True):
            self.over_time[product.target.name] = part

    def _value(self, statement: Statement) -> Tensor:
        match statement:
            case Elementwise(_, expression):
                value = evaluate(expression, self._read, None, self.job.x_TBI)
                return value if isinstance(value, Tensor) else self.job.x_TBI.new_tensor(value)
            case Rowwise(_, function, operand):
                return rowwise(function, self._read(operand))
            case Product(_, matrix, operand):
                return F.linear(self._read(operand), self.job.weights[matrix])


def part_widths(group: Group, run: Run) -> list[int]:
    """How wide each product of a group is."""
    return [run.weights[matrix].shape[0] for matrix in group.matrices]
