"""Series to forecast: their last steps held back, the rest cut into windows.

Shapes: N steps of all series, S series, B windows, T steps of a window, H steps ahead, G targets, K known columns,
F numbers of a step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unvanish.data.batches import SequenceBatches
from unvanish.data.dependency import dependency
from unvanish.data.encoding import Column, Encoding
from unvanish.data.sequences import Sequences, numbered
from unvanish.errors import DataError, OptionError, UnvanishError, printable
from unvanish.train.model import Inputs
from unvanish.train.questions.ends import last_known
from unvanish.train.questions.forecast import ForecastQuestion, Wanted, forecast_metrics
from unvanish.train.questions.question import Batches, Material, Need, long_ones
from unvanish.train.questions.units import (
    bridged,
    in_train,
    naive_errors,
    naive_forecasts,
    of_windows,
    others,
    own_units_of,
    scales_of,
    season_of,
    single,
    units,
)
from unvanish.train.settings import TrainSettings

ORIGINS = 2_000  # forecasts that are made to validate, at most
OVERLAP = 8  # windows that a step is in, where only their last one answers
NEED_SERIES, NEED_STEPS = 20, 20_000
PROBE_ROWS, PROBE_STEPS = 8, 1000
SHORTEST, LONGEST = 24, 336


@dataclass(frozen=True)
class Borders:
    """Where each series is cut, as steps from its beginning: up to `train`, `valid`, `test`, which is its end."""

    train_S: NDArray[np.int64]
    valid_S: NDArray[np.int64]
    test_S: NDArray[np.int64]

    @classmethod
    def of(cls, lengths_S: NDArray[np.int64], settings: TrainSettings) -> Borders:
        """Hold back what is tested, and before it what is validated.

        A series that is too short for both has the same steps for both; one that is too short for either is all
        there to train on.

        Raises:
            DataError: all of them are.
        """
        horizon, stride = settings.horizon, settings.stride or settings.horizon
        tail = horizon + (settings.windows - 1) * stride
        held_S = np.maximum(tail, (settings.valid * lengths_S).astype(np.int64))
        both_S = lengths_S >= 2 * (tail + held_S)
        one_S = ~both_S & (lengths_S >= tail + horizon + 1)
        test_S = lengths_S
        valid_S = np.where(both_S, lengths_S - tail, lengths_S)
        train_S = np.where(both_S, valid_S - held_S, np.where(one_S, lengths_S - tail, lengths_S))
        if not (both_S | one_S).any():
            raise DataError(
                f"the longest series has {int(lengths_S.max()):,} steps, too few to hold back {tail:,} and to "
                f"train on as many as --horizon {horizon} wants: give longer series, or fewer steps ahead"
            )
        return cls(train_S, valid_S, test_S)


@dataclass(frozen=True, eq=False)
class Windows:
    """Where windows end: the series and the step, the last that is known, of each."""

    series_B: NDArray[np.int64]
    origin_B: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.series_B)


@dataclass
class SeriesMaterial(Material):
    """Series to forecast, as numbers.

    Attributes:
        numbers_NF: what a network reads, but for the scale of the targets; codes_NC: words.
        values_NG: the targets in their own units; known_NK: what is known beforehand, scaled.
        centre_SG, scale_SG: of each series. naive_SG: the seasonal naive forecast's error in the training part.
    """

    question: ForecastQuestion
    data: Sequences
    borders: Borders
    numbers_NF: NDArray[np.float32]
    codes_NC: NDArray[np.int64]
    values_NG: NDArray[np.float32]
    known_NK: NDArray[np.float32]
    centre_SG: NDArray[np.float32]
    scale_SG: NDArray[np.float32]
    naive_SG: NDArray[np.float32]

    @classmethod
    def of(
        cls, data: Sequences, settings: TrainSettings, digest: str, question: ForecastQuestion | None = None
    ) -> SeriesMaterial:
        """Take series; `question` is that of a run that goes on.

        Raises:
            DataError: they are too short, or a target has no values.
        """
        borders = Borders.of(last_known(data) + 1, settings)
        question = question or question_of(data, borders, settings)
        return cls.whole(data, borders, settings, digest, question)

    @classmethod
    def whole(
        cls, data: Sequences, borders: Borders, settings: TrainSettings, digest: str, question: ForecastQuestion
    ) -> SeriesMaterial:
        """Take series whose borders are known."""
        assert data.target is not None
        beside = others(data, question.targets)
        values_NG = data.target.values.astype(np.float32)
        centre_SG, scale_SG = scales_of(question, data, borders.train_S, values_NG)
        naive_SG = naive_errors(data, borders.train_S, values_NG, question.season)
        known = [place for place, one in enumerate(question.encoding.columns) if one.name in question.known]
        numbers_NF = question.encoding.numbers(beside)
        return cls(
            question,
            settings,
            data.source,
            digest,
            data.told,
            data,
            borders,
            numbers_NF,
            question.encoding.codes(beside),
            values_NG,
            numbers_NF[:, known],
            centre_SG,
            scale_SG,
            naive_SG,
        )

    # -- windows -------------------------------------------------------------------------------------------------

    def train(self) -> Batches:
        """Return windows of the training part, each epoch begun elsewhere."""
        base = self._base()
        make = partial(self._drawn, base)
        lengths_B = np.ones(len(base), np.int64)
        size, seed = self.settings.rows, self.settings.seed
        return SequenceBatches(lengths_B, size, make, seed=seed, epoch=self.epoch)

    def _base(self) -> Windows:
        """One window after the other, as the first epoch without its random beginning would have them."""
        last_S = self.borders.train_S - 1 - self.question.horizon  # the last step with a whole future
        stride = self._stride
        count_S = np.where(last_S >= 0, last_S // stride + 1, 0)
        series_B, place_B = numbered(count_S)
        return Windows(series_B, last_S[series_B] - place_B * stride)

    @property
    def _stride(self) -> int:
        length: int = self.settings.length
        return length if self.question.every else max(1, length // OVERLAP)

    def _drawn(self, base: Windows, rows: NDArray[np.int64]) -> tuple[Inputs, Wanted]:
        shift_S = np.random.default_rng((self.settings.seed, self.epoch(), 1)).integers(self._stride)
        series_B = base.series_B[rows]
        origin_B = np.maximum(base.origin_B[rows] - shift_S, 0)
        return self.window(Windows(series_B, origin_B), every=self.question.every)

    def valid(self) -> Batches:
        """Return forecasts over the part that is held back to validate."""
        return self._fixed(self.validated())

    def validated(self) -> Windows:
        """Return where the forecasts begin that are made to validate."""
        return self._origins(self.borders.train_S, self.borders.valid_S, None)

    def test(self) -> Batches | None:
        """Return the last forecasts of the series that are long enough to hold them back."""
        found = self.tested()
        return self._fixed(found) if len(found) else None

    def tested(self) -> Windows:
        """Return where the last forecasts begin."""
        stride = self.settings.stride or self.question.horizon
        separate_S = np.where(self.borders.test_S > self.borders.valid_S, self.borders.valid_S, self.borders.test_S)
        return self._origins(separate_S, self.borders.test_S, stride)

    def _origins(self, from_S: NDArray[np.int64], to_S: NDArray[np.int64], stride: int | None) -> Windows:
        """Forecasts whose values all lie between two borders, and of which something came."""
        count_S = np.maximum(to_S - from_S - self.question.horizon + 1, 0)
        if stride is None:
            stride = max(1, math.ceil(int(count_S.sum()) / ORIGINS))
        series_B, place_B = numbered(-(-count_S // stride))
        origin_B = (from_S - 1)[series_B] + place_B * stride
        ahead_BH = (self.data.starts_B[series_B] + origin_B)[:, None] + np.arange(1, self.question.horizon + 1)
        came = np.flatnonzero(np.isfinite(self.values_NG[ahead_BH]).any((1, 2)))
        if len(came) > ORIGINS:
            came = came[np.linspace(0, len(came) - 1, ORIGINS).astype(np.int64)]
        return Windows(series_B[came], origin_B[came])

    def _fixed(self, windows: Windows) -> Batches:
        def make(rows: NDArray[np.int64]) -> tuple[Inputs, Wanted]:
            return self.window(Windows(windows.series_B[rows], windows.origin_B[rows]), every=False)

        return SequenceBatches(np.ones(len(windows), np.int64), self.settings.rows, make)

    def window(self, windows: Windows, *, every: bool) -> tuple[Inputs, Wanted]:
        """Return what a network reads of some windows, and what comes after them: after each step, or the last."""
        question, length = self.question, self.settings.length
        lengths_B = np.minimum(windows.origin_B + 1, length)
        longest = int(lengths_B.max())
        start_B = self.data.starts_B[windows.series_B]
        first_B = start_B + windows.origin_B + 1 - lengths_B
        at_TB = first_B + np.minimum(np.arange(longest)[:, None], lengths_B - 1)
        beyond_TB = np.arange(longest)[:, None] >= lengths_B
        values_TBG = np.where(beyond_TB[..., None], np.nan, self.values_NG[at_TB])
        centre_BG, scale_BG = self.centre_SG[windows.series_B], self.scale_SG[windows.series_B]
        if question.how == "window":
            centre_BG, scale_BG = of_windows(values_TBG, question.likelihood.counts)
        scaled_TBG = (values_TBG - centre_BG) / scale_BG
        gaps = [place for place, one in enumerate(question.scales) if one.gaps]
        parts = [np.nan_to_num(scaled_TBG), np.isnan(scaled_TBG)[..., gaps], self.numbers_NF[at_TB]]
        numbers_TBF = np.concatenate(parts, -1, dtype=np.float32)
        numbers_TBF[beyond_TB] = 0
        codes_TBC = np.where(beyond_TB[..., None], 0, self.codes_NC[at_TB])
        read_TB = at_TB if every else (first_B + lengths_B - 1)[None]
        end_B = start_B + self.data.lengths_B[windows.series_B]
        ahead_TBH = read_TB[..., None] + 1 + np.arange(question.horizon)
        outside_TBH = ahead_TBH >= end_B[:, None]
        if every:
            outside_TBH |= ahead_TBH >= (start_B + self.borders.train_S[windows.series_B])[:, None]
            outside_TBH |= beyond_TB[..., None]
        ahead_TBH = np.minimum(ahead_TBH, len(self.values_NG) - 1)
        future = np.where(outside_TBH[..., None], np.nan, self.values_NG[ahead_TBH])
        future = ((future - centre_BG[:, None]) / scale_BG[:, None]).astype(np.float32)
        known = np.where(outside_TBH[..., None], 0, self.known_NK[ahead_TBH]).astype(np.float32)
        known = known.reshape(*known.shape[:2], -1)
        wanted = future if every else future[0]
        x = Inputs(
            torch.from_numpy(numbers_TBF),
            torch.from_numpy(codes_TBC),
            torch.from_numpy(lengths_B) if beyond_TB.any() else None,
            torch.from_numpy(known if every else known[0]),
        )
        naive_BG = self.naive_SG[windows.series_B]
        return x, Wanted(torch.from_numpy(wanted), *map(single, (centre_BG, scale_BG, naive_BG)))

    def probe(self) -> Inputs:
        """Return the last windows of the longest training parts, longer than a window where they are."""
        train_S = self.borders.train_S
        longest = long_ones(train_S, PROBE_ROWS)
        steps = min(int(train_S[longest].min()), 2 * self.settings.length, PROBE_STEPS)
        if len(longest) < PROBE_ROWS:  # several stretches of few series
            longest = np.resize(longest, PROBE_ROWS)
        back = np.arange(PROBE_ROWS) * max(1, (int(train_S[longest].min()) - steps) // PROBE_ROWS)
        wider = dataclasses.replace(self, settings=dataclasses.replace(self.settings, length=steps))
        x, _ = wider.window(Windows(longest, train_S[longest] - 1 - back), every=False)
        return x._replace(lengths_B=None)

    # -- what the data need --------------------------------------------------------------------------------------

    def need(self) -> Need | None:
        """Measure how far back what comes next depends on a series, in a sample of series; gaps are bridged."""
        series, total = [], 0
        for place in np.argsort(-self.borders.train_S, kind="stable")[:NEED_SERIES]:
            start = int(self.data.starts_B[place])
            stop = start + min(int(self.borders.train_S[place]), NEED_STEPS - total)
            if stop - start < SHORTEST:
                break
            scaled = (self.values_NG[start:stop] - self.centre_SG[place]) / self.scale_SG[place]
            whole = bridged(scaled)
            if whole is not None:
                series.append(whole)
                total += stop - start
        try:
            found = dependency(series, kind="numbers")
        except UnvanishError:
            return None
        return Need(found.needed, found.censored, total, found.note)

    def baselines(self) -> Iterable[tuple[str, dict[str, float]]]:
        """Yield what the last season, repeated, comes to on what is validated on."""
        yield self.naive_name, self.naive_metrics(self.validated())

    @property
    def naive_name(self) -> str:
        """What the naive forecast is called."""
        season = self.question.season
        return "the last value" if season == 1 else f"the value {season:,} steps before"

    def naive_metrics(self, windows: Windows) -> dict[str, float]:
        """Return what the seasonal naive forecast comes to, on the values that the network is judged by."""
        ahead_H = np.arange(1, self.question.horizon + 1)
        start_B = self.data.starts_B[windows.series_B]
        now_B = start_B + windows.origin_B
        guess = naive_forecasts(self.values_NG, start_B, now_B, ahead_H, self.question.season)
        guess = np.where(np.isnan(guess), self.centre_SG[windows.series_B][:, None], guess)  # nothing before it
        true = self.values_NG[now_B[:, None] + ahead_H]
        error = np.abs(guess - true).astype(np.float64)
        known = np.isfinite(error)
        error = np.where(known, error, 0)
        scaled = error / self.naive_SG[windows.series_B][:, None]
        sums = {"loss": math.nan, "count": float(known.sum()), "within": math.nan}
        sums |= {"absolute": error.sum(), "squared": (error**2).sum(), "scaled": scaled.sum()}
        return {name: value for name, value in forecast_metrics(sums).items() if not math.isnan(value)}

    def describe(self) -> str:
        """Say in a line what there is to train on."""
        question, lengths_S = self.question, self.data.lengths_B
        low, high = int(lengths_S.min()), int(lengths_S.max())
        steps = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        apart = f" of {question.step}" if question.step else ""
        series = "1 series" if len(lengths_S) == 1 else f"{len(lengths_S):,} series"
        count = len(self.tested())
        tested = "" if not count else ", tested on the last forecast" + (f"s, {count:,}" if count > 1 else "")
        return (
            f"{self.source}: {series} of {steps} steps{apart}; {', '.join(map(printable, question.targets))} "
            f"{question.horizon:,} {'step' if question.horizon == 1 else 'steps'} ahead{tested}"
        )

    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` says of the data."""
        return {"source": self.source, "sizes": {"series": len(self.data), "steps": int(self.data.lengths_B.sum())}}


