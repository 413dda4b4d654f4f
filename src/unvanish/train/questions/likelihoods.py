"""What a forecast gives for a value to come: a number, quantiles, or a distribution; and what that costs.

All values are in units of a series' spread. Shapes: … any, P numbers of an answer, Q levels of quantiles.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COVERED = (0.8, 0.95)  # the intervals that are given
LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)  # their ends and the median
TINY = 1e-4


def bounds(quantiles: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Take both ends of an interval from quantiles at `LEVELS`."""
    low = min(range(len(LEVELS)), key=lambda place: abs(LEVELS[place] - (1 - share) / 2))
    return quantiles[..., low], quantiles[..., len(LEVELS) - 1 - low]


class Likelihood(ABC):
    """One way to say what is to come.

    Attributes:
        size: how many numbers it takes.
        counts: whether values are counts, which are divided by their mean and never shifted.
    """

    size: int
    counts = False

    @abstractmethod
    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """Return the loss of every value: `raw` (…, P); `y` and what it was divided by, `scale`, (…)."""

    @abstractmethod
    def quantiles(self, raw: Tensor, scale: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
        """Return quantiles in ascending order, (…, Q)."""


class Point(Likelihood):
    """One number, by the absolute error: the median. Its intervals come from calibration alone."""

    size = 1

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """|y − ŷ|."""
        return (y - raw[..., 0]).abs()

    def quantiles(self, raw: Tensor, scale: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
        """The number itself, at every level."""
        return raw.expand(*raw.shape[:-1], len(levels))


class Quantiles(Likelihood):
    """The quantiles themselves, by the pinball loss (Koenker, Bassett 1978); they never cross."""

    size = len(LEVELS)

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """2 · mean over levels q of max(q · e, (q − 1) · e), with e = y − ŷ_q."""
        error = y[..., None] - self._ordered(raw)
        levels = error.new_tensor(LEVELS)
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)

    def quantiles(self, raw: Tensor, scale: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
        """Those of `LEVELS`."""
        places = [LEVELS.index(level) for level in levels]
        return self._ordered(raw)[..., places]

    @staticmethod
    def _ordered(raw: Tensor) -> Tensor:
        """The median as it is, the others by how far they lie from their neighbour."""
        middle = len(LEVELS) // 2
        up = raw[..., middle, None] + F.softplus(raw[..., middle + 1 :]).cumsum(-1)
        down = raw[..., middle, None] - F.softplus(raw[..., :middle]).flip(-1).cumsum(-1)
        return torch.cat([down.flip(-1), raw[..., middle, None], up], -1)


class Gaussian(Likelihood):
    """A normal distribution."""

    size = 2

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """−log N(y; μ, σ²), in nats."""
        own = F.softplus(raw[..., 1]) + TINY
        nats: Tensor = 0.5 * ((y - raw[..., 0]) / own) ** 2 + own.log() + 0.5 * math.log(2 * math.pi)
        return nats

    def quantiles(self, raw: Tensor, scale: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
        """μ + σ · Φ⁻¹(q)."""
        scale = F.softplus(raw[..., 1]) + TINY
        turned: Tensor = torch.special.ndtri(raw.new_tensor(levels, dtype=torch.float64)).to(raw)
        return raw[..., 0, None] + scale[..., None] * turned


class StudentT(Likelihood):
    """Student's t distribution: heavier tails, of more than two degrees of freedom."""

    size = 3

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """−log t(y; μ, σ, ν), in nats."""
        place, scale, freedom = self._parts(raw)
        score = ((y - place) / scale) ** 2
        half = (freedom + 1) / 2
        level = torch.lgamma(half) - torch.lgamma(freedom / 2) - 0.5 * (freedom * math.pi).log() - scale.log()
        nats: Tensor = half * torch.log1p(score / freedom) - level
        return nats

    def quantiles(self, raw: Tensor, scale: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
        """μ + σ · t_ν⁻¹(q)."""
        from scipy import stats

        place, scale, freedom = (part.detach().double().cpu() for part in self._parts(raw))
        turned = stats.t.ppf(np.array(levels), freedom.numpy()[..., None])
        return (place[..., None] + scale[..., None] * torch.from_numpy(turned)).to(raw)

    @staticmethod
    def _parts(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return raw[..., 0], F.softplus(raw[..., 1]) + TINY, 2 + F.softplus(raw[..., 2]) + TINY


class NegativeBinomial(Likelihood):
    """A negative binomial distribution of counts c = s · y, of mean s μ and variance s μ + α (s μ)²."""

    size, counts = 2, True

    def loss(self, raw: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """−log NB(s · y), in nats."""
        mean, shape = self._parts(raw, scale)
        count = (y * scale).round().clamp_min(0)
        share = (shape / (shape + mean)).log(), (mean / (shape + mean)).log()
        ways = torch.lgamma(count + shape) - torch.lgamma(shape) - torch.lgamma(count + 1)
        return -(ways + shape * share[0] + count * share[1])

    def quantiles(self, raw: Tensor, scale: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
        """NB⁻¹(q) / s."""
        from scipy import stats

        mean, shape = (part.detach().double().cpu().numpy()[..., None] for part in self._parts(raw, scale))
        counts = torch.from_numpy(stats.nbinom.ppf(np.array(levels), shape, shape / (shape + mean)))
        return counts.to(raw) / scale[..., None]

    @staticmethod
    def _parts(raw: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return (F.softplus(raw[..., 0]) + TINY) * scale, 1 / (F.softplus(raw[..., 1]) + TINY)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "point": Point,
    "quantiles": Quantiles,
    "gaussian": Gaussian,
    "student": StudentT,
    "negbin": NegativeBinomial,
}
