"""The reference back end: plain torch, step by step. Slow, obvious, the truth that the others are held to.

Any dtype, any device, differentiable to any order. Shapes: T time, B batch, I input, W width, D depth in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.engine.arrays import as_tensor, rowwise
from unvanish.engine.backend import BackEnd
from unvanish.engine.hoist import Hoisted, Outside
from unvanish.engine.ir.plan import Group, Stage
from unvanish.engine.sequence import Pass, Result
from unvanish.engine.tap import Border
from unvanish.equations.expression import Ref
from unvanish.equations.system import Elementwise, Product, Rowwise, Statement

Value = Callable[[Tensor | None], Tensor]


class Reference(BackEnd):
    """Plain torch; it can run every pass."""

    name = "reference"

    def run(self, job: Pass) -> Result:
        """Run a plan over a sequence."""
        return Walk(job, Hoisted(job)).run()


class Walk:
    """The steps of a pass, one after the other, with what was worked out before them."""

    def __init__(self, job: Pass, outside: Outside) -> None:
        self.job, self.plan, self.x_TBI, self.outside = job, job.plan, job.x_TBI, outside
        self.timeless = outside.timeless
        system = job.plan.system
        self.present: dict[str, Tensor] = {}
        # For each state, its past in order of time, as later steps read it; [-1] is the last step.
        self.past: dict[str, list[Tensor]] = {
            state.name: list(reversed(_cut(job.states[state.name], state.depth))) for state in system.states
        }
        self.depth = {state.name: state.depth for state in system.states}
        self.time_B1, self.step = job.time_B1, 0
        self.outputs: list[Tensor] = []
        self.every: dict[str, list[Tensor]] = {name: [] for name in self.depth}

    def run(self) -> Result:
        """Run all steps."""
        self.go()
        return self.result()

    def go(self) -> None:
        """Run all steps, and leave it to `outputs`, `every` and `carried` to say what came of them."""
        stages = [self.prepared(stage) for stage in self.plan.stages]
        for step in range(self.x_TBI.shape[0]):
            self.step = step
            if self.job.reset_TB is not None:
                self.start_anew(self.job.reset_TB[step, :, None])
            self.present = {name: values[step] for name, values in self.outside.over_time.items()}
            for products, statements in stages:
                for product in products:
                    product()
                for name, value in statements:
                    self.present[name] = value(self.time_B1)
            self.finish_step(step)

    def start_anew(self, reset_B1: Tensor) -> None:
        """Let rows forget all that later steps could read, and the time."""
        for name, past in self.past.items():
            for back in range(1, self.depth[name] + 1):
                past[-back] = torch.where(reset_B1, past[-back].new_zeros(()), past[-back])
        if self.time_B1 is not None:
            self.time_B1 = torch.where(reset_B1, 0, self.time_B1)

    def prepared(self, stage: Stage) -> tuple[list[Callable[[], None]], list[tuple[str, Value]]]:
        """Look up, once for all steps, what a stage needs."""
        statements = [(statement.target.name, self.value(statement)) for statement in stage.statements]
        return [self.products(group) for group in stage.groups], statements

    def products(self, group: Group) -> Callable[[], None]:
        """Run the products of one operand as one, and cut the result into its parts."""
        weight, widths = self.outside.beside(group)
        names = [product.target.name for product in group.products]

        def run() -> None:
            beside = F.linear(self.read(group.operand), weight)
            parts = torch.split(beside, widths, -1) if len(widths) > 1 else [beside]
            self.present.update(zip(names, parts, strict=True))

        return run

    def value(self, statement: Statement) -> Value:
        match statement:
            case Elementwise(target):
                work_out = self.plan.programs[target.name]
                return lambda time: as_tensor(work_out(self.read, time, self.x_TBI), self.x_TBI)
            case Rowwise(target, "batchnorm", operand):
                normaliser = self.job.normalisers[target.name]
                return lambda time: normaliser(self.read(operand), self.step)
            case Rowwise(_, function, operand):
                return lambda time: rowwise(function, self.read(operand))
            case Product():
                raise AssertionError("the products of a stage are in its groups")  # pragma: no cover

    def read(self, ref: Ref) -> Tensor:
        if ref.is_past:
            return self.past[ref.name][-int(ref.delay or 0)]
        found = self.present.get(ref.name)
        return self.timeless[ref.name] if found is None else found

    def finish_step(self, step: int) -> None:
        """Carry the new states on: rows past their end keep what they had, the taps may look."""
        system, batch = self.plan.system, self.x_TBI.shape[1]
        lengths_B = self.job.lengths_B
        active_B1 = None if lengths_B is None else (step < lengths_B)[:, None]
        new = dict[str, Tensor]()
        for state in system.states:
            old = self.past[state.name][-1]
            value = self.read(Ref(state.name, 0)).expand(batch, old.shape[-1])
            new[state.name] = value if active_B1 is None else torch.where(active_B1, value, old)
        if self.job.taps:
            here = Border(step, self.read, active_B1, self.time_B1)
            for tap in self.job.taps:
                new = dict(tap.border(new, here))
        for name, value in new.items():
            self.past[name].append(value)
            self.every[name].append(value)
        if self.time_B1 is not None:
            self.time_B1 = self.time_B1 + 1
        output = system.output.name
        self.outputs.append(new[output] if output in new else self.read(system.output).expand(batch, -1))

    def result(self) -> Result:
        output_TBW = torch.stack(self.outputs)
        lengths_B = self.job.lengths_B
        if lengths_B is not None:
            active_TB1 = (
                torch.arange(len(self.outputs), device=output_TBW.device)[:, None, None] < lengths_B[:, None]
            )
            output_TBW = torch.where(active_TB1, output_TBW, output_TBW.new_zeros(()))
        every = None
        if self.job.wants_all_states:
            every = {name: torch.stack(values) for name, values in self.every.items()}
        return Result(output_TBW, {name: self.carried(name) for name in self.past}, every)

    def carried(self, name: str) -> Tensor:
        """The last D values of a state, newest first."""
        depth, past = self.depth[name], self.past[name]
        if self.job.lengths_B is None or depth == 1:
            return torch.cat(past[: -depth - 1 : -1], -1)
        past_SBW = torch.stack(past)
        rows = torch.arange(past_SBW.shape[1], device=past_SBW.device)
        newest_B = depth - 1 + self.job.lengths_B
        return torch.cat([past_SBW[newest_B - back, rows] for back in range(depth)], -1)


def _cut(values: Tensor, depth: int) -> Sequence[Tensor]:
    """Cut the last values of a state apart."""
    return values.chunk(depth, -1) if depth > 1 else [values]