def usual_length(data: Sequences, settings: TrainSettings) -> int:
    """Return how long a window is where nobody says it: two horizons, or a season and one horizon."""
    season = settings.season or season_of(data.step)
    wanted: int = max(2 * settings.horizon, season + settings.horizon, SHORTEST)
    longest: int = int(data.lengths_B.max()) - settings.horizon
    return max(1, min(wanted, LONGEST, longest))


def question_of(data: Sequences, borders: Borders, settings: TrainSettings) -> ForecastQuestion:
    """Work out from the training part what is asked.

    Raises:
        DataError: a target has no values to train on.
        OptionError: a column that is known beforehand holds words.
    """
    assert data.target is not None
    in_train_N = in_train(data, borders.train_S)
    values_NG = data.target.values[in_train_N]
    for name, values_N in zip(data.target.names, values_NG.T, strict=True):
        if not np.isfinite(values_N).any():
            raise DataError(f"{data.source}: {printable(name)} has no value in the steps to train on")
    how = settings.scale or ("standard" if len(data) == 1 else "series")
    plain = "robust" if how == "robust" else "none" if how == "none" else "standard"
    encoding = Encoding.of(others(data, data.target.names), in_train_N, plain)
    words = {one.name for one in encoding.categories}
    for name in data.known:
        if name in words:
            raise OptionError(f"--known {name}: that column holds words; code it as numbers")
    counts = settings.likelihood == "negbin"
    scales = [
        Column(name, *units(printable(name), values_N, plain, counts), gaps=bool(np.isnan(values_N).any()))
        for name, values_N in zip(data.target.names, values_NG.T, strict=True)
    ]
    known = tuple(one.name for one in encoding.columns if one.name in data.known)
    season = settings.season or season_of(data.step)
    question = ForecastQuestion(
        encoding,
        data.target.names,
        tuple(scales),
        known,
        settings.horizon,
        how,
        settings.likelihood,
        season,
        data.step,
        data.marks,
    )
    question.own = own_units_of(question, data, borders.train_S, data.target.values.astype(np.float32))
    return question
