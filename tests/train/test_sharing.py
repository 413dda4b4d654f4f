"""Several processes that share each batch train as one process does with the whole of it."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import events, forecast, labelled, latest_of, numbers, silent, small, stopped_run, straight
from tests.support.whole import usual
from unvanish.data.batches import SequenceBatches
from unvanish.data.text import Windows
from unvanish.errors import OptionError, RunError
from unvanish.train import TrainSettings, fit, prepare, prepare_resume, resume
from unvanish.train.checkpoint import WEIGHTS
from unvanish.train.processes import Others
from unvanish.train.sharing import Share

EXACT = {"optimizer": "sgd", "lr": 0.1, "probes": 1}
MADE: dict[str, Callable[[Path], TrainSettings]] = {
    # 3 batches of 20 sequences of 8 to 12 steps, and one of 1
    "class per step": lambda folder: labelled(folder, per="step", rows=68, batch_size=10, valid=0.1, **EXACT),
    "text": lambda folder: small(folder, 420, batch_size=2, clip="norm:0.05", **EXACT),
    "forecast": lambda folder: forecast(folder, length=20, batch_size=3, **EXACT),
    "number": lambda folder: labelled(folder, asked="number", rows=40, batch_size=4, **EXACT),
}


def assert_as_one(one: Path, two: Path) -> None:
    """Both runs have the same numbers to rounding."""
    for kind in ("step", "valid"):
        whole, shared = numbers(one, kind), numbers(two, kind)
        assert [line["step"] for line in whole] == [line["step"] for line in shared]
        for line, other in zip(whole, shared, strict=True):
            for name in {"loss", "gradient_norm", "parameter_norm", "bits"} & set(line):
                assert other[name] == pytest.approx(line[name], rel=2e-4), (kind, line["step"], name)
    ours, theirs = (load_file(latest_of(run) / WEIGHTS) for run in (one, two))
    for name, array in ours.items():
        torch.testing.assert_close(theirs[name], array, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("name", usual(("class per step",), MADE))
def test_two_processes_train_as_one_with_batches_twice_as_large(name: str, tmp_path: Path) -> None:
    settings = MADE[name](tmp_path)
    one = straight(dataclasses.replace(settings, batch_size=2 * settings.batch_size), tmp_path / "one")
    two = straight(dataclasses.replace(settings, devices=2), tmp_path / "two")
    assert_as_one(one, two)
    assert len(numbers(two, "step")) >= 6


def test_stopped_they_go_on_and_with_another_number_of_processes_too(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    asked = {"batch_size": 2, "devices": 2, **EXACT}
    one = straight(small(tmp_path, **{**asked, "batch_size": 4, "devices": 1}), tmp_path / "one")
    part = stopped_run(tmp_path / "part", **asked)
    reached = numbers(part, "step")[-1]["step"]
    assert reached in (5, 6), "the others hear of it with the next step"
    assert resume(part, say=silent).interrupted == 0
    assert events(part) == ["started", "stopped", "resumed", "finished"]
    assert_as_one(one, part)


def test_a_process_that_is_killed_ends_the_run_which_can_go_on(tmp_path: Path) -> None:
    settings = small(tmp_path, 3000)
    run = tmp_path / "run"
    asked = ["--hidden", "8", "--length", "12", "--batch-size", "2", "--epochs", "400", "--devices", "2"]
    command = [sys.executable, "-m", "unvanish", "train", str(settings.source), *asked, "--device", "cpu"]
    with subprocess.Popen([*command, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as one:
        while not list(run.glob("checkpoints/step-[1-9]*")):
            assert one.poll() is None
            time.sleep(0.2)
        os.kill(_follower(one.pid), signal.SIGKILL)
        assert one.stderr is not None
        told = one.stderr.read().decode()
    assert one.returncode == 2
    assert re.search(r"unvanish: process 2 of 2 ended \(SIGKILL\).*last good checkpoint.*--resume", told), told
    assert "Traceback" not in told
    found = prepare_resume(run, say=silent)
    found.claim.release()
    assert found.session.state is not None
    assert found.session.state["global_step"] > 0


@pytest.mark.parametrize("name", usual(("text.txt",), ("text.txt", "config.yaml")))
def test_a_process_that_cannot_start_is_told_at_once(name: str, tmp_path: Path) -> None:
    settings, run = small(tmp_path, devices=2, batch_size=2), tmp_path / "run"
    training = prepare(settings, run, say=silent)
    path = tmp_path / name if name == "text.txt" else run / name
    path.rename(path.with_suffix(".away"))
    with pytest.raises(RunError, match=r"process 2 of 2 ended \(.*no checkpoint had been written yet.*--resume"):
        training.run(silent)
    path.with_suffix(".away").rename(path)
    assert resume(run, say=silent).interrupted == 0


def test_a_terminals_interrupt_is_heard_by_the_first_process_alone(tmp_path: Path) -> None:
    one = Others(tmp_path / "no run", Share(0, 2, 1))
    try:
        (process,) = one._started
        assert os.getpgid(process.pid) != os.getpgid(0)
    finally:
        one.end(kill=True)


def _follower(parent: int) -> int:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return next(
        int(one) for one in found if b"unvanish.train.follower" in Path(f"/proc/{one}/cmdline").read_bytes()
    )


def test_shares_of_a_batch_are_all_of_it_once() -> None:
    windows, batches = (
        Windows(torch.arange(50), 4, 3),
        SequenceBatches(np.ones(7, np.int64), 3, lambda rows: (rows,) * 2),
    )
    for made, axis in ((windows, 1), (batches, 0)):
        whole = [torch.as_tensor(y) for _, y in made]
        parts = []
        for rank in range(2):
            made.share = (rank, 2)
            parts.append([None if y is None else torch.as_tensor(y) for _, y in made])
        for batch, *own in zip(whole, *parts, strict=True):
            assert torch.equal(torch.cat([one for one in own if one is not None], axis), batch)
    assert parts[1][-1] is None, "the last batch has one row, and the second process none"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strategy": "fsdp"}, "fsdp"),
        ({"strategy": "dpp"}, "did you mean 'ddp'"),
        ({"devices": 2, "penalty": ["omega:2"]}, "--penalty omega:2"),
        ({"devices": 2, "clip": "step-norm:1"}, "--clip step-norm:1"),
        ({"devices": 2, "clip": "random:1"}, "--clip random:1"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_written(
    changes: dict[str, object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=re.escape(told)):
        prepare(small(tmp_path, **changes), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def test_arrays_are_of_one_process() -> None:
    with pytest.raises(OptionError, match="give a file"):
        fit(np.zeros((8, 3, 1)), np.arange(8) % 2, devices=2)
