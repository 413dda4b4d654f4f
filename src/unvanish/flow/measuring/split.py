"""How much of the rate comes from the matrices, how much from the activations."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unvanish.flow.finding.graph import GraphPart
from unvanish.flow.finding.parts import Hx, Part, SteppedPart, chosen, parts_of
from unvanish.flow.measuring.back import norms_back
from unvanish.flow.measuring.profile import fit_rate
from unvanish.flow.measuring.saturation import Steepest
from unvanish.record.result import Result


@dataclass(frozen=True)
class Split(Result):
    """The rate of a part, in nats per step: rate = weights + activations.

    `weights` is the rate with every activation as steep as it can be (σ′ = ¼, tanh′ = relu′ = 1) and all values as
    they are; `activations` is what their true slopes take away from it, and so never much over 0. For
    h[t] = tanh(W x[t] + U h[t-1]) the first is the logarithm of the spectral radius of U.
    """

    shown_as: ClassVar[str] = "split"

    part: str
    rate: float
    weights: float
    activations: float

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return dict(vars(self))

    def __repr__(self) -> str:
        terms = f"{self.weights:+.4f} of the matrices, {self.activations:+.4f} of the activations"
        return f"Split({self.part}: rate {self.rate:+.4f} nats per step, {terms})"


def split(
    layer: nn.Module,
    x: Tensor,
    hx: Hx = None,
    *,
    part: str | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Split:
    """Split the rate at which a gradient shrinks or grows.

    Args:
        layer, x, hx, part: as for `flow.jacobian`.
        draws, generator: random directions, as for `flow.profile`.

    >>> import unvanish
    >>> layer = unvanish.RNN(1, 2, init=lambda W: W.copy_(torch.diag(torch.tensor([0.9, 0.5])))
    ...                      if W.shape == (2, 2) else W.fill_(1.0))
    >>> found = split(layer, torch.ones(50, 1, 1))
    >>> round(found.weights, 3), found.activations < -0.5
    (-0.105, True)
    """
    return split_of(chosen(parts_of(layer, x, hx), part), draws, generator)


def split_of(part: Part, draws: int = 1, generator: torch.Generator | None = None) -> Split:
    """Split the rate of a part (see `split`)."""
    seed = int(torch.randint(1 << 31, (), generator=generator, device="cpu"))

    def rate_of(around: contextlib.AbstractContextManager[object] | None) -> float:
        if isinstance(part, SteppedPart):
            found = norms_back(part, draws, torch.Generator().manual_seed(seed), around)
        else:
            assert isinstance(part, GraphPart)
            again = part.squares_DKS if around is None or part.again is None else part.again(around)
            found = np.zeros((1, 1)) if again is None else np.sqrt(again.mean(0))
        return fit_rate(np.linalg.norm(found, axis=1))[0]

    rate, weights = rate_of(None), rate_of(Steepest())
    both = np.isfinite(rate) and np.isfinite(weights)
    return Split(part.name, rate, weights, rate - weights if both else (0.0 if rate == weights else rate))
