"""What a pass leaves behind, for a look at all its steps at once: its states, and the adjoints that came to them.

Shapes: T time, B batch, W width of a state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from unvanish.engine.product import weight_gradient
from unvanish.engine.sequence import Pass, Result
from unvanish.engine.tap import Border, States, Tap
from unvanish.equations.expression import Ref

# What a back end tells of all steps: the adjoint of a state, the part of it that came from later steps, the
# adjoints of all products of a group side by side (by the first of them), a value of the equations.
Event = Literal["adjoint", "from_future", "products", "value"]


@dataclass(eq=False)
class Tape(Tap):
    """The record of one pass; filled by its backward pass, the last one where there are several.

    Attributes:
        job: the pass.
        states: the states of all steps, (T, B, W), by name.
        adjoints: ∂L/∂s_t at the boundary after each step, (T, B, W), by the name of the state; empty until a
            backward pass has come by.
        events: what a back end tells beside, and of what: `from_future`, the part of an adjoint that comes from
            later steps; `products`, the adjoints of a group's products side by side, by the first of them; `value`,
            a value of the equations.
        outer: sums the outer products of rows, as the back end does it.
    """

    needs = "adjoints"
    job: Pass | None = None
    states: Mapping[str, Tensor] = field(default_factory=dict)
    adjoints: dict[str, Tensor] = field(default_factory=dict)
    events: dict[tuple[Event, Ref], Tensor] = field(default_factory=dict)
    outer: Callable[[Tensor, Tensor], Tensor] = weight_gradient

    def end(self, job: Pass, result: Result) -> None:
        """Keep what has been run: neither its graph, which leads back here, nor more of it than its values."""
        states = {name: state.detach() for name, state in job.states.items()}
        self.job = dataclasses.replace(job, taps=(), x_TBI=job.x_TBI.detach(), states=states)
        self.states = {name: state.detach() for name, state in (result.all_states or {}).items()}

    def border(self, states: States, at: Border) -> States:
        """Take the states that leave a step, and note what comes back to them (where steps are seen)."""
        return {name: self._hooked(at.step, name, value, at.active_B1) for name, value in states.items()}

    def _hooked(self, step: int, name: str, value: Tensor, active_B1: Tensor | None) -> Tensor:
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

    def take(self, kind: Event, ref: Ref, values_TBW: Tensor) -> None:
        """Take something of all steps at once (where steps are not seen)."""
        if kind == "adjoint":
            self.adjoints[ref.name] = values_TBW
        else:
            self.events[kind, ref] = values_TBW
