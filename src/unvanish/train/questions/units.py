"""In what units series are told: their own spread, their season, the error of repeating the last one.

Shapes: N steps of all series, S series, T steps of a window, B windows, H steps ahead, G targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.encoding import spread
from unvanish.data.sequences import Sequences
from unvanish.errors import DataError, printable
from unvanish.train.questions.forecast import ForecastQuestion, Units

PLACE = "#"  # begins a key that is only a position in a list: in another list it is another series
# Steps after which most series repeat: of a day for hours, of a week for days, of a year for the others.
SEASONS = {
    "second": 3600,
    "minute": 1440,
    "hour": 24,
    "day": 7,
    "working day": 5,
    "week": 52,
    "month": 12,
    "quarter": 4,
}


def season_of(step: str) -> int:
    """Return after how many steps most series of this step repeat.

    >>> season_of("1 hour"), season_of("15 minutes"), season_of("1 month"), season_of("1 year"), season_of("")
    (24, 96, 12, 1, 1)
    """
    count, _, unit = step.replace(",", "").partition(" ")
    whole = SEASONS.get(unit.rstrip("s"), 1)
    return max(1, whole // int(count)) if count.isdigit() and int(count) else 1


def single(values: NDArray[Any]) -> Tensor:
    """Return numbers as a tensor of single precision."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def others(data: Sequences, targets: tuple[str, ...]) -> Sequences:
    """The columns beside the targets."""
    kept = [place for place, name in enumerate(data.names) if name not in targets]
    names = tuple(data.names[place] for place in kept)
    return dataclasses.replace(data, numbers_NF=data.numbers_NF[:, kept], names=names)


def in_train(data: Sequences, train_S: NDArray[np.int64]) -> NDArray[np.bool_]:
    return data.place_N < np.repeat(train_S, data.lengths_B)


def units(name: str, values_N: NDArray[Any], how: str, counts: bool) -> tuple[float, float]:
    """Return what to take off the values of a target and what to divide them by.

    Raises:
        DataError: one is negative, and they are to be counts.
    """
    if not counts:
        return spread(values_N, how)
    known = values_N[np.isfinite(values_N)]
    if (known < 0).any():
        raise DataError(f"{name} holds {known.min():g}, and --loss negbin is for counts, from 0 on: take another")
    mean = float(known.mean())
    return 0.0, mean if mean > 0 else 1.0


