"""What is worked out before the loop over time: once from the parameters, and for all steps at once from the input.

Shapes: T time, B batch, I input, W any width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.engine.arrays import as_tensor, rowwise
from unvanish.engine.ir.plan import Group
from unvanish.engine.sequence import Pass
from unvanish.equations.expression import Ref
from unvanish.equations.system import Elementwise, Product, Statement


class Timeless:
    """The values of a run that do not depend on time: parameters, fixed numbers, and what follows from them.

    Masks that are drawn once for each row are among them, (B, W).
    """

    def __init__(self, job: Pass) -> None:
        self.job = job
        self.values: dict[str, Tensor] = {**job.numbers, **masks(job, "row")}
        for statement in job.plan.once:
            if statement.target.name in self.values:  # worked out before, and given
                continue
            self.values[statement.target.name] = value(statement, lambda ref: self[ref.name], job)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.values:
            self.values[name] = self.job.weights[name]
        return self.values[name]


class Outside(Protocol):
    """What the steps of a run read that none of them makes."""

    @property
    def timeless(self) -> Lookup:
        """Parameters, fixed numbers, what follows from them, masks of rows, by name."""
        ...

    @property
    def over_time(self) -> Mapping[str, Tensor] | Mapping[str, tuple[Tensor]]:
        """The input, what follows from it, masks of steps, by name: (B, W) for each step."""
        ...

    def beside(self, group: Group) -> tuple[Tensor, list[int]]:
        """The matrices of a group side by side, and how wide the product of each is."""
        ...


class Lookup(Protocol):
    """What gives an array by its name."""

    def __getitem__(self, name: str, /) -> Tensor: ...


class Hoisted:
    """The values of a run that no state changes.

    Attributes:
        timeless: parameters, fixed numbers, what follows from them, masks of rows, by name.
        over_time: the input, what follows from it, masks of steps, (T, B, W), by name.
    """

    def __init__(self, job: Pass) -> None:
        self.job, self.timeless = job, Timeless(job)
        self.over_time: dict[str, Tensor] = {"x": job.x_TBI, **masks(job, "step")}
        for part in job.plan.hoisted:
            if isinstance(part, Group):
                self._products(part)
            else:
                self.over_time[part.target.name] = value(part, self._read, job)

    def _read(self, ref: Ref) -> Tensor:
        found = self.over_time.get(ref.name)
        return self.timeless[ref.name] if found is None else found

    def beside(self, group: Group) -> tuple[Tensor, list[int]]:
        """The matrices of a group side by side, and how wide the product of each is."""
        return self.job.weights.side_by_side(group.matrices), part_widths(group, self.job)

    def _products(self, group: Group) -> None:
        weight, widths = self.beside(group)
        parts = torch.split(F.linear(self._read(group.operand), weight), widths, -1)
        for product, part in zip(group.products, parts, strict=True):
            self.over_time[product.target.name] = part


def value(statement: Statement, read: Callable[[Ref], Tensor], job: Pass) -> Tensor:
    """Compute a statement that no state changes."""
    if isinstance(statement, Elementwise):  # torch.compile before torch 2.8 cannot trace a match
        return as_tensor(job.plan.programs[statement.target.name](read, None, job.x_TBI), job.x_TBI)
    operand = read(statement.operand)
    if isinstance(statement, Product):
        return F.linear(operand, job.weights[statement.matrix])
    if statement.function == "batchnorm":
        return job.normalisers[statement.target.name](operand, None)
    return rowwise(statement.function, operand)


def masks(job: Pass, of: str) -> dict[str, Tensor]:
    """The masks of a run that were drawn for each row, or for each step."""
    return {mask.name: job.masks[mask.name] for mask in job.plan.system.masks if mask.of == of}


def part_widths(group: Group, job: Pass) -> list[int]:
    """How wide each product of a group is."""
    return [job.weights[matrix].shape[0] for matrix in group.matrices]
