"""Answers to rows as they come: what `predict` writes of a whole file, row by row, with the states carried on.

Shapes: F numbers of a step, C categories of a step, G targets; one row and one step at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.sequences import Sequences
from unvanish.data.table import TableOptions
from unvanish.data.table.keys import times_as
from unvanish.data.table.lines import Row, RowReader, read_lines
from unvanish.data.table.times import MOST_STEPS, OFF
from unvanish.errors import DataError, OptionError, printable
from unvanish.train.carrying import Carried, Series, steps_between
from unvanish.train.load import Loaded
from unvanish.train.model import Inputs, on
from unvanish.train.predicting import (
    answer_columns,
    answer_table,
    moments,
    own_units,
    quiet,
    read_as,
    read_by,
)
from unvanish.train.questions.forecast import ForecastQuestion, Units
from unvanish.train.questions.labels import LabelQuestion
from unvanish.train.questions.units import single

if TYPE_CHECKING:
    import polars as pl


def predict_lines(
    loaded: Loaded, lines: Iterable[str], every: int = 1, *, say: Callable[[str], None] = quiet
) -> Iterator[pl.DataFrame]:
    """Answer each row as soon as it is read, with the rows that `predict` would write.

    Forecasts: after each row the steps ahead of its series. Labels per step: an answer for each row. Labels per
    sequence: an answer at an empty line, at a row of another series, and at the end.

    Args:
        lines: CSV with its header first, or JSON lines.
        every: answer after so many rows of a series.
        say: told what is found in the rows and how it is dealt with, each once: new words, gaps, decimal commas.

    Raises:
        OptionError: the run cannot answer row by row as it does on whole files.
        DataError: a row is not like those of the run.
    """
    kind = _kind(loaded, every)
    answering: Answering | None = None
    for read in read_lines(lines):
        if isinstance(read, tuple):
            answering = kind(loaded, read, every)
            answering.say = answering.reader.say = _once(say)
            continue
        assert answering is not None
        yield from answering.ended() if read is None else answering.row(read)
    if answering is not None:
        yield from answering.ended()


def _once(say: Callable[[str], None]) -> Callable[[str, str], None]:
    """Tell a line where nothing of its kind was told before."""
    told: set[str] = set()

    def tell(kind: str, line: str) -> None:
        if kind not in told:
            told.add(kind)
            say(line)

    return tell


def _kind(loaded: Loaded, every: int) -> type[Answering]:
    question, settings = loaded.question, loaded.settings
    if every < 1:
        raise OptionError(f"--every is {every}: give after how many rows to answer, from 1 on")
    if isinstance(question, LabelQuestion):
        if question.per != "step":
            if every > 1:
                raise OptionError("--every is for answers at each step, and the run answers of whole sequences")
            return WholeSequences
        if settings.bidirectional:
            raise OptionError("the run reads each sequence backwards too: give  unvanish predict  the whole file")
        return LabelledSteps
    if not isinstance(question, ForecastQuestion):
        raise OptionError("the run is one on text: use  unvanish generate  to write on after a prompt")
    if question.known:
        raise OptionError(
            f"the run knows {', '.join(map(printable, question.known))} beforehand, which no row has of the steps "
            "ahead: give  unvanish predict  a file with rows ahead"
        )
    if question.how == "window" or (question.how == "series" and not question.own):
        raise OptionError(
            f"the run scales by each whole {question.how}, which a single row does not tell: train with --scale "
            "standard, or give  unvanish predict  a file"
        )
    return Forecasts


class Answering(ABC):
    """Answers the rows of an input with some columns."""

    def __init__(self, loaded: Loaded, names: tuple[str, ...], every: int) -> None:
        assert isinstance(loaded.question, LabelQuestion | ForecastQuestion)
        encoding = loaded.question.encoding
        unlabelled = isinstance(loaded.question, LabelQuestion)
        asked = TableOptions.of(loaded.settings.to_dict() | {"unlabelled": unlabelled} | read_as(loaded))
        words = tuple(one.name for one in encoding.categories)
        numbers = tuple(name for name in read_by(loaded) if name not in words)
        self.reader = RowReader(names, asked, numbers, words)
        self.known = {one.name: set(one.levels) for one in encoding.categories}
        self.loaded, self.every = loaded, every
        self.say: Callable[[str, str], None] = lambda _, __: None

    def missing(self, row: Row, before: float | None, now: float | None) -> int:
        """Return how many steps without a row lie between the row before in its series and this one.

        Raises:
            DataError: its time is not after that, or lies between two steps.
        """
        if before is None or now is None:
            return 0
        step = self.loaded.question.step  # type: ignore[attr-defined]
        steps = steps_between(before, now, step) if step else float(now > before)
        if steps < 0.5:
            raise DataError(f"{row.where}: its time is not after that of the row before: sort the rows by time")
        if abs(steps - round(steps)) > OFF:
            raise DataError(f"{row.where}: its time is {steps:.4g} steps of {step} after the last: give even steps")
        missing = round(steps) - 1
        if missing > 0:
            between = "1 step before it has" if missing == 1 else f"{missing:,} steps before it have"
            counts = "it counts" if missing == 1 else "they count"
            self.say("gap", f"line {row.line}: {between} no row: {counts} as missing (later gaps are not told)")
        return missing

    def step(self, row: Row) -> Sequences:
        """Read a row as a sequence of one step; a word that was not there in training is told."""
        data = self.reader.step(row)
        for column in data.categories:
            new = set(column.levels) - self.known[column.name]
            for word in new:
                line = f"line {row.line}: column {printable(column.name)}: the word {printable(word)} is not known"
                self.say(f"{column.name} {word}", f"{line} from training")
        return data

    @abstractmethod
    def row(self, row: Row) -> Iterator[pl.DataFrame]:
        """Read a row, and yield an answer if there is one."""

    @abstractmethod
    def ended(self) -> Iterator[pl.DataFrame]:
        """Take an empty line, or the end of the input."""


class StepByStep(Answering):
    """Answers that are carried from step to step, each series by itself."""

    length: int | None

    def __init__(self, loaded: Loaded, names: tuple[str, ...], every: int) -> None:
        super().__init__(loaded, names, every)
        self.series: dict[str, Series] = {}

    def _next(self, row: Row) -> tuple[Series, int]:
        """Return the series of a row, and how many steps without a row lie before it."""
        key = self.reader.group(row)
        if key not in self.series:
            self.series[key] = Series(Carried(self.loaded.model, self.length))
        series = self.series[key]
        before, series.moment = series.moment, self.reader.time(row)
        series.rows += 1
        return series, self.missing(row, before, series.moment)


class Forecasts(StepByStep):
    """After each row of a series what comes next in it."""

    def __init__(self, loaded: Loaded, names: tuple[str, ...], every: int) -> None:
        super().__init__(loaded, names, every)
        assert isinstance(loaded.question, ForecastQuestion)
        self.question, self.length = loaded.question, loaded.settings.length
        scales = self.question.scales
        usual = Units(*(tuple(getattr(one, name) for one in scales) for name in ("centre", "scale")))
        own = self.question.own or {"": usual}
        self.units = {key: tuple(np.array([part], np.float32) for part in one) for key, one in own.items()}
        self.gaps = [place for place, one in enumerate(scales) if one.gaps]

    def row(self, row: Row) -> Iterator[pl.DataFrame]:
        """Read a row; of one without a value to forecast from nothing follows."""
        units = self._units(row)
        series, missing = self._next(row)
        for _ in range(min(missing, self.loaded.settings.length)):
            series.carried.step(self._inputs(self.reader.step(None), units))
        data = self.step(row)
        answer = series.carried.step(self._inputs(data, units))[0]
        if series.rows % self.every or not np.isfinite(data.numbers_NF[:, : len(self.question.targets)]).any():
            return
        found = own_units(self.loaded, self.question, answer, *(single(one)[:, None] for one in units))
        columns = self._ahead(series, self.reader.keys(row))
        yield answer_table(columns | {name: values.numpy().reshape(-1) for name, values in found.items()})

    def _units(self, row: Row) -> tuple[NDArray[np.float32], ...]:
        """What is taken off the targets of a row and what divides them, of its series where each has its own."""
        key = self.reader.group(row) if self.question.own else ""
        if key not in self.units:
            raise DataError(
                f"{row.where}: the series {printable(key)} was not there in training, and a single row does not "
                "tell its scale: give  unvanish predict  a file of it, or train with --scale standard"
            )
        return self.units[key]

    def _ahead(self, series: Series, keys: dict[str, Any]) -> dict[str, Any]:
        horizon, step, name = self.question.horizon, self.question.step, self.reader.roles.time
        found = {key: one.gather([0] * horizon) for key, one in keys.items() if key != name}
        if series.moment is None or not step or name is None:
            return found | {"step": np.arange(1, horizon + 1)}
        return found | {name: times_as(moments(np.array([series.moment]), step, horizon), keys[name].dtype)}

    def _inputs(self, data: Sequences, units: tuple[NDArray[np.float32], ...]) -> Inputs:
        centre_1G, scale_1G = units
        scaled_1G = (data.numbers_NF[:, : len(self.question.targets)] - centre_1G) / scale_1G
        beside_1F = self.question.encoding.numbers(data)
        parts = [np.nan_to_num(scaled_1G), np.isnan(scaled_1G)[:, self.gaps], beside_1F]
        codes_1C = self.question.encoding.codes(data)
        return Inputs(single(np.concatenate(parts, 1)[None]), _codes(codes_1C), None, torch.zeros(1, 1, 0))

    def ended(self) -> Iterator[pl.DataFrame]:
        """Pass an empty line over, as in a file."""
        yield from ()


class LabelledSteps(StepByStep):
    """The class, or the numbers, of each row."""

    length = None

    def row(self, row: Row) -> Iterator[pl.DataFrame]:
        """Read a row, and answer it."""
        series, missing = self._next(row)
        question = self.loaded.question
        assert isinstance(question, LabelQuestion)
        if missing > MOST_STEPS:
            raise DataError(f"{row.where}: its time is {missing:,} steps after the last: begin after an empty line")
        for _ in range(missing):
            series.carried.step(_read(question, self.reader.step(None)))
        answer = series.carried.step(_read(question, self.step(row)))[0].float()
        if series.rows % self.every:
            return
        keys: dict[str, Any] = {**self.reader.keys(row)}
        if self.reader.roles.time is None:
            keys["step"] = [series.rows]
        yield answer_table(keys | answer_columns(question, answer))

    def ended(self) -> Iterator[pl.DataFrame]:
        """Start all sequences again."""
        self.series.clear()
        yield from ()


@dataclass
class Gathered:
    """The rows of a sequence that are read together at its end."""

    key: str
    named: dict[str, Any]
    rows: deque[Inputs] = field(default_factory=deque)
    moment: float | None = None


class WholeSequences(Answering):
    """The class, or the numbers, of each sequence, once it has ended."""

    def __init__(self, loaded: Loaded, names: tuple[str, ...], every: int) -> None:
        super().__init__(loaded, names, every)
        self.now: Gathered | None = None
        self.count = 0

    def row(self, row: Row) -> Iterator[pl.DataFrame]:
        """Read a row; one of another series ends the sequence before it."""
        key = self.reader.group(row)
        if self.now is not None and key != self.now.key:
            yield from self.ended()
        if self.now is None:
            self.now = Gathered(key, self.reader.keys(row), deque(maxlen=self.loaded.settings.length))
        question = self.loaded.question
        assert isinstance(question, LabelQuestion)
        before, self.now.moment = self.now.moment, self.reader.time(row)
        for _ in range(min(self.missing(row, before, self.now.moment), self.loaded.settings.length)):
            self.now.rows.append(_read(question, self.reader.step(None)))
        self.now.rows.append(_read(question, self.step(row)))

    @torch.no_grad()
    def ended(self) -> Iterator[pl.DataFrame]:
        """Answer the sequence."""
        now, self.now = self.now, None
        if now is None:
            return
        question, model, group = self.loaded.question, self.loaded.model, self.reader.roles.group
        assert isinstance(question, LabelQuestion)
        self.count += 1
        x = Inputs(*(torch.cat([getattr(one, name) for one in now.rows]) for name in ("numbers_TBF", "codes_TBC")))
        answer = model(on(model, x))[0].float().cpu()
        key = {"sequence": [str(self.count)]} if group is None else {group: now.named[group]}
        yield answer_table(key | answer_columns(question, answer))


def _read(question: LabelQuestion, data: Sequences) -> Inputs:
    return Inputs(single(question.encoding.numbers(data)[None]), _codes(question.encoding.codes(data)))


def _codes(codes_1C: Any) -> Tensor:
    return torch.from_numpy(codes_1C[None])
