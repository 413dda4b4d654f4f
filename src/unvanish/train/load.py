"""What a run's folder holds, made into objects again; nothing in it is executed or unpickled."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.data.encoding import Column
from unvanish.data.tokens import Symbols
from unvanish.equations import Cell
from unvanish.errors import CellError, OptionError, RunError
from unvanish.record import CONFIG, RunRecord
from unvanish.record.config import Config
from unvanish.record.reaching import held_back
from unvanish.record.run import BEST
from unvanish.record.schema import Calibration, Need, Reach, Test, Valid
from unvanish.train.checkpoint import Checkpoints, best_weights
from unvanish.train.model import Network, TextModel, fitting_memory
from unvanish.train.questions import Question, kept_question
from unvanish.train.questions.forecast import ForecastQuestion
from unvanish.train.questions.labels import LabelQuestion
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
class Measured:
    """What the record of a run says of its data and of its gradient.

    Attributes:
        need: how many steps back the data need; None where that could not be measured.
        reach: how far back the gradient of each part comes, at the last validation.
        epochs: how many were trained.
        metrics: of the test, or, where there was none, of the last validation.
        calibration: by how much the intervals of a forecast are widened, by the share that they cover.
    """

    need: Need | None
    reach: Mapping[str, Reach]
    epochs: int
    metrics: Mapping[str, float | None]
    calibration: list[tuple[float, list[list[float]]]]

    @classmethod
    def read(cls, record: RunRecord) -> Measured:
        """Read it; of lines that were written more than once the last counts."""
        last = {str(line.get("kind")): line for line in record.read()}
        need = Need.read(last["need"]) if "need" in last else None
        valid = Valid.read(last["valid"]) if "valid" in last else None
        epochs = 0 if valid is None or valid.epoch is None else int(valid.epoch) + 1
        widened = Calibration.read(last.get("calibration", {"step": 0}))
        calibration = [
            (share, [[0.0 if one is None else one for one in row] for row in widths])
            for share, widths in zip(widened.shares, widened.widths, strict=False)
            if share is not None
        ]
        judged = Test.read(last["test"]) if "test" in last else valid
        metrics = {} if judged is None else judged.metrics
        return cls(need, {} if valid is None else valid.reach, epochs, metrics, calibration)


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

    def evaluate(self, source: Any, y: Any = None, *, lengths: Any = None) -> Any:
        """Measure the network on data with their answers: see `unvanish.train.evaluate`."""
        from unvanish.train.evaluating import evaluate

        return evaluate(self, source, y, lengths=lengths)

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        seed: int | None = None,
        *,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> str:
        """Continue a prompt by `length` symbols, of a run on text: see `unvanish.train.stream`.

        Raises:
            OptionError: the run is not on text, or a value is out of its range.
        """
        from unvanish.train.writing import generate

        if self.writer is None:
            raise OptionError("the run is not on text that it has learnt to write: use predict")
        return generate(*self.writer, prompt, length, temperature, seed, top_k=top_k, top_p=top_p)

    @property
    def writer(self) -> tuple[TextModel, Symbols] | None:
        """The network of a run on text and its symbols; None of a run that has not learnt to write."""
        question, model = self.question, self.model
        if isinstance(question, SymbolQuestion) and question.writes and isinstance(model, TextModel):
            return model, question.symbols
        return None

    @property
    def vocabulary(self) -> Symbols | None:
        """The symbols of a run on text: `encode`, `decode`, `cut`."""
        return self.question.symbols if isinstance(self.question, SymbolQuestion) else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs; empty where it tells none apart."""
        return self.question.levels if isinstance(self.question, LabelQuestion) else ()

    @property
    def scalers(self) -> dict[str, Column]:
        """By column, also of the target, the `centre` that is taken off and the `scale` it is divided by."""
        if not isinstance(self.question, LabelQuestion | ForecastQuestion):
            return {}
        return {one.name: one for one in (*self.question.encoding.columns, *self.question.scales)}

    @functools.cached_property
    def measured(self) -> Measured:
        """What the record of the run says of its data and its gradient."""
        return Measured.read(RunRecord.open(self.folder))

    @property
    def held_back(self) -> str:
        """Whether the gradient comes as far back as the data need.

        Returns:
            `far enough`, `cut by the window`, `lost on the way` or `not measured as far`; empty where that is not
            known.
        """
        need = self.measured.need
        known = [(one.steps, one.censored) for one in self.measured.reach.values() if one.steps is not None]
        steps, censored = max(known, default=(None, False))
        return held_back(steps, self.settings.length, None if need is None else need.lag, censored=censored)


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
    if found.writer is None:
        raise RunError(f"{folder} is not a run on text: its network answers another question")
    return *found.writer, found.config
