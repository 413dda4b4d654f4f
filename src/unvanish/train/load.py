"""What a run's folder holds, made into objects again; nothing in it is executed or unpickled."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.data.tokens import Symbols
from unvanish.equations import Cell
from unvanish.errors import CellError, OptionError, RunError
from unvanish.record import CONFIG, RunRecord
from unvanish.record.config import Config
from unvanish.record.run import BEST
from unvanish.record.schema import Calibration
from unvanish.train.checkpoint import Checkpoints, best_weights
from unvanish.train.model import Network, TextModel, fitting_memory
from unvanish.train.questions import Question, kept_question
from unvanish.train.questions.symbols import SymbolQuestion
from unvanish.train.settings import TrainSettings
from unvanish.train.state import check_weights


@dataclass(frozen=True)
class Kept:
    """What `config.yaml` says of a run."""

    config: Config
    settings: TrainSettings
    cell: Cell
    question: Question

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
        return cls(config, settings, cell, kept_question(config.data, record.folder, settings.task))

    def build(self, weights: Mapping[str, Any], path: Path) -> Network:
        """Make the network that the weights are of.

        Raises:
            RunError: they are those of another; this is found before room is made for a network of any size.
        """
        if wrong := self.question.check(weights, self.settings):
            raise RunError(f"{path} does not fit {CONFIG}: {wrong}; restore it")
        if not any(f"_l{self.settings.layers - 1}" in str(name) for name in weights):
            raise RunError(f"{path} does not fit {CONFIG}: it has no {self.settings.layers} layers; restore it")
        try:
            with fitting_memory():
                model = self.question.network(self.cell, self.settings).to(self.settings.dtype)
        except OptionError as fault:
            raise RunError(f"{path.parent} cannot be loaded: {fault}; restore {CONFIG}") from fault
        check_weights(weights, model.state_dict(), path)
        return model


@dataclass(frozen=True)
class Loaded:
    """A trained network with its question and what `config.yaml` says of its run.

    Attributes:
        model: the network.
        question: what it answers: symbols and vocabulary, classes, scalers.
        settings: those of its training.
        folder: where the run is, or was.
    """

    model: Network
    question: Question
    settings: TrainSettings
    config: Mapping[str, Any]
    folder: Path

    def __repr__(self) -> str:
        cell, count = self.model.recurrent.cell.name, sum(p.numel() for p in self.model.parameters())
        return f"Loaded({cell}, {count:,} parameters, {self.question.kind} per {self.question.unit})"

    def predict(self, source: Any) -> Any:
        """Answer of new data, a path, arrays, a data frame or `Sequences`: see `unvanish.train.predict`."""
        from unvanish.train.predicting import predict

        return predict(self, source)

    def evaluate(self, source: Any) -> Any:
        """Measure the network on data with their answers: see `unvanish.train.evaluate`."""
        from unvanish.train.evaluating import evaluate

        return evaluate(self, Path(source))

    @functools.cached_property
    def calibration(self) -> list[tuple[float, list[list[float]]]]:
        """By how much the intervals of a forecast are widened, by the share that they cover."""
        lines = [Calibration.read(line) for line in RunRecord.open(self.folder).read("calibration")]
        return [
            (share, [[0.0 if one is None else one for one in row] for row in widths])
            for line in lines[-1:]
            for share, widths in zip(line.shares, line.widths, strict=False)
            if share is not None
        ]


def load_run(folder: Path, *, say: Callable[[str], None] = warnings.warn) -> Loaded:
    """Load the trained network of a run; `say` is told where the latest checkpoint is damaged.

    Raises:
        RunError: the folder is not a run, or is damaged.
    """
    record = RunRecord.open(folder)
    kept = Kept.read(record)
    checkpoint = Checkpoints(folder).latest(say)
    weights = checkpoint.read_weights()
    model = kept.build(weights, checkpoint.path)
    best = best_weights(folder) if kept.settings.patience else None
    if best is not None:
        check_weights(best, model.state_dict(), folder / BEST)
    model.load_state_dict(weights if best is None else best)
    model.eval()
    return Loaded(model, kept.question, kept.settings, record.config, folder)


def load_model(
    folder: Path, *, say: Callable[[str], None] = warnings.warn
) -> tuple[TextModel, Symbols, Mapping[str, Any]]:
    """Load the trained network of a run on text, with its symbols: see `load_run`.

    Raises:
        RunError: the folder is not a run on text, or is damaged.
    """
    found = load_run(folder, say=say)
    question, model = found.question, found.model
    if not isinstance(question, SymbolQuestion) or not question.writes or not isinstance(model, TextModel):
        raise RunError(f"{folder} is not a run on text: its network answers another question; use predict")
    return model, question.symbols, found.config
