"""What a pass leaves behind, for a look at all its steps at once: its states, and the adjoints that came to them.

Shapes: T time, B batch, W width of a state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unvanish.engine.product import weight_gradient
from unvanish.engine.sequence import Pass, Result, Told
from unvanish.equations.expression import Ref


@dataclass(eq=False)
class Tape:
    """The record of one pass; filled by its backward pass, the last one where there are several.

    Attributes:
        run: the pass.
        states: the states of all steps, (T, B, W), by name.
        adjoints: ∂L/∂s_t at the boundary after each step, (T, B, W), by the name of the state; empty until a
            backward pass has come by.
        told: what an engine tells beside, with what it is told of: `came`, the part of an adjoint that comes from
            later steps; `products`, the adjoints of a group's products side by side, by the first of them; `value`,
            a value of the equations.
        outer: sums the outer products of rows, as the engine does it.
    """

    job: Pass | None = None
    states: Mapping[str, Tensor] = field(default_factory=dict)
    adjoints: dict[str, Tensor] = field(default_factory=dict)
    told: dict[tuple[Told, Ref], Tensor] = field(default_factory=dict)
    outer: Callable[[Tensor, Tensor], Tensor] = weight_gradient

    def keep(self, job: Pass, result: Result) -> None:
        """Keep what has been run: neither its graph, which leads back here, nor more of it than its values."""
        states = {name: state.detach() for name, state in job.states.items()}
        self.job = dataclasses.replace(job, tape=None, observer=None, x_TBI=job.x_TBI.detach(), states=states)
        self.states = {name: state.detach() for name, state in (result.all_states or {}).items()}

    def boundary(
        self, step: int, states: Mapping[str, Tensor], active_B1: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Take the states that leave a step, and write down what comes back to them (an engine that sees steps)."""
        return {name: self._heard(step, name, value, active_B1) for name, value in states.items()}

    def _heard(self, step: int, name: str, value: Tensor, active_B1: Tensor | None) -> Tensor:
        if value.requires_grad:
            value = value.view_as(value)
            hook = functools.partial(self._note, step, name, active_B1)
            value.register_hook(hook)  # type: ignore[no-untyped-call]
        return value

    def _note(self, step: int, name: str, active_B1: Tensor | None, adjoint_BW: Tensor) -> None:
        assert self.job is not None
        # Past its end a row stands still, and what its last state gets goes by: that is not a step.
        adjoint_BW = adjoint_BW if active_B1 is None else torch.where(active_B1, adjoint_BW, 0.0)
        if name not in self.adjoints:
            self.adjoints[name] = adjoint_BW.new_zeros(len(self.job.x_TBI), *adjoint_BW.shape)
        self.adjoints[name][step] = adjoint_BW.detach()

    def sum_with(self, outer: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Sum outer products as the engine does it."""
        self.outer = outer

    def take(self, kind: Told, ref: Ref, values_TBW: Tensor) -> None:
        """Take something of all steps at once (an engine that runs them all)."""
        if kind == "adjoint":
            self.adjoints[ref.name] = values_TBW
        else:
            self.told[kind, ref] = values_TBW
