"""What was found: dependence against lag, beside what chance alone gives, and the context that is needed.

Shapes: K lags.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.needed import Curve, Need
from unvanish.data.dependency.significance import Tail, discoveries
from unvanish.record import Result

VISIBLE_SHARE = 0.01  # of the largest value, as for the reach of a gradient


@dataclass(frozen=True, eq=False)
class Dependency(Result):
    """How far back a sequence, or an input for its target, is dependent, and how much of that a model needs.

    Two lags, which may be far apart. *Visible* is the farthest step that depends on the present one, pair by pair:
    what is handed on from step to step counts at every lag that it survives to, though a model may get it from the
    nearest. *Needed* is the shortest context that predicts as well as any: with L(k) the held-out loss of a
    predictor that sees k steps back and L(∅) of one that sees none, the smallest k with

        L(∅) − L(k) ≥ 0.99 · max_j (L(∅) − L(j)).

    Of an autoregression x_t = 0.99 x_{t−1} + noise hundreds of steps are visible and one is needed.

    Attributes:
        kind: `symbols`, `numbers`, or `mixed` (one of each).
        needed: the needed lag; 0 where nothing can be predicted, or only from the present input.
        censored: whether to read it as "at least": the gain still rises at the last lag looked at, or the sample
            is too small to tell.
        note: what was not seen, or could not be told, in words.
        curve: the gain by context: lags, gain, standard error.
        unit: of `values`, `raw`, `null_mean` and `null_high`.
        lags: steps back, ascending, (K,).
        values: the pairwise dependence less what chance alone gives in the mean, `raw - null_mean`; may be
        negative. raw: the dependence as it stands in the sample; never negative.
        null_mean: the mean of the same thing in shuffled data.
        null_high: chance alone puts `raw` over this at any of the lags with a probability of `level`.
        p_values: the chance of at least `raw` in shuffled data, lag by lag.
        significant: the lags whose false discovery rate is under `level` (Benjamini and Hochberg 1995).
        samples: pairs behind each lag.
    """

    shown_as: ClassVar[str] = "dependency"
    kind: str
    needed: int
    censored: bool
    note: str
    curve: Curve
    unit: str
    lags: NDArray[np.int64]
    values: NDArray[np.float64]
    raw: NDArray[np.float64]
    null_mean: NDArray[np.float64]
    null_high: NDArray[np.float64]
    p_values: NDArray[np.float64]
    significant: NDArray[np.bool_]
    samples: NDArray[np.int64]

    def __repr__(self) -> str:
        needed, visible = (
            f"{'≥ ' if least else ''}{steps}"
            for steps, least in ((self.needed, self.censored), (self.visible, self.visible_censored))
        )
        top = int(np.argmax(self.values))
        strongest = f"strongest pair {self.values[top]:.4g} {self.unit} at lag {self.lags[top]}"
        pairwise = strongest if self.decisive.any() else "no pair that counts"
        return f"Dependency({self.kind}: needed {needed} steps, visible {visible} steps, {pairwise})"

    def __str__(self) -> str:
        return f"{self!r}\n{self.note}" if self.note else repr(self)

    @property
    def decisive(self) -> NDArray[np.bool_]:
        """At which lags a pair counts: see `visible`."""
        share = self.values >= VISIBLE_SHARE * self.values.max()
        return np.asarray((self.raw > self.null_high) & share)

    @property
    def visible(self) -> int:
        """The largest lag over `null_high` with at least 1 % of the largest value; 0 where there is none.

        Significance alone does not decide: of the significant lags a share of `level` may be false, and the
        largest of them would be one such. Over `null_high` chance alone puts none at all, in 1 − `level` of cases.
        """
        found = self.lags[self.decisive]
        return int(found[-1]) if len(found) else 0

    @property
    def visible_censored(self) -> bool:
        """Whether dependence has not ended at the last lag measured: of the last tenth of the lags one counts.

        A period or a slow trend is over the edge of chance at most lags, and at the very last one perhaps not.
        """
        return bool(self.decisive[-max(len(self.lags) // 10, 1) :].any())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a record or a report."""
        names = ("lags", "values", "raw", "null_mean", "null_high", "p_values", "significant", "samples")
        return {
            "kind": self.kind,
            "needed": self.needed,
            "censored": self.censored,
            "note": self.note,
            "curve": self.curve.to_dict(),
            "visible": self.visible,
            "visible_censored": self.visible_censored,
            "unit": self.unit,
            **{name: getattr(self, name).tolist() for name in names},
        }


@dataclass(frozen=True, eq=False)
class Pairwise:
    """What was measured pair by pair: raw values (K,), numbers of pairs (K,), and what chance gives (K)."""

    kind: str
    lags: NDArray[np.int64]
    raw: NDArray[np.float64]
    samples: NDArray[np.int64]
    chance: list[Tail]

    @property
    def values(self) -> NDArray[np.float64]:
        """What chance alone does not give."""
        found: NDArray[np.float64] = self.raw - np.array([chance.mean for chance in self.chance])
        return found


def judged(found: Pairwise, need: Need, level: float) -> Dependency:
    """Hold what was found pair by pair against what chance alone gives at each lag, beside the need."""
    pairs = zip(found.chance, found.raw.tolist(), strict=True)
    p_K = np.array([chance.beyond(raw) for chance, raw in pairs])
    whole = Dependency(
        kind=found.kind,
        needed=need.steps,
        censored=need.censored,
        note=need.note,
        curve=need.curve,
        unit="squared rank correlation" if found.kind == "numbers" else "nats",
        lags=found.lags,
        values=found.values,
        raw=found.raw,
        null_mean=found.raw - found.values,
        null_high=np.array([chance.edge(level / len(found.lags)) for chance in found.chance]),
        p_values=p_K,
        significant=discoveries(p_K, level),
        samples=found.samples,
    )
    return replace(whole, censored=True) if need.blind and whole.visible else whole
