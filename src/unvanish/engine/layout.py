"""How a cell's parameters are stored: stacked, one array for all gates in the order of the lines, as torch does.

| stack | holds | rows × columns |
|---|---|---|
| weight_ih | matrices that meet the input | their rows side by side × input |
| weight_hh | recurrent matrices | … × hidden (projected width, where there is a projection) |
| weight_NAME | matrices that meet a declared width NAME | … × its size |
| bias_ih, bias_hh | biases `b…`, biases `bh…` | |
| vector, scalar | other vectors (peepholes), scalars | |
| weight_hr | the projection | projected × hidden |
| weight_U_h | a recurrent matrix U_h that is constrained, by itself | hidden × hidden |
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.equations.rewrites.parameters import PROJECTION
from unvanish.equations.system import Parameter, System
from unvanish.equations.widths import HIDDEN, INPUT
from unvanish.errors import OptionError


@dataclass(frozen=True, slots=True, eq=False)  # made once for each layer: told apart by identity
class Stack:
    """One stored array: its name, its shape, and the rows of each parameter in it."""

    name: str
    shape: tuple[int, ...]
    rows: Mapping[str, slice]


def layout(system: System, sizes: Mapping[str, int], apart: frozenset[str] = frozenset()) -> tuple[Stack, ...]:
    """Say which arrays a layer of this system stores, in torch's order; parameters `apart` have one each."""
    projected = PROJECTION in {parameter.columns for parameter in system.parameters}
    members: dict[str, list[Parameter]] = {}
    for parameter in system.parameters:
        name = f"weight_{parameter.name}" if parameter.name in apart else _stack_name(parameter, projected)
        beside = members.setdefault(name, [])
        if beside and (beside[0].columns != parameter.columns or apart & {beside[0].name, parameter.name}):
            raise OptionError(
                f"'{beside[0].name}' and '{parameter.name}' would share one array, {name}, which does not fit "
                "both: rename the width or matrix it is named after"
            )
        beside.append(parameter)
    order = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]
    names = sorted(members, key=lambda name: order.index(name) if name in order else len(order))
    return tuple(_stack(name, members[name], sizes) for name in names)


def _stack_name(parameter: Parameter, projected: bool) -> str:
    if parameter.columns is None:
        return {"bias": "bias_ih", "hidden_bias": "bias_hh"}.get(parameter.role, parameter.role)
    if parameter.rows == PROJECTION:
        return "weight_hr"
    recurrent = PROJECTION if projected else HIDDEN
    return {INPUT: "weight_ih", recurrent: "weight_hh"}.get(parameter.columns, f"weight_{parameter.columns}")


def _stack(name: str, members: list[Parameter], sizes: Mapping[str, int]) -> Stack:
    rows, start = {}, 0
    for parameter in members:
        height = sizes[parameter.rows]
        rows[parameter.name] = slice(start, start + height)
        start += height
    columns = members[0].columns
    return Stack(name, (start, sizes[columns]) if columns else (start,), rows)


@functools.lru_cache(maxsize=256)  # a graph that is being compiled comes here
def _places(stacks: tuple[Stack, ...]) -> dict[str, tuple[Stack, slice]]:
    return {name: (stack, rows) for stack in stacks for name, rows in stack.rows.items()}


class Weights:
    """The stored arrays of one layer, read by the names of the equations."""

    def __init__(self, stacks: tuple[Stack, ...], arrays: Mapping[str, Tensor]) -> None:
        self.stacks, self.arrays = stacks, arrays
        self.rows = _places(stacks)

    def __getitem__(self, name: str) -> Tensor:
        stack, rows = self.rows[name]
        return self.arrays[stack.name][rows]

    def side_by_side(self, names: tuple[str, ...]) -> Tensor:
        """Return several matrices stacked by rows: the stored array itself where it holds just these."""
        stack = self.rows[names[0]][0]
        if tuple(stack.rows) == names:
            return self.arrays[stack.name]
        return torch.cat([self[name] for name in names])
