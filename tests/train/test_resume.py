"""A run that was broken off and resumed comes to the numbers that it would have had without the break."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import (
    KilledError,
    assert_same_run,
    at_step,
    events,
    interrupt,
    kill,
    make_text,
    numbers,
    silent,
    small,
    stopped_run,
    straight,
)
from tests.support.whole import usual, whole_only
from unvanish.cli import main
from unvanish.errors import OptionError, RunError
from unvanish.record import RECORDS, RunRecord
from unvanish.train import callback as callbacks
from unvanish.train import resume, train

STEPS = 14  # 2 epochs of 7 windows, of which the last is shorter; validated at 3, 6, 9, 12 and at the end
LSTM: dict[str, Any] = {"dropout": 0.3, "valid_every": 3}
ONCE_AN_EPOCH: dict[str, Any] = {"dropout": 0.3, "probes": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LSTM with dropout, trained without a break."""
    folder = tmp_path_factory.mktemp("whole")
    run = straight(small(folder, 360, **LSTM), folder / "run")
    assert [line["step"] for line in numbers(run, "step")] == list(range(1, STEPS + 1))
    assert [line["step"] for line in numbers(run, "valid")] == [3, 6, 9, 12, 14]
    return run


@pytest.fixture(scope="module")
def by_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, validated once an epoch."""
    folder = tmp_path_factory.mktemp("by_epochs")
    run = straight(small(folder, 360, **ONCE_AN_EPOCH), folder / "run")
    assert [line["step"] for line in numbers(run, "valid")] == [7, 14]
    return run


# Around a validation and the end of an epoch.
@pytest.mark.parametrize("step", usual((7, 8), range(1, STEPS + 1)))
def test_interrupted_after_any_step(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        at_step(step, interrupt, patch)
        outcome = train(small(tmp_path, 360, **LSTM), tmp_path / "run", say=silent)
    assert numbers(outcome.folder, "step")[-1]["step"] == step, "it stops after the present step"
    if step < STEPS:
        assert outcome.interrupted == signal.SIGINT
        assert resume(outcome.folder, say=silent).interrupted == 0
        assert events(outcome.folder) == ["started", "stopped", "resumed", "finished"]
    else:
        assert outcome.interrupted == 0, "after the last step nothing is left to stop"
    assert_same_run(whole, outcome.folder)


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell starts a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    at_step(3, interrupt, monkeypatch)
    assert train(small(tmp_path, 360, epochs=1), tmp_path / "run", say=silent).interrupted == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_sigterm_between_two_steps_is_saved_as_well(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind our own look at it, and before Lightning's."""
    end = callbacks.RunKeeper.on_train_batch_end

    def ends(self: callbacks.RunKeeper, trainer: Any, *rest: Any) -> None:
        end(self, trainer, *rest)
        if trainer.global_step == 4:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.RunKeeper, "on_train_batch_end", ends)
        outcome = train(small(tmp_path, 360, **LSTM), tmp_path / "run", say=silent)
    assert outcome.interrupted == signal.SIGTERM
    assert numbers(outcome.folder, "step")[-1]["step"] == 5
    resume(outcome.folder, say=silent)
    assert_same_run(whole, outcome.folder)


MOMENTS = [
    ("step", 2),
    ("valid", 3),
    ("flow", 6),
    ("step", 7),
    ("step", 8),
    ("step", 13),
    ("valid", 14),
    ("sample", 14),
]


