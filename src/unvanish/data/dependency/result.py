"""What was found: dependence against lag, beside what chance alone gives.

Shapes: K lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.significance import Tail, discoveries

NEEDED_SHARE = 0.01  # of the largest value, as for the reach of a gradient


@dataclass(frozen=True, eq=False)
class Dependency:
    """Dependence against lag in a sequence, or between an input and a target.

    It is pairwise: one step against one other. What only several steps together tell (a parity, a bracket that
    waits for its partner) is not seen, so read it as a lower bound of what the data need. And what is handed on
    from step to step counts at every lag that it survives to, though a model may get it from the nearest one.

    Attributes:
        kind: `symbols`, `numbers`, or `mixed` (numbers cut into bins, to meet symbols).
        unit: of `values`, `raw`, `null_mean` and `null_high`.
        lags: steps back, ascending, (K,).
        values: the dependence less what chance alone gives in the mean, `raw - null_mean`; may be negative.
        raw: the dependence as it stands in the sample; never negative.
        null_mean: the mean of the same thing in shuffled data.
        null_high: chance alone puts `raw` over this at any of the lags with a probability of `level`.
        p_values: the chance of at least `raw` in shuffled data, lag by lag.
        significant: the lags whose false discovery rate is under `level` (Benjamini and Hochberg 1995).
        samples: pairs behind each lag.
    """

    kind: str
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
        top = int(np.argmax(self.values))
        strongest = f"strongest {self.values[top]:.4g} {self.unit} at lag {self.lags[top]}"
        found = f"{int(self.significant.sum())} of {len(self.lags)} lags significant"
        if not self._decisive.any():
            return f"Dependency({self.kind}: {found}, none that counts; pairwise, a lower bound)"
        return (
            f"Dependency({self.kind}: {found}, {strongest}, needed ≥ {self.needed} steps; pairwise, a lower bound)"
        )

    @property
    def _decisive(self) -> NDArray[np.bool_]:
        share = self.values >= NEEDED_SHARE * self.values.max()
        return np.asarray((self.raw > self.null_high) & share)

    @property
    def needed(self) -> int:
        """The largest lag over `null_high` with at least 1 % of the largest value; 0 where there is none.

        Significance alone does not decide: of the significant lags a share of `level` may be false, and the
        largest of them would be one such. Over `null_high` chance alone puts none at all, in 1 − `level` of cases.
        """
        found = self.lags[self._decisive]
        return int(found[-1]) if len(found) else 0

    @property
    def censored(self) -> bool:
        """Whether `needed` is the last lag measured: look further back then."""
        return bool(self._decisive[-1])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a record or a report."""
        arrays = {
            name: getattr(self, name).tolist()
            for name in ("lags", "values", "raw", "null_mean", "null_high", "p_values", "significant", "samples")
        }
        return {"kind": self.kind, "unit": self.unit, "needed": self.needed, "censored": self.censored, **arrays}


def judged(
    kind: str,
    lags_K: NDArray[np.int64],
    raw_K: NDArray[np.float64],
    samples_K: NDArray[np.int64],
    chance_K: list[Tail],
    level: float,
) -> Dependency:
    """Hold what was found against what chance alone gives at each lag."""
    mean_K = np.array([chance.mean for chance in chance_K])
    p_K = np.array([chance.beyond(raw) for chance, raw in zip(chance_K, raw_K.tolist(), strict=True)])
    return Dependency(
        kind=kind,
        unit="squared rank correlation" if kind == "numbers" else "nats",
        lags=lags_K,
        values=raw_K - mean_K,
        raw=raw_K,
        null_mean=mean_K,
        null_high=np.array([chance.edge(level / len(lags_K)) for chance in chance_K]),
        p_values=p_K,
        significant=discoveries(p_K, level),
        samples=samples_K,
    )
