"""What other places get of a run: all that its record holds, also after a break."""

from __future__ import annotations

import csv
import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import numbers, silent, small, stopped_run
from unvanish.errors import MissingExtraError
from unvanish.train import prepare, resume
from unvanish.train.loggers import scalars

KINDS = ("train", "valid", "reach", "rate")  # how the names of what is logged begin


def table(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_logger_gets_what_the_record_gets_and_all_of_it_after_a_break(tmp_path: Path) -> None:
    run = stopped_run(tmp_path, logger=["csv", "tensorboard"])
    resume(run, say=silent)
    rows = table(run)
    losses = {int(row["step"]): float(row["train/loss"]) for row in rows if row["train/loss"]}
    assert losses == {line["step"]: line["loss"] for line in numbers(run, "step")}
    reach = {int(row["step"]): float(row["reach/l0"]) for row in rows if row["reach/l0"]}
    assert reach == {line["step"]: line["reach"]["l0"]["steps"] for line in numbers(run, "valid")}
    assert len(list((run / "tensorboard").glob("events*"))) == 2


@pytest.mark.parametrize("word", ["wandb", "mlflow"])
def test_a_logger_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path, word: str) -> None:
    if importlib.util.find_spec(word):
        pytest.skip(f"{word} is there")
    with pytest.raises(MissingExtraError, match=f"pip install {word}"):
        prepare(small(tmp_path, logger=[word]), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def recorded(run: Path) -> dict[tuple[str, int], float]:
    """All numbers that a logger is to have of a run, by name and step."""
    lines = [*numbers(run, "step"), *numbers(run, "valid")]
    return {(name, line["step"]): value for line in lines for name, value in scalars(line["kind"], line)}


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_what_the_record_has_also_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    def logged(run: Path) -> list[tuple[tuple[str, int], float]]:
        client = MlflowClient(f"sqlite:///{run.resolve()}/mlflow/mlflow.db")
        experiment = client.get_experiment_by_name("unvanish")
        assert experiment is not None
        (found,) = client.search_runs([experiment.experiment_id])
        histories = (client.get_metric_history(found.info.run_id, name) for name in found.data.metrics)
        return sorted(((one.key, one.step), one.value) for history in histories for one in history)

    run = stopped_run(tmp_path, logger=["mlflow"])
    assert logged(run) == sorted(recorded(run).items())
    resume(run, say=silent)
    assert logged(run) == sorted(recorded(run).items())
    resume(run, epochs=numbers(run, "step")[-1]["epoch"] + 2, say=silent)
    whole = recorded(run)
    assert logged(run) == sorted(whole.items())
    # A kill after the last checkpoint: steps are there that are trained again.
    client = MlflowClient(f"sqlite:///{run.resolve()}/mlflow/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("unvanish").experiment_id])
    client.log_metric(found.info.run_id, "train/loss", 9.0, step=numbers(run, "step")[-1]["step"] + 1)
    resume(run, epochs=numbers(run, "step")[-1]["epoch"] + 2, say=silent)
    assert logged(run) == sorted(recorded(run).items())


def log_of(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB has it, behind a head of 7 bytes: blocks of 32 KiB, records in pieces."""
    place, record = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no head of a piece fits into the block
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_what_the_record_has_as_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = stopped_run(tmp_path, logger=["wandb"])
    resume(run, say=silent)
    found: dict[tuple[str, int], float] = {}
    ids = set()
    for path in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        ids.add(path.stem)
        for data in log_of(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            row = {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            step = row.get("trainer/global_step")
            found |= {(name, step): value for name, value in row.items() if name.split("/")[0] in KINDS}
    assert len(ids) == 1
    assert found == recorded(run)
