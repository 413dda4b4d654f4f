"""What comes next in a series: so many steps ahead at once, as quantiles or a distribution.

Each step of a window answers for the steps after it (Wen et al. 2017), unless the window itself tells the scale.

Shapes: T time, B batch, H steps ahead, G targets, K columns known beforehand, P numbers of an answer, Q quantiles.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unvanish.data.encoding import Column, Encoding
from unvanish.equations import Cell
from unvanish.errors import OptionError
from unvanish.record.run import SERIES
from unvanish.train.model import Inputs, Network, Readout, Steps, make_layers, output_width
from unvanish.train.questions.likelihoods import COVERED, LEVELS, LIKELIHOODS
from unvanish.train.questions.question import Question, Sums, unfit
from unvanish.train.settings import TrainSettings


class Wanted(NamedTuple):
    """What is to come, and in what units.

    Attributes:
        values: (T, B, H, G) or (B, H, G), in units of the series; NaN where it is not known.
        centre_BG, scale_BG: what was taken off, and what it was divided by.
        naive_BG: the mean error of the seasonal naive forecast in the training part, in its own units.
    """

    values: Tensor
    centre_BG: Tensor
    scale_BG: Tensor
    naive_BG: Tensor


class Units(NamedTuple):
    """What is taken off the targets of a series, and what they are divided by."""

    centre_G: tuple[float, ...]
    scale_G: tuple[float, ...]


class ForecastHead(nn.Module):
    """A linear answer for all steps ahead: of the output, and of what is known of them beforehand."""

    def __init__(self, width: int, horizon: int, targets: int, size: int, known: int) -> None:
        super().__init__()
        self.shape = (horizon, targets, size)
        self.linear = nn.Linear(width + horizon * known, horizon * targets * size)

    def forward(self, output_TBW: Tensor, x: Inputs) -> Tensor:
        """Return (T, B, H, G, P), or (B, H, G, P) where only the last step is asked."""
        assert x.ahead is not None
        read = output_TBW if x.ahead.dim() == 3 else Readout.last(output_TBW, x.lengths_B)
        found: Tensor = self.linear(torch.cat([read, x.ahead], -1))
        return found.view(*found.shape[:-1], *self.shape)


class ForecastQuestion(Question):
    """What comes next?

    Attributes:
        every: whether each step of a window answers, in training.
        targets: the columns to forecast; scaled by `how`, with the numbers of the training part in `scales`.
        known: columns that are known beforehand.
        season: steps after which a series repeats.
        own: where each series has units of its own, those that it was trained in, by what its source calls it.
    """

    kind, unit = "forecast", "step"

    def __init__(
        self,
        encoding: Encoding,
        targets: tuple[str, ...],
        scales: tuple[Column, ...],
        known: tuple[str, ...],
        horizon: int,
        how: str,
        likelihood: str,
        season: int,
        step: str = "",
        marks: tuple[tuple[str, str], ...] = (),
        own: Mapping[str, Units] | None = None,
    ) -> None:
        self.encoding, self.targets, self.scales, self.known = encoding, targets, scales, known
        self.horizon, self.how, self.season = horizon, how, season
        self.step, self.marks = step, marks
        self.named, self.likelihood = likelihood, LIKELIHOODS[likelihood]()
        self.every = how != "window"
        self.widened_HG: Tensor | None = None
        self.own = own or {}

    def calibrated(self, widths: Iterable[tuple[float, list[list[float]]]]) -> ForecastQuestion:
        """Return the question with the first interval widened as it was calibrated, by share covered."""
        found = copy.copy(self)
        for share, of_share in widths:
            if share == COVERED[0]:
                found.widened_HG = torch.tensor(of_share)
        return found

    @property
    def width(self) -> int:
        """How many numbers a step has: the targets and marks of their gaps, and the other columns."""
        return len(self.targets) + sum(one.gaps for one in self.scales) + self.encoding.width

    def network(self, cell: Cell, settings: TrainSettings) -> Network:
        """Make a network that answers it."""
        if settings.bidirectional:
            raise OptionError("--bidirectional reads what is to be predicted: leave it away for forecasts")
        steps = Steps(self.width, [len(one.levels) for one in self.encoding.categories])
        layers = make_layers(cell, steps.width, settings)
        head = ForecastHead(
            output_width(settings), self.horizon, len(self.targets), self.likelihood.size, len(self.known)
        )
        return Network(steps, layers, head)

    def check(self, weights: Mapping[str, Any], settings: TrainSettings) -> str:
        """Say what in weights cannot be of a network of this question."""
        rows = self.horizon * len(self.targets) * self.likelihood.size
        return unfit(weights, "head.linear.weight", (rows, output_width(settings) + self.horizon * len(self.known)))

    def example(self) -> Inputs:
        """Return a window of one step."""
        codes = torch.zeros(1, 1, len(self.encoding.categories), dtype=torch.long)
        return Inputs(torch.zeros(1, 1, self.width), codes, None, torch.zeros(1, self.horizon * len(self.known)))

    def loss(self, network: Network, answer: Tensor, y: Wanted) -> Tensor:
        """Return the mean loss over all values that are known."""
        losses, known = self._losses(answer, y)
        return losses.sum() / known.sum().clamp_min(1)

    def answered(self, y: Wanted) -> Tensor:
        """Count the values that are known."""
        return torch.isfinite(y.values).sum()

    def _losses(self, answer: Tensor, y: Wanted) -> tuple[Tensor, Tensor]:
        known = torch.isfinite(y.values)
        scale = y.scale_BG[:, None].expand_as(y.values)
        losses = self.likelihood.loss(answer, torch.where(known, y.values, 0), scale)
        return torch.where(known, losses, 0), known

    def judge(self, network: Network, answer: Tensor, y: Wanted) -> Sums:
        """Return sums of the loss and of the errors of the median, in own units and in naive ones."""
        losses, known = self._losses(answer, y)
        with torch.no_grad():
            low, middle, high = self.bands(answer, y)
        values = torch.where(known, y.values, middle)
        error = (values - middle) * y.scale_BG[:, None]
        within = known & (values >= low) & (values <= high)
        return {
            "loss": losses.sum(),
            "count": known.sum(),
            "absolute": error.abs().sum().double(),
            "squared": (error**2).sum().double(),
            "scaled": (error.abs() / y.naive_BG[:, None]).sum().double(),
            "within": within.sum(),
        }

    def bands(self, answer: Tensor, y: Wanted) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lower end of the first interval, calibrated where it was, the median and the upper end."""
        scale = y.scale_BG[:, None].expand(answer.shape[:-1])
        low, middle, high = self.likelihood.quantiles(answer, scale, (LEVELS[1], 0.5, LEVELS[3])).unbind(-1)
        if self.widened_HG is None:
            return low, middle, high
        width_HG = self.widened_HG.to(middle)
        return torch.minimum(low - width_HG, middle), middle, torch.maximum(high + width_HG, middle)

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Return the loss with MAE and RMSE in own units, MASE, and the share within the first interval."""
        found = forecast_metrics({name: float(value) for name, value in sums.items()})
        if self.named == "point" and self.widened_HG is None:  # it has no band of its own
            del found["coverage"]
        return found

    def line(self, metrics: Mapping[str, float]) -> str:
        """Say the metrics in few words."""
        return (
            f"loss {metrics['loss']:.4f}  MASE {metrics['mase']:.3f}  MAE {metrics['mae']:.4g}  "
            f"RMSE {metrics['rmse']:.4g}"
            + (f"  within {COVERED[0]:.0%} band {metrics['coverage']:.0%}" if "coverage" in metrics else "")
        )

    def count(self, x: Inputs) -> int:
        """Count the steps of a batch, without what only fills it up."""
        return x.steps

    def at_steps(self, network: Network, answer: Tensor, y: Wanted) -> Tensor | None:
        """Return the loss at every time step and row, (T, B), where each step answers."""
        losses, _ = self._losses(answer, y)
        return losses.sum((-1, -2)) if losses.dim() == 4 else None

    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` keeps of it."""
        return {
            "targets": list(self.targets),
            "scales": [vars(one) for one in self.scales],
            "known": list(self.known),
            "horizon": self.horizon,
            "how": self.how,
            "likelihood": self.named,
            "season": self.season,
            "step": self.step,
            "marks": dict(self.marks),
            "encoding": self.encoding.to_dict(),
            "own": hashlib.sha256(self.files()[SERIES]).hexdigest() if self.own else "",
        }

    def files(self) -> dict[str, bytes]:
        """Return the units of the series, which may be many, in a file of their own."""
        if not self.own:
            return {}
        return {SERIES: (json.dumps({key: list(one) for key, one in self.own.items()}) + "\n").encode()}

    @classmethod
    def of_kept(cls, plain: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> ForecastQuestion:
        """Make it of what `kept` returned, and of what its file holds."""
        return cls(
            Encoding.from_dict(plain["encoding"]),
            tuple(plain["targets"]),
            tuple(Column(**one) for one in plain["scales"]),
            tuple(plain["known"]),
            plain["horizon"],
            plain["how"],
            plain["likelihood"],
            plain["season"],
            plain["step"],
            tuple(plain.get("marks", {}).items()),
            {key: _units(one, len(plain["targets"])) for key, one in (own or {}).items()},
        )


def _units(plain: Any, targets: int) -> Units:
    found = Units(*(tuple(map(float, one)) for one in plain))
    if any(len(one) != targets for one in found) or not all(map(math.isfinite, (*found.centre_G, *found.scale_G))):
        raise ValueError("the units of a series are not one finite number for each target")
    return found


def forecast_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a forecast from sums over its values."""
    count = max(sums["count"], 1.0)
    return {
        "loss": sums["loss"] / count,
        "mase": sums["scaled"] / count,
        "mae": sums["absolute"] / count,
        "rmse": (sums["squared"] / count) ** 0.5,
        "coverage": sums["within"] / count,
    }
