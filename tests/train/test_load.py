"""What a run's folder gives back to a program: everything that is needed to ask its network again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unvanish
from tests.support.runs import forecast, labelled, small, straight
from unvanish.errors import OptionError, RunError
from unvanish.record import RunRecord


def test_run_on_text_has_its_vocabulary_and_writes(tmp_path: Path) -> None:
    found = unvanish.load(str(straight(small(tmp_path), tmp_path / "run")))
    assert found.vocabulary is not None
    assert found.vocabulary.decode(found.vocabulary.encode("the sea").tolist()) == "the sea"
    text = found.generate("the ", 20, seed=3)
    assert len(text) == 20
    assert text == found.generate("the ", 20, seed=3)
    assert (found.classes, found.scalers) == ((), {})
    assert found.evaluate(tmp_path / "text.txt").metrics["bits"] > 0
    with pytest.raises(OptionError, match="measured on a file"):
        found.evaluate(np.zeros((3, 4)))


def test_run_on_labels_has_its_classes_and_scalers(tmp_path: Path) -> None:
    found = unvanish.load(straight(labelled(tmp_path), tmp_path / "run"))
    assert found.classes == ("0", "1")
    assert found.vocabulary is None
    with np.load(tmp_path / "arrays.npz") as arrays:
        x, y, lengths = arrays["x"], arrays["y"], arrays["lengths"]
    assert {*found.scalers} == {"column 1", "column 2"}
    assert found.scalers["column 1"].scale == pytest.approx(x[:, 0].std(), rel=0.2)
    said = found.predict(tmp_path / "arrays.npz")["target 1"].to_numpy()
    from_file, from_arrays = found.evaluate(tmp_path / "arrays.npz"), found.evaluate(x, y, lengths=lengths)
    assert from_file == from_arrays
    assert from_file.metrics["accuracy"] == pytest.approx((said == y.astype(str)).mean())
    with pytest.raises(OptionError, match="the run is not on text"):
        found.generate("a")


def test_measurements_of_a_run_are_those_of_its_record(tmp_path: Path) -> None:
    found = unvanish.load(straight(forecast(tmp_path), tmp_path / "run"))
    record = RunRecord(tmp_path / "run")
    (need,) = record.read("need")
    assert found.measured.need is not None
    assert found.measured.need.lag == need["lag"]
    last = list(record.read("valid"))[-1]
    assert {part: one.steps for part, one in found.measured.reach.items()} == {
        part: one["steps"] for part, one in last["reach"].items()
    }
    assert found.measured.epochs == found.settings.epochs == 2
    assert found.scalers["y"].scale > 0
    reach = max(one.steps or 0 for one in found.measured.reach.values())
    assert (found.held_back == "far enough") == (reach >= need["lag"] < found.settings.length)


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        unvanish.load(tmp_path)


def test_loading_is_there_before_lightning_is() -> None:
    code = "import sys, unvanish; unvanish.load; assert 'lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
