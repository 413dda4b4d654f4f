"""A run of any question may be broken off, and goes on to the numbers that it would have had."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import (
    KilledError,
    assert_same_run,
    at_step,
    forecast,
    interrupt,
    kill,
    labelled,
    make_text,
    numbers,
    silent,
    small,
    straight,
)
from tests.support.whole import WHOLE
from unvanish.errors import RunError, UnvanishError
from unvanish.record import RunRecord
from unvanish.train import TrainSettings, ending, load_model, load_run, resume, train
from unvanish.train.questions import read_material

Make = Callable[[Path], TrainSettings]
MADE: dict[str, Make] = {
    "class per sequence": lambda folder: labelled(folder),
    "class per step": lambda folder: labelled(folder, per="step", rows=40),
    "number per sequence": lambda folder: labelled(folder, asked="number", pool="mean", bidirectional=True),
    "number per step": lambda folder: labelled(folder, asked="number", per="step", rows=40),
    "forecast": lambda folder: forecast(folder, length=20, batch_size=4),
    "forecast by windows": lambda folder: forecast(folder, length=20, batch_size=16, scale="window"),
    "forecast of counts": lambda folder: forecast(folder, length=20, batch_size=4, likelihood="negbin"),
    "words": lambda folder: dataclasses.replace(small(folder, 2600), kind="words", tied=True),
    "agreement": lambda folder: TrainSettings(
        task="agreement",
        distance=10,
        attractors=1,
        hidden=8,
        layers=1,
        batch_size=4,
        epochs=1,
        device="cpu",
        probes=2,
    ),
    "bytes": lambda folder: dataclasses.replace(small(folder), kind="bytes"),
}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no run write more than a word at its end."""
    monkeypatch.setattr(ending, "SAMPLE_LENGTH", 5)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_killed_and_interrupted_it_goes_on_to_the_same_numbers(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    once = straight(settings, tmp_path / "once")
    last = max(line["step"] for line in RunRecord(once).read("step"))
    assert last >= 6
    killed, stopped = tmp_path / "killed", tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        at_step(last - 2, kill, patch)
        with pytest.raises(KilledError):
            train(settings, killed, say=silent)
    resume(killed, say=silent)
    assert_same(once, killed)
    if not WHOLE and make not in (MADE["class per step"], MADE["forecast"]):
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            at_step(last // 2 - 1, interrupt, patch)
            assert train(settings, stopped, say=silent).interrupted
    finally:
        signal.signal(signal.SIGINT, before)
    resume(stopped, say=silent)
    assert_same(once, stopped)


@pytest.mark.parametrize(("name", "kind"), [("forecast", "forecast"), ("class per sequence", "confusion")])
def test_killed_after_its_answers_were_written_it_writes_them_once(name: str, kind: str, tmp_path: Path) -> None:
    settings = MADE[name](tmp_path)
    once = straight(settings, tmp_path / "once")
    (line,) = RunRecord(once).read(kind)
    with pytest.MonkeyPatch.context() as patch:
        at_step(line["step"], kill, patch, at=kind)
        with pytest.raises(KilledError):
            train(settings, tmp_path / "killed", say=silent)
    resume(tmp_path / "killed", say=silent)
    assert_same(once, tmp_path / "killed")
    assert len(list(RunRecord(tmp_path / "killed").read(kind))) == 1


def assert_same(one: Path, other: Path) -> None:
    """Both have the same numbers and weights, and came to the same at their end."""
    assert_same_run(one, other)
    kinds = ("baseline", "test", "calibration", "forecast", "confusion")
    assert numbers(one, *kinds) == numbers(other, *kinds)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_loaded_network_answers_as_it_did_when_it_was_validated(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    run = straight(settings, tmp_path / "run")
    found = load_run(run)
    material = read_material(TrainSettings.from_dict(found.config["settings"]), found.question)
    sums: dict[str, Any] = {}
    states = None
    with torch.no_grad():
        for x, y in material.valid():
            answer, states = found.model(x, states if found.question.carries else None)
            for name, value in found.question.judge(found.model, answer, y).items():
                sums[name] = sums.get(name, 0) + value.double()
    last = numbers(run, "valid")[-1]["metrics"]
    assert found.question.metrics(sums) == pytest.approx(last, rel=1e-5)
    assert found.config["data"]["digest"] == material.digest


@pytest.mark.parametrize("make", [MADE["class per sequence"], MADE["forecast"], MADE["words"]])
def test_data_that_have_changed_are_refused(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    run = straight(dataclasses.replace(settings, epochs=1), tmp_path / "run")
    path = Path(str(settings.source))
    path.write_bytes(path.read_bytes() + (b"" if path.suffix == ".npz" else b"400,0.5\n"))
    if path.suffix == ".npz":
        labelled(tmp_path, rows=61)
    with pytest.raises(RunError, match="has changed since the run began"):
        resume(run, epochs=2, say=silent)


def test_a_vocabulary_that_has_changed_is_refused(tmp_path: Path) -> None:
    run = straight(dataclasses.replace(MADE["words"](tmp_path), epochs=1), tmp_path / "run")
    path = run / "vocabulary.json"
    path.write_text(path.read_text(encoding="utf-8").replace("storm", "starm"), encoding="utf-8")
    with pytest.raises(RunError, match=r"vocabulary\.json has changed"):
        load_model(run)


def test_the_run_of_another_question_is_not_one_of_text(tmp_path: Path) -> None:
    run = straight(dataclasses.replace(labelled(tmp_path), epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match="is not a run on text"):
        load_model(run)


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (labelled, {"tied": True}, "is for text"),
        (labelled, {"horizon": 3}, "--horizon is for tables"),
        (labelled, {"kind": "tables"}, "--as tables is not known"),
        (labelled, {"pool": "max"}, "--pool max is not known"),
        (forecast, {"bidirectional": True}, "--bidirectional reads what is to be predicted"),
        (forecast, {"likelihood": "normal"}, "--loss normal is not known"),
        (forecast, {"target": ["z"]}, "the table has no such column"),
        (forecast, {"horizon": 300}, "too few to hold back"),
        (small, {"bidirectional": True}, "--bidirectional reads what is to be predicted"),
        (small, {"target": ["y"]}, "--target is for tables"),
        (small, {"vocabulary": 9}, "--vocabulary is for words and bpe"),
        (small, {"tied": True, "softmax": "adaptive"}, "exclude each other"),
        (small, {"softmax": "adaptive"}, "leave it away"),
        (small, {"schedule": "cosinus"}, "unknown schedule"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    make: Any, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UnvanishError, match=words):
        train(make(tmp_path, **changes), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def test_patience_ends_a_run_which_has_the_best_validation_behind_it(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(make_text(900), encoding="utf-8")
    settings = small(tmp_path, 900, epochs=60, patience=2, lr=0.03)
    run = straight(settings, tmp_path / "run")
    losses = [line["loss"] for line in RunRecord(run).read("valid")]
    assert len(losses) < 60
    assert losses.index(min(losses)) == len(losses) - 3
    assert list(RunRecord(run).read("event"))[-1]["text"] == "no better validation was to be hoped for"
    found = load_run(run)
    material = read_material(TrainSettings.from_dict(found.config["settings"]), found.question)
    sums, states = {"loss": 0.0, "count": 0.0}, None
    with torch.no_grad():
        for x, y in material.valid():
            answer, states = found.model(x, states)
            for name, value in found.question.judge(found.model, answer, y).items():
                sums[name] += float(value)
    assert sums["loss"] / sums["count"] == pytest.approx(min(losses), rel=1e-5), "the network is that of the best"


def test_what_the_window_cuts_off_is_needed_all_the_same(tmp_path: Path) -> None:
    """The label is the sign of the first of 8 to 12 steps, and only the last 4 are read."""
    said: list[str] = []
    train(labelled(tmp_path, rows=300, length=4, epochs=1), tmp_path / "run", say=said.append)
    need = next(line for line in said if line.startswith("need"))
    assert "windows of 4 steps cut that off" in need
    assert numbers(tmp_path / "run", "need")[0]["lag"] >= 8
