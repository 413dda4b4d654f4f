"""A network asked batch by batch, and its answers judged: to validate, to test, to calibrate, to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from unvanish.train.model import Network, on
from unvanish.train.questions import Question, Sums


@torch.no_grad()
def answers(model: Network, question: Question, batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield the network's answer, and what was wanted, batch by batch; states are carried where they are."""
    was_training, states = model.training, None
    model.eval()
    try:
        for x, y in batches:
            answer, after = model(on(model, x), states)
            states = after if question.carries else None
            yield answer, on(model, y)
    finally:
        model.train(was_training)


def judged(model: Network, question: Question, batches: Iterable[tuple[Any, Any]]) -> Sums:
    """Return the sums that the metrics are made of, over all batches."""
    sums: Sums = {}
    for answer, y in answers(model, question, batches):
        add(sums, question.judge(model, answer, y))
    return sums


def add(sums: Sums, others: Sums) -> None:
    """Add sums of a batch to those of others."""
    for name, value in others.items():
        value = value.detach().double().cpu()
        sums[name] = sums[name] + value if name in sums else value
