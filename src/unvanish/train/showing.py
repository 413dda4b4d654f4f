"""Examples of what a run answers, for its report: forecasts beside what came, classes and what they were taken for.

Some of them only: a record stays small however many series or classes there are. Shapes: K classes, B windows,
H steps ahead, G targets, S series.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.train.answering import judged
from unvanish.train.load import Loaded
from unvanish.train.model import on
from unvanish.train.predicting import own_units
from unvanish.train.questions import Sums
from unvanish.train.questions.forecast import ForecastQuestion, Wanted
from unvanish.train.questions.labels import LabelQuestion
from unvanish.train.questions.series import SeriesMaterial, Windows
from unvanish.train.session import Session

CLASSES = 24  # that a matrix has room for; the others are put together
OTHERS = "others"
SHOWN = 4  # forecasts
AHEAD, BEHIND = 400, 200  # steps of a forecast, and of what is shown before it, at most
MINUTE, DAY = 60_000_000, 86_400_000_000  # microseconds
SCORED = 10  # series, of the best and of the worst


def has(session: Session, kind: str, step: int) -> bool:
    """Tell whether a line was written at a step: before a kill, in a run that goes on."""
    return any(line["step"] == step for line in session.record.read(kind))


# -- classes -----------------------------------------------------------------------------------------------------


def write_confusion(session: Session, tested: Sums | None, step: int, seconds: float) -> None:
    """Write how often each class was taken for each: where it was tested, else where it was validated."""
    question = session.material.question
    if not isinstance(question, LabelQuestion) or question.asked != "class" or has(session, "confusion", step):
        return
    part, sums = ("valid", None) if session.material.test() is None else ("test", tested)
    if sums is None:
        batches = session.material.test() or session.material.valid()
        sums = judged(session.module.model, question, batches)
    names, taken_KK = gathered(question.levels, sums["taken"].view(question.outputs, question.outputs))
    session.record.append("confusion", step, seconds, on=part, names=names, taken=taken_KK.int().tolist())


def gathered(names: tuple[str, ...], taken_KK: Tensor, most: int = CLASSES) -> tuple[list[str], Tensor]:
    """Keep the commonest classes in their order, and add up the others as one.

    >>> gathered(("a", "b", "c"), torch.tensor([[1.0, 0, 2], [0, 5, 0], [0, 1, 0]]), most=1)
    (['b', 'others'], tensor([[5., 0.],
            [1., 3.]]))
    """
    if len(names) <= most:
        return list(names), taken_KK
    kept = taken_KK.sum(1).sort(descending=True, stable=True).indices[:most].sort().values
    place_K = torch.full((len(names),), most)
    place_K[kept] = torch.arange(most)
    found = taken_KK.new_zeros(most + 1, most + 1)
    found.index_put_((place_K[:, None], place_K[None, :]), taken_KK, accumulate=True)
    return [*(names[code] for code in kept.tolist()), OTHERS], found


# -- forecasts ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Score:
    """One series: its windows, the absolute error of the medians and that in naive ones, over so many values."""

    series: int
    windows: Windows
    absolute: float
    scaled: float
    count: int

    @property
    def mase(self) -> float:
        return self.scaled / self.count


def write_forecasts(session: Session, step: int, seconds: float) -> None:
    """Write some forecasts of the test, else of the validation, and the scores of the best and the worst series."""
    material = session.material
    if not isinstance(material, SeriesMaterial) or has(session, "forecast", step):
        return
    tested = material.tested()
    part = "test" if len(tested) else "valid"
    windows = tested if len(tested) else material.validated()
    loaded = Loaded(
        session.module.model, material.question, session.settings, session.record.config, session.record.folder
    )
    ranked = sorted(_scores(loaded, material, windows), key=lambda score: score.mase)
    if not ranked:
        return
    listed = ranked if len(ranked) <= 2 * SCORED else [*ranked[:SCORED], *ranked[-SCORED:]]
    session.record.append(
        "forecast",
        step,
        seconds,
        on=part,
        apart=material.question.step,
        windows=_shown(loaded, material, ranked),
        series=[_scored(material, score) for score in listed],
        of=len(ranked),
    )


def _scores(loaded: Loaded, material: SeriesMaterial, windows: Windows) -> list[_Score]:
    """Score every series of which anything was forecast that came."""
    absolute_B, scaled_B, count_B = (np.zeros(len(windows)) for _ in range(3))
    for rows, bands, y in _bands(loaded, material, windows):
        came = _came(y)
        error_BHG = torch.stack([bands[target] for target in material.question.targets], -1) - came
        known_BHG = torch.isfinite(came)
        error_BHG = torch.where(known_BHG, error_BHG, 0).abs()
        absolute_B[rows] = error_BHG.sum((1, 2))
        scaled_B[rows] = (error_BHG / y.naive_BG[:, None]).sum((1, 2))
        count_B[rows] = known_BHG.sum((1, 2))
    found = []
    for series in np.unique(windows.series_B).tolist():
        rows_B = np.flatnonzero(windows.series_B == series)
        count = int(count_B[rows_B].sum())
        if count:
            own = Windows(windows.series_B[rows_B], windows.origin_B[rows_B])
            sums = float(absolute_B[rows_B].sum()), float(scaled_B[rows_B].sum())
            found.append(_Score(series, own, *sums, count))
    return found


@torch.no_grad()
def _bands(
    loaded: Loaded, material: SeriesMaterial, windows: Windows
) -> Iterator[tuple[slice, dict[str, Tensor], Wanted]]:
    """Yield the median and the intervals of windows in the units of the data, and what was wanted, by batch."""
    assert isinstance(loaded.question, ForecastQuestion)
    size, model = loaded.settings.batch_size, loaded.model
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(windows), size):
            rows = slice(start, start + size)
            x, y = material.window(Windows(windows.series_B[rows], windows.origin_B[rows]), every=False)
            answer = model(on(model, x))[0].cpu()
            yield rows, own_units(loaded, loaded.question, answer, y.centre_BG[:, None], y.scale_BG[:, None]), y
    finally:
        model.train(was_training)


def _came(y: Wanted) -> Tensor:
    """What came, in the units of the data, (B, H, G)."""
    return y.values.double() * y.scale_BG[:, None] + y.centre_BG[:, None]


def _scored(material: SeriesMaterial, score: _Score) -> dict[str, Any]:
    return {
        "key": material.data.keys[score.series],
        "windows": len(score.windows),
        "mase": score.mase,
        "mae": score.absolute / score.count,
        "naive": material.naive_metrics(score.windows)["mase"],
    }


def _shown(loaded: Loaded, material: SeriesMaterial, ranked: list[_Score]) -> list[dict[str, Any]]:
    """The last windows of the best series, of the worst and of some between; of few series, several of each."""
    targets = material.question.targets[:SHOWN]
    room = SHOWN // len(targets)
    places = np.unique(np.linspace(0, len(ranked) - 1, min(room, len(ranked))).round().astype(int))
    found = []
    for place in places.tolist():
        own = ranked[place].windows
        last = np.argsort(own.origin_B)[-max(1, room // len(places)) :]
        kept = Windows(own.series_B[last], own.origin_B[last])
        for rows, bands, _ in _bands(loaded, material, kept):
            for row in range(len(kept.series_B[rows])):
                at = Windows(kept.series_B[rows][row : row + 1], kept.origin_B[rows][row : row + 1])
                one = {name: values[row, :AHEAD] for name, values in bands.items()}
                found += [_window(material, at, target, one) for target in targets]
    return found


def _window(material: SeriesMaterial, at: Windows, target: str, bands: dict[str, Tensor]) -> dict[str, Any]:
    """One forecast of one target, with what was known before it and what came after it."""
    data, horizon = material.data, material.question.horizon
    place = material.question.targets.index(target)
    now = int(data.starts_B[at.series_B[0]] + at.origin_B[0])
    behind = min(int(at.origin_B[0]) + 1, max(2 * horizon, material.settings.length), BEHIND)
    ends = {"low": f"{target}-lo-", "high": f"{target}-hi-"}
    return {
        "key": data.keys[int(at.series_B[0])],
        "target": target,
        "after": _moment(data.times_N, now),
        "history": _short(material.values_NG[now + 1 - behind : now + 1, place]),
        "came": _short(material.values_NG[now + 1 : now + 1 + min(horizon, AHEAD), place]),
        "middle": _short(bands[target]),
        **{
            end: {name.removeprefix(begins): _short(v) for name, v in bands.items() if name.startswith(begins)}
            for end, begins in ends.items()
        },
    }


def _short(values: Tensor | NDArray[Any]) -> list[float]:
    """Write values with the seven digits that single precision has."""
    return [float(f"{value:.7g}") for value in values.tolist()]


def _moment(times_N: NDArray[Any] | None, now: int) -> str:
    """Say when a step was, without a time of day where no step has one."""
    if times_N is None or times_N.dtype.kind != "i":
        return "" if times_N is None else f"{times_N[now]:g}"
    unit = "s" if times_N[now] % MINUTE else "m" if (times_N % DAY).any() else "D"
    return str(times_N[now].astype("datetime64[us]").astype(f"datetime64[{unit}]")).replace("T", " ")
