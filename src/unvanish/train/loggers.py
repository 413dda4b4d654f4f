"""Other places that a run's numbers go to: TensorBoard, CSV, Weights & Biases, MLflow, as Lightning knows them.

A run's own record holds more, and is there without them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from unvanish.errors import MissingExtraError
from unvanish.record import RunRecord
from unvanish.record.schema import mapping

PROJECT = "unvanish"
AT_ONCE = 1000  # numbers, which MLflow takes at most
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
        # What goes on after a break is the same run there, too.
        return WandbLogger(folder.resolve().name, folder, id=_identity(record), resume="allow", project=PROJECT)
    return _mlflow(record, step) if word == "mlflow" else _whole_csv(record)


def close_loggers(loggers: Iterable[Logger]) -> None:
    """End the run of Weights & Biases, which would take the numbers of the next training of the process, too."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _identity(record: RunRecord) -> str:
    """What tells a run from others wherever its folder lies."""
    config = record.config
    begun = [
        config.get("created"),
        config.get("name"),
        mapping(config.get("data")).get("digest"),
        config.get("seed"),
    ]
    return hashlib.sha256(repr(begun).encode(errors="replace")).hexdigest()[:16]


def _mlflow(record: RunRecord, step: int) -> Logger:
    """A run in a database of the folder; one that holds steps that are trained again is made from the record."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    folder = (record.folder / "mlflow").resolve()
    folder.mkdir(exist_ok=True)
    where = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(where)
    experiment = client.get_experiment_by_name(PROJECT)
    found = [] if experiment is None else client.search_runs([experiment.experiment_id])
    current = found[0].info.run_id if found else None
    if found and _last_step(client, found[0]) > step:
        client.delete_run(current)
        current = None
    logger = MLFlowLogger(
        PROJECT,
        record.folder.resolve().name,
        tracking_uri=where,
        artifact_location=(folder / "artifacts").as_uri(),
        run_id=current,
    )
    if current is None:
        moment = int(time.time() * 1000)
        metrics = [
            Metric(name, value, moment, line["step"])
            for line in record.read()
            for name, value in scalars(line["kind"], line)
        ]
        for start in range(0, len(metrics), AT_ONCE):
            logger.experiment.log_batch(logger.run_id, metrics=metrics[start : start + AT_ONCE])
    return logger


def _last_step(client: Any, run: Any) -> int:
    histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return max((one.step for history in histories for one in history), default=0)


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