@pytest.mark.parametrize(("kind", "step"), MOMENTS)
def test_killed_at_any_moment(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    with monkeypatch.context() as patch:
        at_step(step, kill, patch, kind)
        with pytest.raises(KilledError):
            train(small(tmp_path, 360, **LSTM), tmp_path / "run", say=silent)
    resume(tmp_path / "run", say=silent)
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.parametrize(("kind", "step"), [("step", 3), ("step", 7), ("valid", 7), ("step", 10), ("valid", 14)])
@pytest.mark.parametrize("act", [kill, interrupt])
def test_broken_off_where_an_epoch_is_validated_at_its_end(
    by_epochs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int, act: Any
) -> None:
    with monkeypatch.context() as patch:
        at_step(step, act, patch, kind)
        try:
            outcome = train(small(tmp_path, 360, **ONCE_AN_EPOCH), tmp_path / "run", say=silent)
        except KilledError:
            outcome = None
    if outcome is None or outcome.interrupted:
        resume(tmp_path / "run", say=silent)
    assert_same_run(by_epochs, tmp_path / "run")


def test_broken_off_again_and_again(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        at_step(4, interrupt, patch)
        train(small(tmp_path, 360, **LSTM), tmp_path / "run", say=silent)
    for step in (5, 7, 8, 11):
        with monkeypatch.context() as patch:
            at_step(step, interrupt, patch)
            assert resume(tmp_path / "run", say=silent).interrupted
    resume(tmp_path / "run", say=silent)
    assert_same_run(whole, tmp_path / "run")


@whole_only
def test_counts_of_sparse_records_survive_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "STEP_RECORDS", 3)  # one line every 4 steps, each over 4 steps
    settings = small(tmp_path, 360, clip="norm:0.27", **LSTM)
    once = straight(settings, tmp_path / "once")
    assert 0 < sum(line["clipped"] for line in numbers(once, "step")) < 12
    with monkeypatch.context() as patch:
        at_step(9, interrupt, patch, "valid")
        assert train(settings, tmp_path / "run", say=silent).interrupted
    resume(tmp_path / "run", say=silent)
    assert_same_run(once, tmp_path / "run")


# States of several steps; and the time itself is a state.
@whole_only
@pytest.mark.parametrize(
    "changes", [{"cell": "skip_rnn", "cell_options": {"d": 3}}, {"cell": "clockwork_rnn"}], ids=str
)
def test_killed_with_other_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    settings = small(tmp_path, 360, valid_every=3, **changes)
    with monkeypatch.context() as patch:
        at_step(5, kill, patch)
        with pytest.raises(KilledError):
            train(settings, tmp_path / "run", say=silent)
    resume(tmp_path / "run", say=silent)
    assert_same_run(straight(settings, tmp_path / "once"), tmp_path / "run")


@whole_only  # the storm kills, too
def test_killed_with_sigkill(tmp_path: Path) -> None:
    every, epochs = 7, 2
    text = tmp_path / "text.txt"
    text.write_text(make_text(2700), encoding="utf-8")
    arguments = ["train", str(text), "--cell", "lstm", "--hidden", "8", "--length", "12", "--batch-size", "4"]
    arguments += ["--epochs", str(epochs), "--valid-every", str(every), "--probes", "3", "--dropout", "0.3"]
    run, once = tmp_path / "run", tmp_path / "once"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "unvanish", *arguments, "--out", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in itertools.islice(process.stdout, 6):
            assert line.startswith(("data ", "network ", "run ", "need ", "epoch 1/2  step "))
        while last_step(run) % every != 3:  # between two validations
            time.sleep(0.0005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    reached = last_step(run)
    assert reached > 2 * every
    assert reached % 51, "not at the end of an epoch"
    assert main(["train", "--resume", str(run)]) == 0
    assert main([*arguments, "--out", str(once)]) == 0
    assert len(numbers(once, "step")) == 51 * epochs
    assert_same_run(once, run)


def last_step(run: Path) -> int:
    """Return the last step in a record that another process is writing."""
    lines = (run / RECORDS).read_text(encoding="utf-8").splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except json.JSONDecodeError:
            continue
    return 0


def test_a_changed_setting_holds_from_there_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        at_step(8, interrupt, patch)
        train(small(tmp_path, 360, **LSTM), tmp_path / "run", say=silent)
    before = numbers(tmp_path / "run", "step")
    with monkeypatch.context() as patch:
        at_step(12, interrupt, patch)
        resume(tmp_path / "run", epochs=3, lr=1e-9, clip="norm:0.001", say=silent)
    resume(tmp_path / "run", say=silent)
    steps = numbers(tmp_path / "run", "step")
    assert steps[:8] == before
    assert len(steps) == 21, "the epochs asked for first are kept, too"
    assert {line["learning_rate"] for line in steps[8:]} == {1e-9}
    assert {line["clipped"] for line in steps[8:]} == {1}
    norms = [line["parameter_norm"] for line in steps[7:]]
    assert norms == pytest.approx([norms[0]] * len(norms), abs=1e-5), "the optimiser takes the new rate"


@whole_only
def test_a_finished_run_that_goes_on_may_be_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = straight(small(tmp_path, 360, epochs=1, probes=0), tmp_path / "run")
    with monkeypatch.context() as patch:
        at_step(10, interrupt, patch)
        assert resume(run, epochs=2, say=silent).interrupted
    resume(run, say=silent)
    assert events(run) == ["started", "finished", "resumed", "stopped", "resumed", "finished"]
    once = straight(small(tmp_path, 360, epochs=2, probes=0), tmp_path / "once")
    assert numbers(run, "step", "valid") == numbers(once, "step", "valid")


def test_a_finished_run_is_resumed_for_more_epochs_only(whole: Path) -> None:
    before = list(RunRecord(whole).read())
    for epochs in (None, 1, 2):
        with pytest.raises(OptionError, match="is finished: go on with --epochs 3 or more"):
            resume(whole, epochs=epochs, say=silent)
    assert list(RunRecord(whole).read()) == before


@pytest.mark.parametrize("change", ["other characters", "same characters"])
def test_a_text_that_has_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    with monkeypatch.context() as patch:
        at_step(8, interrupt, patch)
        train(small(tmp_path, 360, **LSTM), tmp_path / "run", say=silent)
    text = make_text(360)
    changed = "0" + text[1:] if change == "other characters" else text[180:] + text[:180]
    (tmp_path / "text.txt").write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match="has changed since the run began"):
        resume(tmp_path / "run", say=silent)


@whole_only
def test_epochs_below_what_has_begun_are_refused(tmp_path: Path) -> None:
    run = stopped_run(tmp_path, step=11, epochs=3)
    before = list(RunRecord(run).read())
    with pytest.raises(OptionError, match=r"--epochs is 1, and .*run is in epoch 2: give 2 or more"):
        resume(run, epochs=1, say=silent)
    assert list(RunRecord(run).read()) == before
    resume(run, epochs=2, say=silent)
    once = straight(small(tmp_path, epochs=2), tmp_path / "once")
    assert numbers(run, "step") == numbers(once, "step")


def test_a_run_that_is_to_end_where_an_epoch_has_ended_ends_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(9, kill, patch)
        with pytest.raises(KilledError):
            train(small(tmp_path, epochs=3, probes=0), tmp_path / "run", say=silent)
    resume(tmp_path / "run", epochs=1, say=silent)
    once = straight(small(tmp_path, epochs=1, probes=0), tmp_path / "once")
    assert_same_run(once, tmp_path / "run")


def test_a_training_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "PATIENCE", 0.0)
    told: list[str] = []
    train(small(tmp_path, probes=0), tmp_path / "run", say=told.append)
    steps = [re.match(r"step (\d+) of 16  loss \d\.\d{3}  about \d+ s left$", line) for line in told]
    assert [int(match[1]) for match in steps if match] == list(range(1, 17))
    assert any(line.startswith("validating, step 8 of 16") for line in told)
    told.clear()
    train(small(tmp_path, probes=0), tmp_path / "quiet", say=told.append, progress=True)
    assert not [line for line in told if "left" in line], "a progress bar says it already"


def test_the_seconds_of_a_record_are_those_of_the_clock_over_all_sittings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    at_step(0, lambda: time.sleep(0.5), monkeypatch, at="need")  # the data's need took so long to measure
    folder = stopped_run(tmp_path, characters=2000)
    first = time.monotonic() - began
    before = RunRecord(folder).seconds
    assert 0.5 <= before <= first
    began = time.monotonic()
    resume(folder, say=silent)
    seconds = [line["seconds"] for line in RunRecord(folder).read()]
    assert before < seconds[-1] <= before + time.monotonic() - began
    assert seconds == sorted(seconds)
