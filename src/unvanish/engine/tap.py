"""Taps: what listens, or changes something, at the border between two steps.

Shapes: T time, B batch, W width of a state, S states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

# What a back end does for a tap. Plain torch shows every tap every step. One that runs all steps at once can tell
# it, at the end of the backward pass, the `norms` of the states' adjoints, or all `adjoints`; it can `clip` these
# itself; it leaves passes with taps that must see `steps` to plain torch.
Needs = Literal["steps", "norms", "adjoints", "clip"]
States = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Border:
    """The border after a step.

    Attributes:
        step: which one.
        read: looks up any value of the step's equations by its `Ref`: `h[t-1]` is still the state before.
        active_B1: the rows that have not ended before this step; None for all.
        time_B1: the index of the step, where the equations read it.
    """

    step: int
    read: Callable[[Any], Tensor]
    active_B1: Tensor | None = None
    time_B1: Tensor | None = None


class Tap:
    """Sits at the border between two steps of a pass. Those of one pass form a chain."""

    needs: Needs = "steps"

    def start(self, part: Any) -> Tap | None:
        """Return the tap for a new pass of a part (`unvanish.nn.Part`), or None; itself if all passes share it."""
        return self

    def border(self, states: States, at: Border) -> States:
        """Take the states that leave a step, (B, W) each, and return those that go on to output and next step."""
        return states

    def take_norms(self, norms_TS: Tensor) -> None:
        """Take ‖∂L/∂s_t‖ over the whole batch, for every step and state."""

    def end(self, job: Any, result: Any) -> None:
        """Take the pass that was run, and its result; the backward pass is yet to come."""


def chain(listeners: tuple[Tap, ...], part: Any) -> tuple[Tap, ...]:
    """Return the taps of a new pass. Clips come last, so that the others hear the adjoints that they leave."""
    found = [tap for listener in listeners if (tap := listener.start(part)) is not None]
    return tuple(sorted(found, key=lambda tap: tap.needs == "clip"))
