"""How well the network of a run answers other data, of which the answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unvanish.data.text import Windows
from unvanish.data.tokens import read_tokens
from unvanish.errors import DataError
from unvanish.train.callback import add
from unvanish.train.load import Loaded
from unvanish.train.measure import on
from unvanish.train.model import Inputs, TextModel
from unvanish.train.predicting import read_like
from unvanish.train.questions import Sums
from unvanish.train.questions.forecast import ForecastQuestion
from unvanish.train.questions.labels import LabelMaterial, LabelQuestion
from unvanish.train.questions.reading import CUTS, digest_of
from unvanish.train.questions.series import SeriesMaterial
from unvanish.train.questions.symbols import SymbolQuestion

STEPS = 1000  # of a text that are read at once


@dataclass(frozen=True)
class Evaluation:
    """What came of it: the metrics, of so many losses; which share of a text is unknown to the run."""

    metrics: dict[str, float]
    count: int
    unknown: float = 0.0


def evaluate(loaded: Loaded, source: Path) -> Evaluation:
    """Measure a run on a file: a text as one stream, its state carried; sequences; the end of series.

    Raises:
        DataError: it is not like the data of the run, or holds no answers.
    """
    if isinstance(loaded.question, SymbolQuestion):
        return _text(loaded, source)
    return _others(loaded, source)


@torch.no_grad()
def _text(loaded: Loaded, source: Path) -> Evaluation:
    assert isinstance(loaded.question, SymbolQuestion)
    numbers_N = _numbers(loaded, source)
    sums: Sums = {}
    for x, y, answer in _windows(loaded, numbers_N):
        del x
        add(sums, loaded.question.judge(loaded.model, answer, y))
    unknown = float((numbers_N == 0).float().mean())
    return Evaluation(loaded.question.metrics(sums), int(sums["count"]), unknown)


def _numbers(loaded: Loaded, source: Path) -> torch.Tensor:
    assert isinstance(loaded.question, SymbolQuestion)
    cut = CUTS.get(loaded.settings.kind or "text", "chars")
    tokens = read_tokens(source, cut, symbols=loaded.question.symbols)
    names = ("test",) if "test" in tokens.parts else tuple(tokens.parts)
    numbers_N = torch.cat([tokens.parts[name] for name in names])
    if len(numbers_N) < 2:
        raise DataError(f"{source} has fewer than two {loaded.question.unit}s: there is nothing to predict")
    return numbers_N


def _windows(loaded: Loaded, numbers_N: torch.Tensor) -> Iterator[tuple[Any, Any, Any]]:
    states, device = None, loaded.model.device
    for x, y in Windows(numbers_N, STEPS, 1):
        answer, states = loaded.model(x.to(device), states)
        yield x, y.to(device), answer


@torch.no_grad()
def per_token(loaded: Loaded, source: Path) -> Iterator[tuple[str, float]]:
    """Yield each symbol of a text after the first, and its surprise in bits.

    Raises:
        DataError: the file holds no text.
    """
    assert isinstance(loaded.question, SymbolQuestion)
    assert isinstance(loaded.model, TextModel)
    for _, y, answer in _windows(loaded, _numbers(loaded, source)):
        nats_TB = loaded.question.at_steps(loaded.model, answer, y)
        assert nats_TB is not None
        bits = (nats_TB[:, 0] / torch.log(torch.tensor(2.0))).tolist()
        for number, bit in zip(y[:, 0].tolist(), bits, strict=True):
            yield loaded.question.symbols.decode([number]), bit


@torch.no_grad()
def _others(loaded: Loaded, source: Path) -> Evaluation:
    question = loaded.question
    data = read_like(loaded, source, labelled=True)
    settings, digest = loaded.settings, digest_of([source]) if source.is_file() else ""
    if isinstance(question, ForecastQuestion):
        batches = SeriesMaterial.of(data, settings, digest, question).test()
    else:
        assert isinstance(question, LabelQuestion)
        if data.target is None:
            raise DataError(f"{source} does not hold what is to be predicted: give it with labels, or use predict")
        whole = {"train": data, "valid": data}
        batches = LabelMaterial.of(whole, settings, digest, question).valid()
    sums: Sums = {}
    for x, y in batches or ():
        moved: Any = on(loaded.model.device, x)
        assert isinstance(moved, Inputs)
        add(sums, question.judge(loaded.model, loaded.model(moved)[0], on(loaded.model.device, y)))
    if not sums:
        raise DataError(f"{source} has no series that is long enough for a forecast and what came of it")
    return Evaluation(question.metrics(sums), int(sums["count"]))
