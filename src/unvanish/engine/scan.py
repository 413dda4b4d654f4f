"""A pass as one `scan` of torch, for graphs that leave Python: what is hoisted stays outside, a step is its body.

The body is a step of the reference, so that there is one truth of what equations mean.

Shapes: T time, B batch, W width, D how many steps back a state is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.engine.arrays import program
from unvanish.engine.hoist import Hoisted
from unvanish.engine.ir.plan import Group, Plan
from unvanish.engine.reference import Walk
from unvanish.engine.sequence import Pass, Result
from unvanish.equations.system import Elementwise, reads
from unvanish.torch_internals import scan

# Beside the names of the equations, which hold no blank.
STEP, RESET, TIME, LENGTHS = "the step", "the reset", "the time", "the lengths"
MEAN, FACTOR = "the mean of {}", "the factor of {}"


@dataclass(frozen=True)
class _Kept:
    """A normaliser of one step: what it takes off, and multiplies by."""

    mean: Tensor
    factor: Tensor
    training: bool = False

    def __call__(self, x: Tensor, step: int | None) -> Tensor:
        return (x - self.mean) * self.factor

    def kept(self, steps: int) -> tuple[Tensor, Tensor]:
        return self.mean, self.factor


@dataclass(frozen=True)
class _Given:
    """What a step reads that it does not make: slices of what was hoisted, and what does not depend on time."""

    timeless: Mapping[str, Tensor]
    over_time: Mapping[str, tuple[Tensor]]
    matrices: Mapping[Group, tuple[Tensor, list[int]]]

    def beside(self, group: Group) -> tuple[Tensor, list[int]]:
        """The matrices of a group side by side, and how wide the product of each is."""
        return self.matrices[group]


def run_as_scan(job: Pass) -> Result:
    """Run a pass as one `scan`; one of a single step as the step itself."""
    return _Scan(dataclasses.replace(job, plan=_for_values(job.plan))).run()


def _for_values(plan: Plan) -> Plan:
    """Return a plan whose lines are as they are written, without what the backward pass needs."""
    lines = [statement for statement in plan.system.statements if isinstance(statement, Elementwise)]
    programs = {line.target.name: program(line.expression, guarded=False) for line in lines}
    return dataclasses.replace(plan, programs=programs)


class _Scan:
    def __init__(self, job: Pass) -> None:
        self.job, self.system, hoisted = job, job.plan.system, Hoisted(job)
        self.depth = {state.name: state.depth for state in self.system.states}
        wanted = _read_inside(job.plan)
        groups = [group for stage in job.plan.stages for group in stage.groups]
        beside = {group: hoisted.beside(group) for group in groups}
        self.widths = {group: widths for group, (_, widths) in beside.items()}
        # The normalisations inside the loop: what is hoisted is normalised outside.
        made = {statement.target.name for stage in job.plan.stages for statement in stage.statements}
        self.normed = sorted(made & job.normalisers.keys())
        over_time = {name: value for name, value in hoisted.over_time.items() if name in wanted}
        self.over_time = self._over_time(over_time)
        self.timeless = {name: hoisted.timeless[name] for name in sorted(wanted - {*over_time, *self.depth})}
        if job.lengths_B is not None:
            self.timeless[LENGTHS] = job.lengths_B
        self.matrices = [weight for weight, _ in beside.values()]

    def _over_time(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each step takes of its own: at least one array, which says how many steps there are."""
        job = self.job
        found = dict(wanted) or {"x": job.x_TBI}
        if job.lengths_B is not None:
            found[STEP] = torch.arange(job.x_TBI.shape[0], device=job.x_TBI.device)
        if job.reset_TB is not None:
            found[RESET] = job.reset_TB
        for name in self.normed:
            kept = job.normalisers[name].kept(job.x_TBI.shape[0])
            found |= dict(zip((MEAN.format(name), FACTOR.format(name)), kept, strict=True))
        return found

    def run(self) -> Result:
        job = self.job
        carried = dict(job.states)
        if job.time_B1 is not None:
            carried[TIME] = job.time_B1
        over_time = list(self.over_time.values())
        constants = [*self.timeless.values(), *self.matrices]

        def body(*arrays: Tensor) -> tuple[Tensor, ...]:
            given = iter(arrays)
            states, slices = _named(carried, given), _named(self.over_time, given)
            return self.step(states, slices, _named(self.timeless, given), list(given))

        if _is_one(job.x_TBI.shape[0]):
            found = body(*carried.values(), *(value[0] for value in over_time), *constants)
            found = (*found[: len(carried)], *(value[None] for value in found[len(carried) :]))
        else:
            found = scan(body, list(carried.values()), over_time, constants)
        states = _named(self.depth, found)
        output_TBW, *every = found[len(carried) :]
        if job.lengths_B is not None:
            active_TB1 = (self.over_time[STEP][:, None] < job.lengths_B)[:, :, None]
            output_TBW = torch.where(active_TB1, output_TBW, output_TBW.new_zeros(()))
        return Result(output_TBW, states, _named(self.depth, every) if every else None)

    def step(
        self,
        carried: Mapping[str, Tensor],
        over_time: Mapping[str, Tensor],
        timeless: Mapping[str, Tensor],
        matrices: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """One step: what is carried, then the output and, where they are asked for, the states."""
        old = {name: carried[name] for name in self.depth}
        beside = zip(matrices, self.widths.values(), strict=True)
        slices = {name: (value,) for name, value in over_time.items() if name not in (STEP, RESET)}
        job = dataclasses.replace(
            self.job,
            x_TBI=next(iter(slices.values()))[0][None],  # what says how many rows there are, and of what type
            states=old,
            time_B1=carried.get(TIME),
            lengths_B=None,
            reset_TB=over_time[RESET][None] if RESET in over_time else None,
            normalisers={
                name: _Kept(over_time[MEAN.format(name)], over_time[FACTOR.format(name)]) for name in self.normed
            },
            taps=(),
        )
        walk = Walk(job, _Given(timeless, slices, dict(zip(self.widths, beside, strict=True))))
        walk.go()
        new = {name: walk.carried(name) for name in self.depth}
        if LENGTHS in timeless:
            active_B1 = (over_time[STEP] < timeless[LENGTHS])[:, None]
            new = {name: torch.where(active_B1, value, old[name]) for name, value in new.items()}
        found = list(new.values())
        if walk.time_B1 is not None:
            found.append(walk.time_B1)
        found.append(walk.outputs[-1])
        if self.job.wants_all_states:
            found += [value[..., : value.shape[-1] // self.depth[name]] for name, value in new.items()]
        return tuple(value.clone() for value in found)  # no two may share memory


def _is_one(steps: int | torch.SymInt) -> bool:
    """Whether a graph is for one step, and no other number."""
    return not isinstance(steps, torch.SymInt) and steps == 1


def _named(names: Iterable[str], arrays: Iterable[Tensor]) -> dict[str, Tensor]:
    """Give so many arrays their names."""
    return dict(zip(names, arrays, strict=False))


def _read_inside(plan: Plan) -> set[str]:
    """The names that the stages read, and that a result is made of."""
    found = {plan.system.output.name}
    for stage in plan.stages:
        found |= {group.operand.name for group in stage.groups}
        found |= {ref.name for statement in stage.statements for ref in reads(statement)}
    made = {s.target.name for stage in plan.stages for s in stage.statements}
    made |= {p.target.name for stage in plan.stages for group in stage.groups for p in group.products}
    return found - made
