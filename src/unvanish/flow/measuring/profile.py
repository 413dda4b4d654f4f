"""The profile: how much of a gradient is left k steps back, with its fitted rate and its reach.

g(k) = sqrt(E‖(∂s_t/∂s_{t-k})ᵀ v‖² / E‖v‖²),  v ~ N(0, I) over the full state s_t; the mean runs over the rows
of the batch and over draws. Each state is measured in its own size, the root of its mean square, so that no number
depends on a unit. For a state that is read several steps back, s_t stands for its newest value.

Shapes: T time, B batch, I input, K lags.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from unvanish.errors import FlowError
from unvanish.flow.finding.convert import as_layer
from unvanish.flow.finding.graph import BAND
from unvanish.flow.finding.graph import REACH_SHARE as REACH_SHARE
from unvanish.flow.finding.parts import Part, SteppedPart, parts_of
from unvanish.flow.measuring.back import squares_back
from unvanish.record import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_GAPS = 3  # in a profile: fewer are no period
_SMALLEST = 1e-32  # in single precision a norm under this has lost its digits


@dataclass(frozen=True, eq=False)
class Profile(Result):
    """Gradient norm against lag for one part of a layer.

    Attributes:
        part: `l0`, `l1_reverse`, …
        norms: g(k) for k = 0 … K, of the full state.
        state_norms: the share of each state in it, by name: g² is the sum of their squares.
        rate: slope of log g(k) in nats per step, fitted over the later half of the lags.
        level: log g(0) of the fitted line, so that log g(k) ≈ level + rate · k.
        reach: the last lag up to which at least 1 % of the norm survives (see `reach_of`).
        censored: whether that is the last lag measured: the true reach is then at least this.
        period: after how many steps the recurrence does the same again (delays, periods of its own).
        band: what g(k) may be, for it is a mean over few directions: two standard errors below and above.
    """

    shown_as: ClassVar[str] = "profile"
    part: str
    norms: NDArray[np.float64]
    state_norms: Mapping[str, NDArray[np.float64]]
    rate: float
    level: float
    reach: int
    censored: bool
    period: int = 1
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def __repr__(self) -> str:
        reach = f"{'≥ ' if self.censored else ''}{self.reach}"
        fit = f"rate {self.rate:+.4f} nats per step"
        return f"Profile({self.part}: {len(self.norms)} lags, {fit}, reach {reach} steps)"

    @property
    def lags(self) -> NDArray[np.int64]:
        """0 … K."""
        return np.arange(len(self.norms))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a record or a report."""
        states = {name: norms.tolist() for name, norms in self.state_norms.items()}
        band = None if self.band is None else {"lower": self.band[0].tolist(), "upper": self.band[1].tolist()}
        return {
            "part": self.part,
            "lags": self.lags.tolist(),
            "norms": {"all": self.norms.tolist()} | states,
            "rate": self.rate,
            "level": self.level,
            "reach": self.reach,
            "censored": self.censored,
            "period": self.period,
            "band": band,
        }

    def plot(self, ax: Axes | None = None, *, view: str | None = None, need: int | None = None) -> Axes | Figure:
        """Draw g(k) against k (see `Result.plot`), and mark the needed lag where one is given."""
        from unvanish import figures

        return figures.plot(self.shown_as, {**self.to_dict(), "need": need}, ax, view)


def fit_rate(norms: ArrayLike) -> tuple[float, float]:
    """Fit log g(k) = level + rate · k over the later half of the lags that still have digits.

    The later half, because the slowest direction is what is left there, and its rate is what decides how far
    a gradient reaches. A norm that is zero beyond some lag has the rate -inf.

    >>> rate, level = fit_rate([0.5 * 0.9**k for k in range(50)])
    >>> round(math.exp(rate), 6), round(math.exp(level), 6)
    (0.9, 0.5)
    """
    g_K = np.asarray(norms, dtype=np.float64)
    lags = np.flatnonzero(np.isfinite(g_K) & (g_K > _SMALLEST))
    later = lags[lags >= lags[-1] / 2] if len(lags) else lags
    if len(later) < 2:
        return -math.inf, 0.0
    rate, level = np.polyfit(later, np.log(g_K[later]), 1)
    return float(rate), float(level)


def reach_of(norms: ArrayLike, period: int = 1) -> tuple[int, bool]:
    """Return the last lag up to which 1 % of the norm at lag 0 is left, and whether it is the last one.

    Of a recurrence with delays or a period of its own the largest norm in every `period` lags counts: what skips 20
    steps leaves little at 19; of the last lags, fewer than a period, it cannot tell. Lags further back that stand
    alone do not count.

    >>> reach_of([1.0, 0.5, 0.02, 0.009, 0.001]), reach_of([1.0, 0.9])
    ((2, False), (1, True))
    >>> reach_of([1.0, 0.0, 0.5, 0.0, 0.3, 0.0]), reach_of([1.0, 0.0, 0.5, 0.0, 0.3, 0.0], period=2)
    ((0, False), (4, True))
    """
    g_K = np.asarray(norms, dtype=np.float64)
    enough = g_K >= REACH_SHARE * g_K[0]
    lags = np.flatnonzero(enough)
    gaps = np.flatnonzero(np.diff(lags) > period)
    last = int(lags[gaps[0]] if len(gaps) else lags[-1]) if len(lags) else 0
    return last, last + period >= len(g_K)


