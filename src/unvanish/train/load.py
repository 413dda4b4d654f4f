"""What a run's folder holds, made into objects again; nothing in it is executed or unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.data.text import Corpus, Vocabulary, load_corpus
from unvanish.equations import Cell
from unvanish.errors import CellError, OptionError, RunError
from unvanish.record import CONFIG, RunRecord
from unvanish.record.schema import Config
from unvanish.train.checkpoint import Checkpoints
from unvanish.train.model import TextModel, build_model
from unvanish.train.settings import TrainSettings
from unvanish.train.state import check_weights


@dataclass(frozen=True)
class Kept:
    """What `config.yaml` says of a run."""

    config: Config
    settings: TrainSettings
    cell: Cell
    vocabulary: Vocabulary

    @classmethod
    def read(cls, record: RunRecord) -> Kept:
        """Read it.

        Raises:
            RunError: it cannot be read, or a field is wrong; the first of these is named.
        """
        config = record.read_config()
        try:
            settings = TrainSettings.from_dict(config.settings)
            cell = Cell.from_dict(config.cell.definition.model_dump())
        except (OptionError, CellError) as fault:
            part = "settings" if isinstance(fault, OptionError) else "cell.definition"
            path = record.folder / CONFIG
            raise RunError(f"{path}: in {part}, {fault}; restore it or start a new run") from fault
        return cls(config, settings, cell, Vocabulary(config.data.characters))

    def build(self, weights: Mapping[str, Any], path: Path) -> TextModel:
        """Make the network that the weights are of.

        Raises:
            RunError: they are those of another; this is found before room is made for a network of any size.
        """
        rows, columns = len(self.vocabulary), self.settings.hidden
        shape = tuple(getattr(weights.get("embedding.weight"), "shape", ()))
        if shape != (rows, columns):
            raise RunError(
                f"{path} does not fit {CONFIG}: its embedding is {shape}, not {(rows, columns)}; restore it"
            )
        if not any(f"_l{self.settings.layers - 1}" in str(name) for name in weights):
            raise RunError(f"{path} does not fit {CONFIG}: it has no {self.settings.layers} layers; restore it")
        try:
            model = build_model(self.cell, rows, self.settings)
        except OptionError as fault:
            raise RunError(f"{path.parent} cannot be loaded: {fault}; restore {CONFIG}") from fault
        check_weights(weights, model.state_dict(), path)
        return model


def load_model(
    folder: Path, *, say: Callable[[str], None] = warnings.warn
) -> tuple[TextModel, Vocabulary, Mapping[str, Any]]:
    """Load the trained network of a run; `say` is told where the latest checkpoint is damaged.

    Raises:
        RunError: the folder is not a run, or is damaged.
    """
    record = RunRecord.open(folder)
    kept = Kept.read(record)
    checkpoint = Checkpoints(folder).latest(say)
    weights = checkpoint.read_weights()
    model = kept.build(weights, checkpoint.path)
    model.load_state_dict(weights)
    model.eval()
    return model, kept.vocabulary, record.config


def read_source(source: str | None) -> Corpus:
    """Read the text that a run trains on, or the standard library's. Raises `DataError` where there is none."""
    return load_corpus(None if source is None else Path(source))
