"""One part of a stack as a function of C: a step of its equations, phase by phase.

Shapes: B batch, I input, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.engine import Pass
from unvanish.engine.hoist import Timeless
from unvanish.engine.ir.lower import KernelPhase, lower
from unvanish.engine.ir.plan import Group
from unvanish.equations.expression import Ref
from unvanish.equations.system import Rowwise
from unvanish.export.c.arrays import Arrays, product
from unvanish.export.c.text import Functions, expression, number
from unvanish.nn.part import Part


@dataclass(frozen=True)
class Step:
    """A part's function: its text, what the state holds of it, and how many numbers it gives."""

    text: str
    fields: tuple[str, ...]
    width: int


def step_of(part: Part, called: str, wide: int, arrays: Arrays, functions: Functions, state: str) -> Step:
    """Write a part as a function of that name, which reads so many numbers."""
    return _Writer(part, wide, arrays, functions).write(called, state)


class _Writer:
    def __init__(self, part: Part, wide: int, arrays: Arrays, functions: Functions) -> None:
        self.part, self.arrays, self.functions = part, arrays, functions
        self.kernel, self.system = lower(part.plan, fold=True), part.plan.system
        like = next(iter(part.arrays.values()))
        job = Pass(part.plan, part.weights(), part.numbers, like.new_zeros(1, 1, wide), {})
        self.weights, self.timeless = job.weights, Timeless(job)
        self.sizes = {**part.sizes, "input": wide}
        self.depth = {state.name: state.depth for state in self.system.states}
        self.lines: list[str] = []
        self.places: dict[Ref, str] = {}  # where the values of this step are that outlive their loop

    def write(self, called: str, state: str) -> Step:
        for phase in self.kernel.phases:
            self.lines += [f"/* {', '.join(str(ref) for ref in phase.made)} */"]
            self.row(phase) if phase.rowwise else self.units(phase)
        width = self.sizes[self.system.output_width]
        self.lines += [f"memcpy(y, {self.places[self.system.output]}, sizeof(float) * {width});"]
        for name in self.depth:
            self.keep(name)
        if not any(ref.name == "x" for phase in self.kernel.phases for ref in phase.read):
            self.lines.insert(0, "(void)x;")
        body = "\n".join(f"    {line}" for line in self.lines)
        text = f"static void {called}({state} *s, const float *x, float *y)\n{{\n{body}\n}}\n"
        return Step(text, tuple(self.fields()), width)

    # -- states ----------------------------------------------------------------------------------------

    def fields(self) -> list[str]:
        """What the state holds: of each state its last values, and which row of these is the newest."""
        found = []
        for state in self.system.states:
            found.append(f"float {self.held(state.name)}[{state.depth}][{self.sizes[state.width]}];")
            if state.depth > 1:
                found.append(f"int {self.newest(state.name)};")
        return found

    def held(self, name: str) -> str:
        return f"state_{name}_{self.part.name}"

    def newest(self, name: str) -> str:
        return f"newest_{name}_{self.part.name}"

    def past(self, name: str, delay: int) -> str:
        """The values of a state so many steps before."""
        depth = self.depth[name]
        row = "0" if depth == 1 else f"(s->{self.newest(name)} + {delay - 1}) % {depth}"
        return f"s->{self.held(name)}[{row}]"

    def keep(self, name: str) -> None:
        """Put the new values of a state into the place of its oldest."""
        depth, newest = self.depth[name], f"s->{self.newest(name)}"
        if depth > 1:
            self.lines.append(f"{newest} = ({newest} + {depth - 1}) % {depth};")
        into = self.past(name, 1)
        self.lines.append(f"memcpy({into}, {self.places[Ref(name, 0)]}, sizeof {into});")

    # -- phases ----------------------------------------------------------------------------------------

    def row(self, phase: KernelPhase) -> None:
        assert phase.rowwise is not None
        width, place = self.sizes[phase.width], self.place(phase.rowwise.target)
        if phase.rowwise.function == "batchnorm":
            self.step_norm(phase.rowwise, width, place)
            return
        self.lines += [
            f"float {place}[{width}];",
            f"memcpy({place}, {self.array(phase.rowwise.operand)}, sizeof {place});",
            f"{self.functions(phase.rowwise.function)}({place}, {width});",
        ]

    def step_norm(self, line: Rowwise, width: int, place: str) -> None:
        """Normalise by the statistics of the step; past the last that has its own, by those of the last."""
        # A phase has names of its own: what it reads tells which line it is.
        name = next(
            one.target.name
            for one in self.system.statements
            if isinstance(one, Rowwise) and (one.function, one.operand) == (line.function, line.operand)
        )
        norm = self.part.normalisers[name]
        steps = len(norm.means_SW)
        mean, factor = (
            self.arrays.rows(f"{self.part.name}_{kind}_{name}", values)
            for kind, values in zip(("mean", "factor"), norm.kept(steps), strict=True)
        )
        self.lines += [
            f"float {place}[{width}];",
            "{",
            f"    const unsigned long first = {width}ul * (s->time < {steps}ul ? s->time : {steps - 1}ul);",
            f"    const float *mean = {mean} + first, *factor = {factor} + first;",
            f"    const float *raw = {self.array(line.operand)};",
            f"    for (int u = 0; u < {width}; u++) {place}[u] = (raw[u] - mean[u]) * factor[u];",
            "}",
        ]

    def units(self, phase: KernelPhase) -> None:
        """Products first, then all lines for one unit after the other."""
        local: dict[Ref, str] = {}
        for group in phase.groups:
            local |= self.products(group)
        stays = [ref for ref in phase.made if self.outlives(ref)]
        self.lines += [f"float {self.place(ref)}[{self.sizes[phase.width]}];" for ref in stays]
        loop = [f"{self.places[ref]}[u] = {local[ref]};" for ref in stays if ref in local]
        for line in phase.statements:
            value = expression(line.expression, lambda ref: self.value(ref, local, phase), self.functions)
            local[line.target] = f"v_{line.target.name}"
            loop.append(f"const float {local[line.target]} = {value};")
            if line.target in stays:
                loop.append(f"{self.places[line.target]}[u] = {local[line.target]};")
        if loop:
            inside = [f"    {line}" for line in loop]
            self.lines += [f"for (int u = 0; u < {self.sizes[phase.width]}; u++) {{", *inside, "}"]

    def products(self, group: Group) -> dict[Ref, str]:
        number_of, weight = self.kernel.groups.index(group), self.weights.side_by_side(group.matrices)
        array, rows = self.arrays.matrix(f"{self.part.name}_{number_of}", weight)
        into = f"p{number_of}"
        self.lines += [f"float {into}[{rows}];  /* {', '.join(group.matrices)} @ {group.operand} */"]
        self.lines += product(array, rows, weight.shape[1], self.array(group.operand), into)
        found, first = {}, 0
        for one in group.products:
            found[one.target] = f"{into}[u + {first}]" if first else f"{into}[u]"
            first += self.weights[one.matrix].shape[0]
        return found

    def outlives(self, ref: Ref) -> bool:
        """Whether a value is read after the loop that makes it."""
        return ref.name in self.depth or ref == self.system.output or ref in self.kernel.crossing

    def place(self, ref: Ref) -> str:
        self.places[ref] = f"a_{ref.name}"
        return self.places[ref]

    def array(self, ref: Ref) -> str:
        """Where all units of a value are."""
        if ref.name == "x":
            return "x"
        if ref.is_past:
            return self.past(ref.name, int(ref.delay or 0))
        return self.places[ref] if ref in self.places else self.constant(ref.name)

    def constant(self, name: str) -> str:
        return self.arrays.rows(f"{self.part.name}_{name}", self.timeless[name])

    def value(self, ref: Ref, local: dict[Ref, str], phase: KernelPhase) -> str:
        """Where the value of the unit at hand is."""
        if ref in local:
            return local[ref]
        if ref.delay is None and ref not in self.places:
            values: Tensor = self.timeless[ref.name]
            if values.dim() == 0 or (values.numel() == 1 and self.sizes[phase.width] != 1):
                return number(float(values.to(torch.float32)))
        return f"{self.array(ref)}[u]"