def scales_of(
    question: ForecastQuestion, data: Sequences, train_S: NDArray[np.int64], values_NG: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is taken off the targets of each series, and what they are divided by.

    A series that was trained on keeps its units, whatever part of it is given later.
    """
    centre_SG, scale_SG = _measured(question, data, train_S, values_NG)
    for place, key in enumerate(data.keys if question.own and is_named(data) else ()):
        if key in question.own:
            centre_SG[place], scale_SG[place] = question.own[key]
    return centre_SG, scale_SG


def is_named(data: Sequences) -> bool:
    """Whether a column of the source names the series: else they are called by their places in a list."""
    if data.rows is None or data.called[0] not in data.rows.columns:
        return False
    return not all(key.startswith(PLACE) for key in data.keys)


def own_units_of(
    question: ForecastQuestion, data: Sequences, train_S: NDArray[np.int64], values_NG: NDArray[np.float32]
) -> dict[str, Units]:
    """Return the units of each series by its name, where each has its own."""
    if question.how != "series" or not is_named(data):
        return {}
    both = zip(*_measured(question, data, train_S, values_NG), strict=True)
    return {
        key: Units(tuple(centre_G.tolist()), tuple(scale_G.tolist()))
        for key, (centre_G, scale_G) in zip(data.keys, both, strict=True)
    }


def unknown_series(question: ForecastQuestion, data: Sequences) -> list[str]:
    """Say which series were not there in training, where each has units of its own."""
    if not question.own or not is_named(data):
        return []
    new = [place for place, key in enumerate(data.keys) if key not in question.own]
    if not new:
        return []
    return [f"{some(data, new)}: not there in training, so scaled by the values that are given here; give enough"]


def some(data: Sequences, places: Sequence[int] | NDArray[np.int64]) -> str:
    """Count series, and name the first of them where they have names."""
    if not is_named(data):
        return "the series" if len(data) == 1 else f"{len(places):,} series"
    few = ", ".join(printable(data.keys[place]) for place in places[:3]) + (", …" if len(places) > 3 else "")
    return f"{len(places):,} series ({few})"


def _measured(
    question: ForecastQuestion, data: Sequences, train_S: NDArray[np.int64], values_NG: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    count = len(data)
    centre_SG, scale_SG = (
        np.tile(np.array([getattr(one, name) for one in question.scales], np.float32), (count, 1))
        for name in ("centre", "scale")
    )
    if question.how != "series":
        return centre_SG, scale_SG
    weight_NG = (np.isfinite(values_NG) & in_train(data, train_S)[:, None]).astype(np.float64)
    filled_NG = np.where(weight_NG > 0, values_NG, 0).astype(np.float64)
    known_SG, total_SG = (np.add.reduceat(one, data.starts_B) for one in (weight_NG, filled_NG))
    mean_SG = total_SG / np.maximum(known_SG, 1)
    if question.likelihood.counts:
        centred = np.zeros_like(centre_SG)
        return centred, np.where((known_SG > 0) & (mean_SG > 0), mean_SG, scale_SG).astype(np.float32)
    off_NG = np.where(weight_NG > 0, filled_NG - np.repeat(mean_SG, data.lengths_B, 0), 0)
    spread_SG = np.sqrt(np.add.reduceat(off_NG**2, data.starts_B) / np.maximum(known_SG, 1))
    flat_SG = (known_SG < 2) | (spread_SG <= 1e-6 * np.abs(mean_SG))
    return (
        np.where(known_SG > 0, mean_SG, centre_SG).astype(np.float32),
        np.where(flat_SG, scale_SG, spread_SG).astype(np.float32),
    )


def of_windows(values_TBG: NDArray[Any], counts: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    known, values_TBG = np.isfinite(values_TBG), values_TBG.astype(np.float64)
    number_BG = np.maximum(known.sum(0), 1)
    mean_BG = np.where(known, values_TBG, 0).sum(0) / number_BG
    if counts:
        return np.zeros_like(mean_BG), np.where(mean_BG > 0, mean_BG, 1)
    spread_BG = np.sqrt((np.where(known, values_TBG - mean_BG, 0) ** 2).sum(0) / number_BG)
    return mean_BG, np.where(spread_BG > 1e-6 * np.abs(mean_BG), spread_BG, 1)


def naive_errors(
    data: Sequences, train_S: NDArray[np.int64], values_NG: NDArray[np.float32], season: int
) -> NDArray[np.float32]:
    """The mean error of what was a season before, in the training part of each series (Hyndman, Koehler 2006).

    Of a series in which nothing is known of it, that of all series together.
    """
    error_NG = np.full(values_NG.shape, np.nan, np.float64)
    later = np.flatnonzero((data.place_N >= season) & in_train(data, train_S))
    error_NG[later] = np.abs(values_NG[later].astype(np.float64) - values_NG[later - season])
    known_NG = np.isfinite(error_NG)
    sum_SG = np.add.reduceat(np.where(known_NG, error_NG, 0), data.starts_B)
    count_SG = np.add.reduceat(known_NG.astype(np.float64), data.starts_B)
    usual_G = sum_SG.sum(0) / np.maximum(count_SG.sum(0), 1)
    found_SG = np.where((count_SG > 0) & (sum_SG > 0), sum_SG / np.maximum(count_SG, 1), usual_G)
    return np.where(found_SG > 0, found_SG, 1).astype(np.float32)


def naive_forecasts(
    values_NG: NDArray[np.float32],
    start_B: NDArray[np.int64],
    now_B: NDArray[np.int64],
    ahead_H: NDArray[np.int64],
    season: int,
) -> NDArray[np.float32]:
    """Repeat the last season: what each value ahead was then, (B, H, G).

    Where that is missing it is what it was a season earlier, and so on; else the last value that is known; NaN
    where none is. So it answers what a network answers, and both are measured on the same values.

    >>> y = np.array([[1.0], [2.0], [np.nan], [4.0]])
    >>> naive_forecasts(y, np.array([0]), np.array([3]), np.array([1, 2, 3]), 2).ravel()
    array([1., 4., 1.])
    """
    at_BH = now_B[:, None] + ahead_H - season * -(-ahead_H // season)
    start_B1, found = start_B[:, None], []
    for values_N in values_NG.T:
        known_N, back_BH = np.isfinite(values_N), at_BH.copy()
        while (lost_BH := (back_BH >= start_B1) & ~known_N[np.maximum(back_BH, 0)]).any():
            back_BH -= season * lost_BH
        none_BH = back_BH < start_B1
        if none_BH.any():
            last_N = np.maximum.accumulate(np.where(known_N, np.arange(len(known_N)), -1))
            back_BH = np.where(none_BH, last_N[now_B][:, None], back_BH)
        found.append(np.where(back_BH >= start_B1, values_N[back_BH], np.nan))
    return np.stack(found, -1)


def bridged(values_TG: NDArray[Any]) -> NDArray[Any] | None:
    """A series with straight lines over its gaps; None where most of it is gaps."""
    known_TG = np.isfinite(values_TG)
    if known_TG.mean(0).min() < 0.5:
        return None
    place_T = np.arange(len(values_TG))
    return np.stack(
        [
            np.interp(place_T, place_T[known], one[known])
            for one, known in zip(values_TG.T, known_TG.T, strict=True)
        ],
        1,
    )
