"""What stands before and behind the layers, as C: linear maps, and functions of single numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from unvanish.equations.expression import Call, Ref
from unvanish.errors import ExportError
from unvanish.export.c.arrays import Arrays, product
from unvanish.export.c.text import Functions, expression

# Modules of torch that are one function of the language.
_FUNCTIONS = {nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.ReLU: "relu", nn.Softplus: "softplus", nn.SiLU: "silu"}


@dataclass
class Chain:
    """Lines of a function, where the numbers are that they have made, and how many."""

    operand: str
    wide: int
    arrays: Arrays
    functions: Functions
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def module(self, module: nn.Module, role: str) -> None:
        """Go on through a module.

        Raises:
            ExportError: it is not known here.
        """
        if isinstance(module, nn.Sequential):
            for inner in module:
                self.module(inner, role)
        elif isinstance(module, nn.Linear):
            self.linear(module, role)
        elif type(module) in _FUNCTIONS:
            into, operand = self.fresh(self.wide), self.operand
            called = Call(_FUNCTIONS[type(module)], (Ref("a"),))
            self.each(into, self.wide, "=", expression(called, lambda _: f"{operand}[u]", self.functions))
            self.operand = into
        elif not isinstance(module, nn.Identity | nn.Dropout):
            known = ", ".join(
                ["Linear", "Identity", "Dropout", "Sequential", *(one.__name__ for one in _FUNCTIONS)]
            )
            raise ExportError(
                f"the {role} holds a {type(module).__name__}, which is not written as C: use {known}, or to_onnx"
            )

    def linear(self, linear: nn.Linear, role: str) -> None:
        """Go on through a linear map."""
        if linear.in_features != self.wide:
            raise ExportError(f"the {role} reads {linear.in_features} numbers and is given {self.wide}")
        array, rows = self.arrays.matrix(f"{role}_{self.count}", linear.weight)
        into = self.fresh(rows)
        self.lines += product(array, rows, self.wide, self.operand, into)
        if linear.bias is not None:
            bias = self.arrays.rows(f"{role}_{into}_bias", linear.bias)
            self.each(into, linear.out_features, "+=", f"{bias}[u]")
        self.operand, self.wide = into, linear.out_features

    def beside(self, operand: str, wide: int) -> None:
        """Go on with other numbers behind those at hand."""
        both, first = self.fresh(self.wide + wide), self.wide
        self.lines += [f"memcpy({both}, {self.operand}, sizeof(float) * {first});"]
        self.lines += [f"memcpy({both} + {first}, {operand}, sizeof(float) * {wide});"]
        self.operand, self.wide = both, first + wide

    def fresh(self, wide: int) -> str:
        """Declare an array, and return what it is called."""
        self.count += 1
        self.lines.append(f"float r{self.count}[{wide}];")
        return f"r{self.count}"

    def each(self, into: str, wide: int, how: str, value: str) -> None:
        """Give every number of an array a value of its own, at `u`."""
        self.lines.append(f"for (int u = 0; u < {wide}; u++) {into}[u] {how} {value};")
