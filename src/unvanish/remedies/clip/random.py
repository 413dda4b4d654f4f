"""A step in a random direction where the gradient explodes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unvanish.checks import is_whole, positive
from unvanish.errors import OptionError
from unvanish.remedies.clip.base import POLICIES, Clip
from unvanish.remedies.clip.gradients import Gradients, scale_, tensor_norms, together
from unvanish.remedies.clip.record import ClipRecord


class RandomStep(Clip):
    """Replace a gradient that is too long by a random direction of the threshold's length.

        where ‖g‖₂ > threshold:  g ← threshold · v / ‖v‖₂,  v ~ N(0, I)

    Goodfellow, Bengio, Courville 2016, Deep Learning, section 10.11.1: a random step does nearly as well as a
    clipped gradient, and moves away also from where the gradient is NaN or infinite; that is `nonfinite="random"`.
    On the steep wall of an explosive region a clipped gradient may swing to and fro for ever; a random one leaves.

    Numbers come from a generator of its own: of the same seed on all processes, so that they stay the same, and
    saved with the state. They are drawn where the generator is, on the CPU unless one is given.

    Args:
        threshold: the largest norm, and the length of the random step, positive.
        seed: of the generator.
        generator: a generator to be used instead of a seed.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`; or `random`: a random step is taken then, too.

    >>> weight = torch.nn.Parameter(torch.zeros(3))
    >>> weight.grad = torch.tensor([1e20, 0.0, 0.0])
    >>> record = RandomStep(2.0, seed=1)([weight])
    >>> round(weight.grad.norm().item(), 6), bool((weight.grad != 0).all())
    (2.0, True)
    """

    policies = (*POLICIES, "random")

    def __init__(
        self,
        threshold: float,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        nonfinite: str = "skip",
    ) -> None:
        super().__init__(nonfinite=nonfinite)
        self._threshold = positive(threshold, "threshold")
        if generator is not None and seed is not None:
            raise OptionError("a generator has its seed already: give seed= or generator=, not both")
        if seed is not None and not is_whole(seed):
            raise OptionError(f"seed is {seed!r}: give a whole number")
        self.generator = torch.Generator().manual_seed(seed or 0) if generator is None else generator

    def __deepcopy__(self, memo: dict[int, Any]) -> RandomStep:
        twin = copy.copy(self)
        twin.generator = torch.Generator(self.generator.device)
        twin.generator.set_state(self.generator.get_state())
        return twin

    @property
    def threshold(self) -> float:
        """The largest norm."""
        return self._threshold

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        acted = norm > self._threshold
        if acted:
            self._draw(gradients.tensors)
        factor = self._threshold / norm if acted else 1.0
        return ClipRecord(norm, self._threshold, factor, acted, nonfinite=False)

    def _mend(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        if self.policy != "random":
            return super()._mend(gradients, norms, norm)
        self._draw(gradients.tensors)
        return ClipRecord(norm, self._threshold, factor=0.0, acted=True, nonfinite=True)

    def _draw(self, tensors: list[Tensor]) -> None:
        """Fill the tensors with one direction, of the threshold's length over all of them."""
        for tensor in tensors:
            if tensor.device == self.generator.device:
                tensor.normal_(generator=self.generator)
            else:
                drawn = torch.empty(tensor.shape, dtype=tensor.dtype, device=self.generator.device)
                tensor.copy_(drawn.normal_(generator=self.generator))
        scale_(tensors, self._threshold / together(tensor_norms(tensors)))

    def _statistics(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["generator"])
