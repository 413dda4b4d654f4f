"""How well the network of a run answers other data, of which the answer is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unvanish.data.sequences import Sequences
from unvanish.data.text import Windows
from unvanish.data.tokens import read_tokens
from unvanish.errors import DataError, OptionError, printable
from unvanish.record.measures import share_text
from unvanish.train.answering import answers, judged
from unvanish.train.giving import sequences_of
from unvanish.train.load import Loaded
from unvanish.train.model import TextModel
from unvanish.train.predicting import quiet, read_like
from unvanish.train.questions.forecast import ForecastQuestion
from unvanish.train.questions.labels import LabelMaterial, LabelQuestion
from unvanish.train.questions.reading import CUTS
from unvanish.train.questions.series import SeriesMaterial
from unvanish.train.questions.symbols import SymbolQuestion

STEPS = 1000  # of a text that are read at once


@dataclass(frozen=True)
class Evaluation:
    """What came of it: the metrics, of so many losses; which share of a text is unknown to the run."""

    metrics: dict[str, float]
    count: int
    unknown: float = 0.0


def evaluate(
    loaded: Loaded, source: Any, y: Any = None, *, lengths: Any = None, say: Callable[[str], None] = quiet
) -> Evaluation:
    """Measure a run on data: a text as one stream, its state carried; sequences; the end of series.

    Args:
        source: a path, or of sequences and series what `fit` takes.
        y: of arrays, a label or number per sequence or per step. lengths: how many steps each sequence has.
        say: told what was found in the data and how it was dealt with, a line each, as in training.

    Raises:
        DataError: it is not like the data of the run, or holds no answers.
        OptionError: the run is on text, and the source is not a file.
    """
    if isinstance(loaded.question, SymbolQuestion):
        if not loaded.question.writes:
            raise DataError("the run of a task draws its own sentences: its record has what came of them")
        if not isinstance(source, str | os.PathLike):
            raise OptionError("a run on text is measured on a file: give its path")
        return _text(loaded, Path(source))
    return _others(loaded, source if y is None else sequences_of(source, y, lengths), say)


def _text(loaded: Loaded, source: Path) -> Evaluation:
    assert isinstance(loaded.question, SymbolQuestion)
    numbers_N = _numbers(loaded, source)
    sums = judged(loaded.model, loaded.question, Windows(numbers_N, STEPS, 1))
    unknown = float((numbers_N == 0).float().mean())
    return Evaluation(loaded.question.metrics(sums), int(sums["count"]), unknown)


def _numbers(loaded: Loaded, source: Path, say: Callable[[str], None] = quiet) -> torch.Tensor:
    assert isinstance(loaded.question, SymbolQuestion)
    cut = CUTS.get(loaded.settings.kind or "text", "chars")
    tokens = read_tokens(source, cut, symbols=loaded.question.symbols)
    names = ("test",) if "test" in tokens.parts else tuple(tokens.parts)
    numbers_N = torch.cat([tokens.parts[name] for name in names])
    if len(numbers_N) < 2:
        raise DataError(f"{source} has fewer than two {loaded.question.unit}s: there is nothing to predict")
    unknown = float((numbers_N == 0).float().mean())
    if unknown:
        symbols = loaded.question.symbols
        say(f"{len(symbols) - 1:,} {symbols.unit}s are told apart; unknown: {share_text(unknown)}")
    return numbers_N


@torch.no_grad()
def per_token(loaded: Loaded, source: Path, *, say: Callable[[str], None] = quiet) -> Iterator[tuple[str, float]]:
    """Yield each symbol of a text after the first, and its surprise in bits.

    Raises:
        DataError: the file holds no text.
    """
    assert isinstance(loaded.question, SymbolQuestion)
    assert isinstance(loaded.model, TextModel)
    for answer, y in answers(loaded.model, loaded.question, Windows(_numbers(loaded, source, say), STEPS, 1)):
        nats_TB = loaded.question.at_steps(loaded.model, answer, y)
        assert nats_TB is not None
        bits = (nats_TB[:, 0] / torch.log(torch.tensor(2.0))).tolist()
        for number, bit in zip(y[:, 0].tolist(), bits, strict=True):
            yield loaded.question.symbols.decode([number]), bit


def _others(loaded: Loaded, source: Any, say: Callable[[str], None]) -> Evaluation:
    question, settings = loaded.question, loaded.settings
    data = read_like(loaded, source, labelled=True, say=say)
    if isinstance(question, ForecastQuestion):
        question = question.calibrated(loaded.measured.calibration)
        batches = SeriesMaterial.of(data, settings, "", question).test()
    else:
        assert isinstance(question, LabelQuestion)
        _check_labels(data, question)
        batches = LabelMaterial.of({"train": data}, settings, "", question).batches("train")
    sums = {} if batches is None else judged(loaded.model, question, batches)
    if not sums:
        raise DataError(f"{data.source} has no series that is long enough for a forecast and what came of it")
    return Evaluation(question.metrics(sums), int(sums["count"]))


def _check_labels(data: Sequences, question: LabelQuestion) -> None:
    """Refuse labels that are not those of a run: none, of another kind, or of something else.

    Raises:
        DataError: with what they are.
    """
    target = data.target
    if target is None or not (target.values >= 0 if target.kind == "class" else np.isfinite(target.values)).any():
        raise DataError(f"{data.source} does not hold what is to be predicted: give it with labels, or use predict")
    names = ", ".join(map(printable, target.names))
    if target.kind != question.asked:
        there, was = ("classes", "numbers") if target.kind == "class" else ("numbers", "classes")
        raise DataError(f"{data.source}: {names} holds {there}, and the run was trained on {was}: give those")
    if target.per != question.per:
        raise DataError(
            f"{data.source}: {names} is given for each {target.per}, and the run answers of each {question.per}: "
            "give labels as they were in training"
        )
