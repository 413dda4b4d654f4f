"""A run as something that can be diagnosed: its model, a batch of its data, its loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from unvanish.errors import DataError, RunError
from unvanish.train.load import load_run
from unvanish.train.model import Network
from unvanish.train.questions import Material, Question, read_material
from unvanish.train.questions.symbols import TextMaterial
from unvanish.train.settings import TrainSettings

ROWS, SYMBOLS = 8, 1_000_000


@dataclass(frozen=True)
class Subject:
    """A trained model with a batch of its training data, as it is trained on; `need` tells what they need."""

    model: Network
    question: Question
    batch: tuple[Any]
    wanted: Any
    need: dict[str, Any]

    def loss(self, output: Any) -> Tensor:
        """The loss that the run was trained with."""
        return self.question.loss(self.model, output[0], self.wanted)


def subject_of(folder: Path, *, say: Callable[[str], None] = warnings.warn) -> Subject:
    """Return what a run trained, with the data that it was trained on; `say` is told of a damaged checkpoint.

    Raises:
        RunError: the folder is not a run, is damaged, or its data have changed.
    """
    found = load_run(folder, say=say)
    settings = TrainSettings.from_dict(found.config["settings"])
    try:
        material = read_material(replace(settings, batch_size=1), found.question)
        material.settings = replace(settings, batch_size=_rows(material, settings))
    except DataError as fault:
        raise RunError(f"the data have changed since the run: {fault}") from fault
    if material.digest != found.config["data"]["digest"]:
        raise RunError(f"{material.source} has changed since the run: restore it")
    x, y = material.sample()
    return Subject(found.model.train(), material.question, (x,), y, _need(material))


def _rows(material: Material, settings: TrainSettings) -> int:
    """So many rows as a batch has, but no more than are needed to measure."""
    rows = min(ROWS, settings.batch_size)
    if isinstance(material, TextMaterial):
        return max(1, min(rows, len(material.tokens.parts["train"]) // (settings.length + 1)))
    return rows


def _need(material: Material) -> dict[str, Any]:
    if isinstance(material, TextMaterial):
        return {"data": material.tokens.parts["train"][:SYMBOLS].long()}
    need = material.need()
    return {} if need is None or not need.lag else {"need": need.lag}
