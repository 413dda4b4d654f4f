"""What is written when a run has been trained: a sample of text, the test, the calibration of intervals.

Shapes: B forecasts, H steps ahead, G targets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unvanish.train.answering import answers, judged
from unvanish.train.load import Measured
from unvanish.train.model import TextModel
from unvanish.train.questions.forecast import ForecastQuestion
from unvanish.train.questions.likelihoods import COVERED, bounds
from unvanish.train.questions.series import SeriesMaterial
from unvanish.train.questions.symbols import (
    SAMPLE_LENGTH,
    SAMPLE_TEMPERATURE,
    TextMaterial,
)
from unvanish.train.session import Session
from unvanish.train.showing import has, write_confusion, write_forecasts
from unvanish.train.writing import generate


def write_sample(session: Session, step: int, seconds: float) -> None:
    """Let a network of symbols write, unless it was killed just after it had."""
    material, model = session.material, session.module.model
    if not isinstance(material, TextMaterial) or not isinstance(model, TextModel) or has(session, "sample", step):
        return
    prompt = material.opening()
    symbols = material.tokens.symbols
    text = generate(model.cpu(), symbols, prompt, SAMPLE_LENGTH, SAMPLE_TEMPERATURE, session.settings.seed)
    session.record.append("sample", step, seconds, prompt=prompt, text=text)


def write_test(session: Session, step: int, seconds: float) -> None:
    """Test once, where there is something that was kept for it."""
    batches, question = session.material.test(), session.material.question
    write_forecasts(session, step, seconds)
    if batches is None or has(session, "test", step):
        write_confusion(session, None, step, seconds)
        return
    if isinstance(question, ForecastQuestion):  # the intervals that predict will give, on what they have not seen
        question = question.calibrated(Measured.read(session.record).calibration)
    sums = judged(session.module.model, question, batches)
    if not sums["count"]:  # nothing is known of what is to be tested on
        return
    write_confusion(session, sums, step, seconds)
    session.record.append("test", step, seconds, metrics=question.metrics(sums))
    if isinstance(session.material, SeriesMaterial):
        found = session.material
        naive = found.naive_metrics(found.tested())
        session.record.append("baseline", step, seconds, name=found.naive_name, on="test", metrics=naive)


# -- intervals ---------------------------------------------------------------------------------------------------


def write_calibration(session: Session, step: int, seconds: float) -> None:
    """Widen the intervals of a forecast to what they are to cover on the part that is validated on.

    Conformal prediction of quantiles (Romano et al. 2019): by the ⌈(n + 1) q⌉-th smallest of how far the values lie
    outside an interval, negative inside, for each step ahead; in units of the series.
    """
    material, question = session.material, session.material.question
    if not isinstance(question, ForecastQuestion) or has(session, "calibration", step):
        return
    outside: list[list[Tensor]] = [[] for _ in COVERED]
    for answer, y in answers(session.module.model, question, material.valid()):
        scale = y.scale_BG[:, None].expand_as(y.values)
        quantiles = question.likelihood.quantiles(answer, scale)
        for place, share in enumerate(COVERED):
            low, high = bounds(quantiles, share)
            outside[place].append(torch.maximum(low - y.values, y.values - high).cpu())
    widths = [_widths(torch.cat(found), share) for found, share in zip(outside, COVERED, strict=True)]
    count = sum(len(found) for found in outside[0])
    session.record.append("calibration", step, seconds, shares=list(COVERED), widths=widths, of=count)


def _widths(outside_BHG: Tensor, share: float) -> list[list[float]]:
    """By how much each interval is to be widened, by step ahead and target; 0 where nothing is known."""
    found = []
    for outside_BG in outside_BHG.transpose(0, 1):
        row = []
        for outside_B in outside_BG.T:
            known_B = outside_B[torch.isfinite(outside_B)].sort().values
            place = min(math.ceil((len(known_B) + 1) * share), len(known_B))
            row.append(float(known_B[place - 1]) if place else 0.0)
        found.append(row)
    return found
