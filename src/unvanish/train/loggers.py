"""Other places that a run's numbers go to: TensorBoard, CSV, Weights & Biases, MLflow, as Lightning knows them.

A run's own record holds more, and is there without them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from unvanish.errors import MissingExtraError
from unvanish.record import RunRecord

BUILT_IN = "csv"  # each other one needs the package of its name
OF_STEPS = ("loss", "gradient_norm", "parameter_norm", "learning_rate")


def check_loggers(words: Iterable[str]) -> None:
    """Refuse loggers whose packages are not there.

    Raises:
        MissingExtraError: the first of them.
    """
    for word in words:
        if word != BUILT_IN and importlib.util.find_spec(word) is None:
            raise MissingExtraError(f"--logger {word} needs the package {word}: pip install {word}")


def make_loggers(words: Iterable[str], record: RunRecord, step: int) -> list[Logger]:
    """Make the loggers that were asked for, to go on from a step; each keeps its files in the run's folder."""
    return [_made(word, record, step) for word in words]


def _made(word: str, record: RunRecord, step: int) -> Logger:
    folder = record.folder
    if word == "tensorboard":
        return TensorBoardLogger(folder, word, "", purge_step=step or None)
    if word == "wandb":
        return WandbLogger(folder.resolve().name, folder, project="unvanish")
    if word == "mlflow":
        where = f"file:{(folder / word).resolve()}"
        return MLFlowLogger("unvanish", folder.resolve().name, tracking_uri=where)
    return _whole_csv(record)


def _whole_csv(record: RunRecord) -> Logger:
    """A table of all that the record holds so far: Lightning's logger begins an empty one."""
    (record.folder / "csv" / "metrics.csv").unlink(missing_ok=True)
    logger = CSVLogger(record.folder, "csv", "")
    for line in record.read():
        values: dict[str, Any] = dict(scalars(line["kind"], line))
        if values:
            logger.log_metrics(values, line["step"])
    logger.save()
    return logger


def scalars(kind: str, line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a line of the record that a logger gets.

    >>> dict(scalars("valid", {"metrics": {"loss": 1.5}, "reach": {"l0": {"steps": 40, "rate": -0.1}}}))
    {'valid/loss': 1.5, 'reach/l0': 40.0, 'rate/l0': -0.1}
    """
    if kind == "step":
        found = {f"train/{name}": line.get(name) for name in OF_STEPS}
    elif kind == "valid":
        found = {f"valid/{name}": value for name, value in (line.get("metrics") or {}).items()}
        for part, one in (line.get("reach") or {}).items():
            found |= {f"reach/{part}": one.get("steps"), f"rate/{part}": one.get("rate")}
    else:
        return
    for name, value in found.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)
