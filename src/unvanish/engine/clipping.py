"""Clipping inside the backward pass: the adjoint of the full state, at the boundary between two steps.

Shapes: B batch, N full state (all states side by side, the newest value of each).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from unvanish.checks import positive
from unvanish.engine.tap import Border, States, Tap
from unvanish.errors import OptionError


@dataclass(eq=False)
class StepClip(Tap):
    """Clips the adjoint that goes from each step to the one before, row by row, and counts what it did.

    By value every number of the adjoint is brought into ±threshold; by norm the adjoint of the full state of a row
    is brought to the length of the threshold where it is longer. One that holds a number that is not finite has no
    direction left: it becomes zero, and nothing of it goes on to the steps before.

    Attributes:
        threshold: a positive number.
        by: `value` or `norm`.
        scale: where the loss is multiplied with a number before its backward pass (torch.amp.GradScaler's
            `get_scale`), what gives it: the threshold is then of the adjoint of the loss itself.
        seen, clipped, nonfinite: how many adjoints (of one row, at one step) there were since `reset`, how many of
            them were changed, and how many were not finite.

    Raises:
        OptionError: the threshold is not a positive number, or `by` is neither word.

    >>> clip = StepClip(1.0, "norm")
    >>> clip.clipped_rows(torch.tensor([[3.0, 4.0], [0.1, 0.0], [float("nan"), 1.0]]))
    tensor([[0.6000, 0.8000],
            [0.1000, 0.0000],
            [0.0000, 0.0000]])
    >>> clip.seen, clip.clipped, clip.nonfinite
    (3, 1, 1)
    """

    threshold: float
    by: Literal["value", "norm"] = "value"
    scale: Callable[[], float] | None = None
    needs = "clip"
    _counts: Any = field(default=0, init=False, repr=False)  # a tensor (3,), once there is something to count

    def __post_init__(self) -> None:
        positive(self.threshold, "the threshold")
        if self.by not in ("value", "norm"):
            raise OptionError(f"by={self.by!r}: an adjoint is clipped by 'value' or by 'norm'")

    @property
    def limit(self) -> float:
        """The threshold of the adjoints that a backward pass has now."""
        return self.threshold if self.scale is None else self.threshold * float(self.scale())

    def _count(self, index: int) -> int:
        return int(self._counts[index]) if isinstance(self._counts, Tensor) else 0

    @property
    def seen(self) -> int:
        """How many adjoints there were."""
        return self._count(0)

    @property
    def clipped(self) -> int:
        """How many of them were changed."""
        return self._count(1)

    @property
    def nonfinite(self) -> int:
        """How many of them were not finite, and became zero."""
        return self._count(2)

    def reset(self) -> None:
        """Count from zero again."""
        self._counts = 0

    def add(self, counts_3: Tensor) -> None:
        """Take in what an engine has counted: seen, clipped, not finite."""
        if isinstance(self._counts, Tensor) and self._counts.device != counts_3.device:
            counts_3 = counts_3.to(self._counts.device)
        self._counts = self._counts + counts_3

    def clipped_rows(self, adjoint_BN: Tensor, active_B1: Tensor | None = None) -> Tensor:
        """Clip the adjoints of the rows of one step; rows that are not `active` are past their end and stay."""
        given_BN, limit = adjoint_BN, self.limit
        finite_B1 = torch.isfinite(adjoint_BN).all(-1, keepdim=True)
        adjoint_BN = torch.where(finite_B1, adjoint_BN, 0.0)
        largest_B1 = adjoint_BN.detach().abs().amax(-1, keepdim=True)
        if self.by == "value":
            over_B1, found = largest_B1 > limit, adjoint_BN.clamp(-limit, limit)
        else:
            # A sum of squares overflows long before the numbers do: they are brought to 1 before.
            scale_B1 = torch.where(largest_B1 > 0, largest_B1, 1.0)
            scaled_BN = adjoint_BN / scale_B1
            norm_B1 = torch.linalg.vector_norm(scaled_BN, dim=-1, keepdim=True)
            over_B1 = norm_B1.detach() * (scale_B1 / limit) > 1
            found = torch.where(over_B1, scaled_BN / norm_B1.clamp_min(1.0) * limit, adjoint_BN)
        here_B1 = torch.ones_like(finite_B1) if active_B1 is None else active_B1
        self.add(torch.stack([here_B1.sum(), (here_B1 & over_B1).sum(), (here_B1 & ~finite_B1).sum()]))
        return found if active_B1 is None else torch.where(active_B1, found, given_BN)

    def border(self, states: States, at: Border) -> States:
        """Return the states that leave a step, through a node at which their adjoint is clipped."""
        if not states:
            return states
        whole_BN = torch.cat(list(states.values()), -1)
        if whole_BN.requires_grad:
            hook = functools.partial(self.clipped_rows, active_B1=at.active_B1)
            whole_BN.register_hook(hook)  # type: ignore[no-untyped-call]
        parts = torch.split(whole_BN, [state.shape[-1] for state in states.values()], -1)
        return dict(zip(states, parts, strict=True))