def profiles(
    layer: nn.Module,
    x: Tensor,
    hx: Tensor | tuple[Tensor, ...] | None = None,
    *,
    at: int = -1,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> dict[str, Profile]:
    """Measure the profile of every part of a layer (each layer of the stack, each direction).

    Each part is measured with its input held fixed, so that what is seen is the path through time alone. A layer
    that is in training draws its dropout.

    Args:
        layer: a `Recurrent`, or torch.nn.RNN, LSTM or GRU.
        x: the input as the layer takes it, batched.
        hx: states to start from, as the layer takes them.
        at: the step from which the gradient is sent back.
        draws: random directions to average over, beside the rows of the batch.
        generator: source of the random directions.

    Raises:
        FlowError: the layer is not recurrent, or carries no state.
    """
    ours = as_layer(layer)
    steps = x.shape[1 if ours.batch_first else 0]
    if x.dim() != 3 or not -steps <= at < steps:
        raise FlowError(f"a profile needs a batched input and a step inside it: {tuple(x.shape)}, at={at}")
    found: dict[str, Profile] = {}
    for name, part in parts_of(ours, x, hx, layer.training).items():
        if not part.widths:
            raise FlowError(
                "the layer carries no state from step to step: it has no recurrent state to look back in"
            )
        until = dataclasses.replace(part, x_TBI=part.x_TBI[: at % steps + 1])
        found[name] = _of_squares(until, squares_back(until, draws, generator)[:, :-1])
    return found


def profile(
    layer: nn.Module,
    x: Tensor,
    hx: Tensor | tuple[Tensor, ...] | None = None,
    *,
    part: str | None = None,
    at: int = -1,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Profile:
    """Measure how much of a gradient is left k steps back in one part of a layer (default: the topmost).

    One backward pass from a random direction at step `at` gives all lags. For a linear recurrence the rate
    is the logarithm of the spectral radius:

    >>> import unvanish
    >>> cell = unvanish.Cell("linear", "h[t] = U @ h[t-1]")
    >>> layer = unvanish.Recurrent(cell, 1, 2, init=lambda U: U.copy_(torch.diag(torch.tensor([0.9, 0.5]))))
    >>> found = profile(layer, torch.zeros(100, 1, 1))
    >>> round(found.rate, 4), round(math.log(0.9), 4)
    (-0.1054, -0.1054)
    """
    found = profiles(layer, x, hx, at=at, draws=draws, generator=generator)
    forward = [name for name in found if not name.endswith("_reverse")]
    name = forward[-1] if part is None else part
    if name not in found:
        raise FlowError(f"the layer has no part '{part}': it has {', '.join(found)}")
    return found[name]


def profile_of(part: Part, draws: int = 1, generator: torch.Generator | None = None, groups: int = 1) -> Profile:
    """Measure the profile of a part from its last step (see `profile`), with a band from groups of directions.

    What was measured in the graph of the model's own run is taken as it is.
    """
    if part.squares_DKS is not None:
        return _of_squares(part, part.squares_DKS)
    assert isinstance(part, SteppedPart)
    return _of_squares(part, squares_back(part, draws, generator, groups=groups))


def _of_squares(part: Part, squares_GKS: NDArray[np.float64]) -> Profile:
    mean_KS, groups = squares_GKS.mean(0), len(squares_GKS)
    norms_K = np.sqrt(mean_KS.sum(1))
    with np.errstate(over="ignore", invalid="ignore"):  # of what explodes
        spread_K = squares_GKS.sum(2).std(0, ddof=1) / math.sqrt(groups) if groups > 1 else np.zeros_like(norms_K)
        low_K = np.sqrt(np.clip(norms_K**2 - BAND * spread_K, 0, None))
        high_K = np.sqrt(norms_K**2 + BAND * spread_K)
    rate, level = fit_rate(norms_K)
    by_state = dict(zip(part.widths, np.sqrt(mean_KS).T, strict=True))
    period = part.period if part.squares_DKS is None else max(part.period, _period_of(norms_K))
    reach, censored = reach_of(norms_K, period)
    return Profile(part.name, norms_K, by_state, rate, level, reach, censored, period, (low_K, high_K))


def _period_of(norms_K: NDArray[np.float64]) -> int:
    """How many lags lie between those at which anything comes back, where it is nothing at all in between.

    As of a cell whose state is read several calls later, which is measured through the model.
    """
    lags = np.flatnonzero(norms_K)
    gaps = np.diff(lags)
    return int(gaps.max()) if len(gaps) >= FEWEST_GAPS and gaps.max() * FEWEST_GAPS < len(norms_K) else 1
