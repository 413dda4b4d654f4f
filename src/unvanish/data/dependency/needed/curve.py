"""From held-out losses by context length to the shortest context that is enough.

Shapes: B blocks of held-out steps, K contexts, and one more for the empty context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ENOUGH = 0.99  # of what can be predicted at all
TAIL = 20  # a curve that still rises over its last twentieth
RISES = 0.001  # by this share of the whole has not levelled off
SMALL = 0.02  # of the loss
COARSE = 0.1  # of the whole: where chance hides more than that, the sample cannot tell

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """How much is predicted with how many steps of context.

    Attributes:
        lags: the farthest step back that the context holds, ascending, (K,).
        gain: what the context takes off the held-out loss, against no context at all.
        error: the standard error of `gain`.
        unit: of both: `share of the variance` for numbers, `nats` for symbols.
    """

    lags: NDArray[np.int64]
    gain: Floats
    error: Floats
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and lists."""
        lists = {name: getattr(self, name).tolist() for name in ("lags", "gain", "error")}
        return {**lists, "unit": self.unit}


@dataclass(frozen=True, eq=False)
class Need:
    """The shortest context that is enough, whether it may be longer, and what was not seen.

    `blind` says that nothing was found, and that the sample is too small to tell a small gain from chance.
    """

    steps: int
    censored: bool
    note: str
    curve: Curve
    blind: bool = False


def judged(
    losses_BK: Floats,
    lags_K: NDArray[np.int64],
    level: float,
    unit: str,
    notes: list[str],
    told_K: Floats,
    *,
    closed: bool = False,
    grain: float = 0.0,
) -> Need:
    """Judge the losses of the blocks: column 0 without context, then one column per lag.

    A context is enough if the best one is not better by more than 1 % of the whole gain and by more than chance, at
    `level` for all contexts together. Chance has two bounds. Student's t over the blocks: held-out blocks have
    their null built in, for where nothing can be predicted, whatever was fitted makes them worse in the mean. And
    `told_K`, the log-likelihood of all held-out steps in nats by context: E exp(gain in nats) ≤ 1 where a context
    tells nothing, so that chance goes beyond log 1/p with probability p at most (Ville 1939). The second holds
    where what is rare is in no block, and the spread over blocks is too small. `closed` says that no step lies
    further back; `grain` is the share of a loss that a predictor leaves alone.
    """
    gain_BK = losses_BK[:, :1] - losses_BK
    gain_K = gain_BK.mean(0)
    looked = _octaves(len(lags_K))
    bound = _student(level / len(looked), len(losses_BK) - 1)
    error_K = _error(gain_BK)
    curve = Curve(lags_K, gain_K[1:], error_K[1:], unit)
    sure = math.log(len(looked) / level)
    if not ((gain_K > bound * error_K) & (told_K - told_K[0] > sure))[looked].any():
        hidden = max(float(bound * error_K[looked].min() / max(losses_BK[:, 0].mean(), 1e-300)), grain)
        if hidden > SMALL:
            share = f"under {hidden:.0%} of the loss" if hidden < 1 else "of any size"
            notes = [*notes, f"the sample is too small to tell a gain {share} from chance"]
        return Need(0, False, "; ".join(notes), curve, blind=hidden > SMALL)
    best = int(gain_K.argmax())
    missing_BK = gain_BK[:, [best]] - gain_BK
    unsure_K = bound * _error(missing_BK)
    lost_K = np.maximum((1 - ENOUGH) * gain_K[best], unsure_K)
    as_good_K = (missing_BK.mean(0) <= lost_K) | (told_K[best] - told_K <= sure)
    enough = max(int(np.flatnonzero(as_good_K)[0]), 1)
    coarse = float(max(unsure_K[enough], grain * losses_BK[:, enough].mean()) / gain_K[best])
    if coarse > 1 - ENOUGH:
        share = f"{coarse:.0%}" if coarse < 1 else "all"
        notes = [*notes, f"the sample is too small to tell {share} of the gain from chance"]
    rises = not closed and _rises(gain_BK, gain_K[best], bound, lags_K)
    last = int(lags_K[enough - 1])
    at_end = not closed and len(lags_K) > 1 and enough == len(lags_K)
    return Need(last, bool(rises or at_end or coarse > COARSE), "; ".join(notes), curve)


def _rises(gain_BK: Floats, whole: float, bound: float, lags_K: NDArray[np.int64]) -> bool:
    """Whether the last twentieth of the lags still brings something."""
    before = int(np.searchsorted(lags_K, lags_K[-1] * (1 - 1 / TAIL), side="right"))
    rise_B = gain_BK[:, -1] - gain_BK[:, min(before, len(lags_K) - 1)]
    return bool(rise_B.mean() > max(RISES * whole, bound * _error(rise_B[:, None])[0]))


def _octaves(count: int) -> NDArray[np.int64]:
    """Places 1, 2, 4, … and the last: contexts in between hold little that these do not."""
    return np.unique(np.minimum(2 ** np.arange(count.bit_length() + 1), count))


def _error(values_BK: Floats) -> Floats:
    found: Floats = values_BK.std(0, ddof=1) / math.sqrt(len(values_BK))
    return found


def _student(p: float, freedom: int) -> float:
    """The value that Student's t exceeds with probability p (Cornish, Fisher 1938).

    >>> round(_student(0.025, 19), 3)
    2.093
    """
    z = float(torch.special.ndtri(torch.tensor(1 - p, dtype=torch.float64)))
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
