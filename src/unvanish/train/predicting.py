"""Answers to new data: the network of a run asked once more, its answers as a table with the keys of the input.

Shapes: B rows, T steps, H steps ahead, G targets, Q quantiles.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.archive import read_archive, read_ts
from unvanish.data.arrays import read_arrays, read_mnist
from unvanish.data.batches import SequenceBatches
from unvanish.data.looking import look
from unvanish.data.sequences import Sequences
from unvanish.errors import DataError, MissingExtraError, OptionError, printable
from unvanish.train.giving import sequences_of
from unvanish.train.load import Loaded
from unvanish.train.model import Inputs, on
from unvanish.train.questions.agreement import corpus
from unvanish.train.questions.ends import ends_told, last_known
from unvanish.train.questions.forecast import ForecastQuestion
from unvanish.train.questions.labels import LabelQuestion
from unvanish.train.questions.likelihoods import COVERED, bounds
from unvanish.train.questions.reading import read_as_table
from unvanish.train.questions.series import Borders, SeriesMaterial, Windows
from unvanish.train.questions.symbols import SymbolQuestion
from unvanish.train.questions.units import unknown_series

if TYPE_CHECKING:
    import polars as pl

# What polars calls a step that our tables know.
INTERVALS = {
    "millisecond": "ms",
    "second": "s",
    "minute": "m",
    "hour": "h",
    "day": "d",
    "week": "w",
    "month": "mo",
    "quarter": "q",
    "year": "y",
}


def quiet(_: str) -> None:
    """Tell nobody."""


def predict(loaded: Loaded, source: Any, *, say: Callable[[str], None] = quiet) -> pl.DataFrame:
    """Answer of new data what a run was trained to answer.

    Labels: the class with the probability of each, or the numbers, by sequence or by step. Forecasts: the median of
    each step ahead, and intervals that are calibrated on what was validated on, `lo-80` to `hi-95`.

    Args:
        source: data like those of the run, a path or as `fit` takes them, which need not have labels; of series,
            their history, with rows ahead that hold what is known beforehand where the run was trained with that.
        say: told what was found in the data and how it was dealt with, a line each, as in training.

    Raises:
        DataError: the data are not like those of the run.
        OptionError: a run on text, which `evaluate` and `generate` are for.
    """
    question = loaded.question
    if isinstance(question, LabelQuestion):
        data = read_like(loaded, source, labelled=False, say=say)
        if question.per != "step":
            for line in data.only_the_last(loaded.settings.length):
                say(line)
        return _labels(loaded, question, data)
    if isinstance(question, ForecastQuestion):
        return _forecasts(loaded, question, read_like(loaded, source, labelled=True, say=say))
    if isinstance(question, SymbolQuestion) and not question.writes:
        raise OptionError("the run of a task draws its own sentences: its record and report say what came of them")
    raise OptionError("the run is one on text: use  unvanish generate  to write, or  unvanish evaluate  to measure")


def read_like(loaded: Loaded, source: Any, *, labelled: bool, say: Callable[[str], None] = quiet) -> Sequences:
    """Read data like those of a run, and tell what was found in them; of a folder, the part to test on.

    Raises:
        DataError: they are of another kind.
    """
    found = _read_like(loaded, source, labelled)
    question = loaded.question
    new = question.encoding.unknown(found) if isinstance(question, LabelQuestion | ForecastQuestion) else ()
    if isinstance(question, ForecastQuestion):
        new = [*new, *unknown_series(question, found), *ends_told(found, question.known, question.horizon)]
    for line in (*found.told, *new):
        say(line)
    return found


def _read_like(loaded: Loaded, source: Any, labelled: bool) -> Sequences:
    more = {"unlabelled": not labelled} | read_as(loaded)
    if not isinstance(source, str | os.PathLike):
        return sequences_of(source, options=loaded.settings.to_dict() | more)
    source = Path(source)
    if loaded.settings.task:
        return corpus(source)
    kind = look(source).kind
    if kind == "table":
        return read_as_table(source, loaded.settings, **more)
    if kind == "arrays":
        return read_arrays(source)
    if kind == "archive":
        return read_ts(source) if source.is_file() else read_archive(source)["test"]
    if kind == "images":
        return read_mnist(source, loaded.settings.images)["test"]
    raise DataError(f"{source} is read as {kind}, and the run answers of tables, arrays and .ts files: name one")


def read_as(loaded: Loaded) -> dict[str, Any]:
    """Return how a table is read by a run beside its settings: as the table that it was trained on."""
    assert isinstance(loaded.question, LabelQuestion | ForecastQuestion)
    found = {"keep": read_by(loaded), "step": loaded.question.step, "marks": loaded.question.marks}
    return found | ({"per": loaded.question.per} if isinstance(loaded.question, LabelQuestion) else {})


def read_by(loaded: Loaded) -> tuple[str, ...]:
    """Return the names of the columns that a run reads."""
    assert isinstance(loaded.question, LabelQuestion | ForecastQuestion)
    encoding = loaded.question.encoding
    targets = loaded.question.targets if isinstance(loaded.question, ForecastQuestion) else ()
    return (*targets, *(one.name for one in encoding.columns), *(one.name for one in encoding.categories))


def answer_table(columns: dict[str, Any]) -> pl.DataFrame:
    """Put columns of answers side by side.

    Raises:
        MissingExtraError: polars is not installed.
    """
    try:
        import polars
    except ImportError as fault:
        raise MissingExtraError("answers come as a table of polars: pip install 'unvanish[app]'") from fault
    return polars.DataFrame(columns)


# -- labels ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _labels(loaded: Loaded, question: LabelQuestion, data: Sequences) -> pl.DataFrame:
    rows = question.inputs(data)
    if question.per != "step":
        rows = rows.cut(loaded.settings.length)

    def make(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], Inputs]:
        numbers, codes, lengths, _ = rows.padded(places)
        return places, Inputs(numbers, codes, lengths)

    answers = []
    for places, x in SequenceBatches(rows.lengths_B, loaded.settings.batch_size, make):
        answer = loaded.model(on(loaded.model, x))[0].float().cpu()
        if question.per == "step":
            answers += [answer[: rows.lengths_B[row], place] for place, row in enumerate(places)]
        else:
            answers.append(answer)
    if question.per != "step":
        order_B = np.argsort(data.first_row_B)
        found = answer_columns(question, torch.cat(answers)[torch.from_numpy(order_B)])
        return answer_table({data.called[0]: _series(data, order_B)} | found)
    asked = _asked(data)
    return answer_table(_keys(data, asked) | answer_columns(question, torch.cat(answers)[torch.from_numpy(asked)]))


def _asked(data: Sequences) -> NDArray[np.int64]:
    """The steps that have a row, in the order of the rows: of the others nobody asks."""
    if data.row_N is None:
        return np.arange(len(data.numbers_NF))
    found: NDArray[np.int64] = np.argsort(data.row_N, kind="stable")
    return found[int((data.row_N < 0).sum()) :]


def _series(data: Sequences, series: NDArray[np.int64]) -> Any:
    """What series are called in their source."""
    if data.rows is None or data.called[0] not in data.rows.columns:
        return [data.keys[one] for one in series]
    return data.rows[data.called[0]].gather(data.first_row_B[series])


def _apart(data: Sequences) -> bool:
    """Whether series are told apart: there are several, or a column names the one that this file has."""
    return len(data) > 1 or (data.called[0] != "sequence" and any(data.keys))


def _keys(data: Sequences, asked: NDArray[np.int64]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if _apart(data):
        found[data.called[0]] = _series(data, np.repeat(np.arange(len(data)), data.lengths_B)[asked])
    if data.row_N is not None and data.called[1] in data.rows.columns:
        found[data.called[1]] = data.rows[data.called[1]].gather(data.row_N[asked])
    elif data.times_N is not None:
        found[data.called[1]] = _times(data.times_N[asked], data)
    else:
        found["step"] = (data.place_N[asked] + 1).tolist()
    return found


def answer_columns(question: LabelQuestion, answer: Tensor) -> dict[str, Any]:
    """Return the class and the probability of each, or the numbers in their own units, of an answer (B, O)."""
    if question.asked == "number":
        scale, centre = ([getattr(one, name) for one in question.scales] for name in ("scale", "centre"))
        own = answer.double().numpy() * scale + centre
        return {name: own[:, place] for place, name in enumerate(question.names)}
    share = torch.softmax(answer.double(), -1).numpy()
    found: dict[str, Any] = {question.names[0]: [question.levels[place] for place in share.argmax(-1)]}
    return found | {f"p({level})": share[:, place] for place, level in enumerate(question.levels)}


# -- forecasts ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def _forecasts(loaded: Loaded, question: ForecastQuestion, data: Sequences) -> pl.DataFrame:
    assert data.target is not None
    origin_S = last_known(data)
    if not (origin_S >= 0).any():
        raise DataError(f"{data.source}: {printable(data.target.names[0])} has no values to forecast from")
    _check_known(question, data, origin_S)
    whole_S = origin_S + 1
    borders = Borders(whole_S, whole_S, whole_S)
    settings = loaded.settings
    material = SeriesMaterial.whole(data, borders, settings, "", question)
    every = np.flatnonzero(origin_S >= 0)
    every = every[np.argsort(data.first_row_B[every])]
    bands = []
    for start in range(0, len(every), settings.batch_size):
        series = every[start : start + settings.batch_size]
        x, y = material.window(Windows(series, origin_S[series]), every=False)
        answer = loaded.model(on(loaded.model, x))[0].cpu()
        bands.append(own_units(loaded, question, answer, y.centre_BG[:, None], y.scale_BG[:, None]))
    found = {name: torch.cat([band[name] for band in bands]).numpy() for name in bands[0]}
    horizon = question.horizon
    columns: dict[str, Any] = {data.called[0]: _series(data, np.repeat(every, horizon))} if _apart(data) else {}
    columns |= _ahead(data, every, origin_S[every], horizon)
    return answer_table(columns | {name: values.reshape(-1) for name, values in found.items()})


def _check_known(question: ForecastQuestion, data: Sequences, origin_S: NDArray[np.int64]) -> None:
    lacking = data.lengths_B - 1 - origin_S < question.horizon
    if question.known and lacking.any():
        key = data.keys[int(np.flatnonzero(lacking)[0])]
        raise DataError(
            f"{data.source}: the run knows {', '.join(map(printable, question.known))} beforehand, and series "
            f"{printable(key)} has fewer than {question.horizon} rows ahead: add them, with the target left empty"
        )


def own_units(
    loaded: Loaded, question: ForecastQuestion, answer: Tensor, centre: Tensor, scale: Tensor
) -> dict[str, Tensor]:
    """Return the median and the ends of the calibrated intervals in the units of the data, by name, (B, H) each."""
    quantiles = question.likelihood.quantiles(answer, scale.expand(answer.shape[:-1])).double()
    found = {}
    middle = quantiles[..., quantiles.shape[-1] // 2]
    ends = {"": middle}
    lower, upper = middle, middle
    for share, widths in loaded.measured.calibration:
        if share not in COVERED:
            continue
        low, high = bounds(quantiles, share)
        width_HG = torch.tensor(widths, dtype=torch.float64)
        name = f"{share * 100:g}"
        # An interval holds the median, and those that cover less.
        lower, upper = torch.minimum(low - width_HG, lower), torch.maximum(high + width_HG, upper)
        ends |= {f"-lo-{name}": lower, f"-hi-{name}": upper}
    for place, target in enumerate(question.targets):
        for name, values in ends.items():
            own = (values * scale + centre)[..., place]
            found[f"{target}{name}"] = own.clamp_min(0) if question.likelihood.counts else own
    return found


def _ahead(data: Sequences, series: NDArray[np.int64], origin_B: NDArray[np.int64], horizon: int) -> dict[str, Any]:
    """When each step ahead is; how many steps ahead where nothing says when."""
    if data.times_N is None or not data.step:
        return {"step": np.tile(np.arange(1, horizon + 1), len(series))}
    last_B = data.times_N[data.starts_B[series] + origin_B]
    return {data.called[1]: _times(moments(last_B, data.step, horizon), data)}


def _times(times: Any, data: Sequences) -> Any:
    """Times with the type that those of the source have."""
    import polars as pl

    from unvanish.data.table.keys import times_as

    assert data.times_N is not None
    usual = pl.Datetime("us") if data.times_N.dtype.kind == "i" else pl.Int64()
    return times_as(times, usual if data.rows is None else data.rows[data.called[1]].dtype)


def moments(last_B: NDArray[Any], step: str, horizon: int) -> Any:
    """When the steps after some times are, (B * H)."""
    steps_H = np.arange(1, horizon + 1)
    if last_B.dtype.kind != "i":
        return (last_B[:, None] + float(step) * steps_H).reshape(-1)
    return _calendar(last_B, step, steps_H)


def _calendar(last_B: NDArray[np.int64], step: str, steps_H: NDArray[np.int64]) -> Any:
    import polars as pl

    count, _, unit = step.replace(",", "").partition(" ")
    moment_B = last_B.astype("datetime64[us]")
    if unit == "working day":
        days = np.busday_offset(moment_B.astype("datetime64[D]")[:, None], steps_H, roll="forward")
        return (days + (moment_B - moment_B.astype("datetime64[D]"))[:, None]).reshape(-1)
    short = INTERVALS[unit.rstrip("s")]
    ends = bool((_next_day(moment_B) == 1).all()) and short in ("mo", "q", "y")
    frame = pl.DataFrame({"at": np.repeat(moment_B, len(steps_H)), "by": np.tile(steps_H, len(moment_B))})
    moved = pl.col("at").dt.offset_by(pl.concat_str(pl.col("by") * int(count), pl.lit(short)))
    return frame.select(moved.dt.month_end() if ends else moved).to_series()


def _next_day(moment_B: NDArray[Any]) -> NDArray[np.int64]:
    """The day of the month of the day after."""
    tomorrow = moment_B.astype("datetime64[D]") + 1
    found: NDArray[np.int64] = (tomorrow - tomorrow.astype("datetime64[M]")).astype(np.int64) + 1
    return found
