"""A threshold from the norms that a model's gradients have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unvanish.errors import FlowError
from unvanish.flow.finding.calling import called
from unvanish.flow.finding.untouched import untouched
from unvanish.remedies.clip.backward import go_back
from unvanish.remedies.clip.gradients import collect, tensor_norms, together

_PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
_LOWEST, _HIGHEST = 0.5, 10.0  # of the mean


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Norms of a model's gradient over batches, and the threshold that follows.

    Attributes:
        norms: of the batches whose gradient is finite, in their order.
        mean, spread: their mean and standard deviation.
        percentiles: the 5th, 10th, 25th, 50th, 75th, 90th and 95th.
        lowest, highest: half the mean and ten times it, between which training still converged in the paper.
        threshold: the suggested one: the mean.
        nonfinite: how many batches had a gradient that is not finite, and were left out.
    """

    norms: NDArray[np.float64]
    mean: float
    spread: float
    percentiles: Mapping[int, float]
    lowest: float
    highest: float
    nonfinite: int

    @property
    def threshold(self) -> float:
        """The mean norm: the figure that the paper starts from, well inside its range, to be given to `ByNorm`."""
        return self.mean

    def __repr__(self) -> str:
        left_out = f", {self.nonfinite} not finite" if self.nonfinite else ""
        return (
            f"Suggestion(threshold {self.threshold:.3g}, between {self.lowest:.3g} and {self.highest:.3g}; norms "
            f"of {len(self.norms)} batches {self.mean:.3g} ± {self.spread:.3g}{left_out})"
        )


def suggest(model: nn.Module, batches: Iterable[Any], loss: Callable[[Any], Any]) -> Suggestion:
    """Measure the norms of `loss(model(batch))`'s gradient, and suggest a threshold for `ByNorm`.

    Pascanu, Mikolov, Bengio 2013, section 3.2: the threshold comes from the mean norm over many updates, and values
    from half to ten times that mean still converge. The mean itself leaves usual gradients nearly as they are, and
    cuts those that an explosion makes. Where the mean is far above the median (`percentiles[50]`), explosions are
    among the batches and make it: then take the median.

    The weights do not move, so this is one moment of training; ask again after some hundred steps.

    Args:
        model: it runs in training mode. Its gradients, modes and buffers are given back as they were.
        batches: what the model takes; a tuple is spread over its arguments, a mapping over their names.
        loss: makes one number of the model's output.

    Raises:
        FlowError: no batch has a finite gradient, or the loss is not a number with a gradient.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> suggest(model, [torch.tensor([[size]]) for size in (1.0, 2.0, 3.0)], lambda output: output.sum())
    Suggestion(threshold 2, between 1 and 20; norms of 3 batches 2 ± 0.816)
    """
    norms = []
    with untouched(model):
        model.train()
        for batch in batches:
            go_back(model, lambda batch=batch: loss(called(model, batch)))  # type: ignore[misc]
            norms.append(together(tensor_norms(collect(model).tensors)))
    finite_N = np.array([norm for norm in norms if math.isfinite(norm)])
    if not len(finite_N):
        why = f"none of the {len(norms)} batches has a finite gradient" if norms else "there are no batches"
        raise FlowError(f"there is nothing to make a threshold from: {why}; look at unvanish.diagnose(…) first")
    mean = float(finite_N.mean())
    return Suggestion(
        norms=finite_N,
        mean=mean,
        spread=float(finite_N.std()),
        percentiles=dict(zip(_PERCENTILES, np.percentile(finite_N, _PERCENTILES).tolist(), strict=True)),
        lowest=_LOWEST * mean,
        highest=_HIGHEST * mean,
        nonfinite=len(norms) - len(finite_N),
    )
