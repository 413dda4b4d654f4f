"""A run as something that can be diagnosed: its model, a batch of its text, its loss.

Shapes: T time, B batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unvanish.data.text import Windows
from unvanish.errors import RunError
from unvanish.train.load import load_model, read_source
from unvanish.train.model import TextModel
from unvanish.train.settings import TrainSettings

ROWS, CHARACTERS = 8, 1_000_000


@dataclass(frozen=True)
class Subject:
    """A trained model with a window of its training text, as it is trained on; `data` is that text."""

    model: TextModel
    batch: tuple[Tensor]
    target_TB: Tensor
    data: str

    def loss(self, output: Any) -> Tensor:
        """The cross-entropy in nats per character."""
        return self.model.loss(output[0], self.target_TB)


def subject_of(folder: Path, *, say: Callable[[str], None] = warnings.warn) -> Subject:
    """Return what a run trained, with the data that it was trained on; `say` is told of a damaged checkpoint.

    Raises:
        RunError: the folder is not a run, is damaged, or its text has changed.
    """
    model, vocabulary, config = load_model(folder, say=say)
    settings = TrainSettings.from_dict(config["settings"])
    corpus = read_source(settings.source)
    unknown = sorted(set(corpus.train.characters) - set(vocabulary.characters))
    if unknown:
        raise RunError(f"{corpus.source} has changed since the run: {unknown[0]!r} is new; restore it")
    numbers = vocabulary.encode(corpus.train[: (settings.length + 1) * 4096])
    if len(numbers) <= settings.length:
        raise RunError(f"{corpus.source} has changed since the run: it is shorter than a window; restore it")
    rows = max(1, min(ROWS, settings.batch_size, len(numbers) // (settings.length + 1)))
    x_TB, y_TB = next(iter(Windows(numbers, settings.length, rows)))
    return Subject(model.train(), (x_TB,), y_TB, corpus.train[:CHARACTERS])
