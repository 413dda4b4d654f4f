"""Every remedy has its flag: it is kept with the run, acts, is recorded, and has its row in the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.runs import make_text
from unvanish.cli import main
from unvanish.record import RunRecord
from unvanish.train import ending as runs

SMALL = "--hidden 8 --length 12 --batch-size 4 --epochs 1 --probes 1 --device cpu --engine reference"
FLAGS = {
    "clip": ("--clip", "norm:0.1"),
    "penalty": ("--penalty", "omega:2"),
    "init": ("--init", "chrono:784"),
    "connect": ("--connect", "residual"),
    "layer_norm": ("--layer-norm", ""),
    "recurrent_dropout": ("--recurrent-dropout", "0.25"),
    "zoneout": ("--zoneout", "0.1"),
    "weight_drop": ("--weight-drop", "0.1"),
    "skips": ("--skips", "5,25"),
    "constrain": ("--constrain", "orthogonal"),
}
KEPT = {
    "penalty": ["omega:2"],
    "init": ["chrono:784"],
    "layer_norm": True,
    "recurrent_dropout": 0.25,
    "zoneout": 0.1,
    "weight_drop": 0.1,
    "skips": [5, 25],
}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no run write more than a word at its end."""
    monkeypatch.setattr(runs, "SAMPLE_LENGTH", 5)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(make_text(420), encoding="utf-8")
    return tmp_path


def rows(folder: Path) -> list[str]:
    return re.findall(r'data-remedy="(\w+)"', (folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_kept_measured_and_shown(text: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    flag, word = FLAGS[name]
    assert main(["train", "text.txt", *SMALL.split(), flag, *([word] if word else []), "--out", "run"]) == 0
    record = RunRecord.open(text / "run")
    assert record.config["settings"][name] == KEPT.get(name, word)
    told = {line["name"]: line for line in record.read("remedy")}
    assert set(told) == {name, "clip"}
    assert sorted(rows(text / "run")) == sorted(told)
    assert (told[name]["without"] is None) == (name in ("clip", "penalty"))
    lines = list(record.read("step"))
    if name == "clip":
        assert sum(line["clipped"] for line in lines) == len(lines)
    assert all(("penalties" in line) == (name == "penalty") for line in lines)
    assert capsys.readouterr().err == ""


def test_repeated_flags_all_count(text: Path) -> None:
    more = ["--penalty", "omega:2", "--penalty", "orthogonal:0.1", "--init", "orthogonal", "--init", "forget:3"]
    assert main(["train", "text.txt", *SMALL.split(), *more, "--clip", "none", "--out", "run"]) == 0
    record = RunRecord.open(text / "run")
    asked = [(line["name"], line["asked"]) for line in record.read("remedy")]
    words = [("init", "orthogonal"), ("init", "forget:3"), ("penalty", "omega:2"), ("penalty", "orthogonal:0.1")]
    assert asked == words
    assert all(set(line["penalties"]) == {"omega:2", "orthogonal:0.1"} for line in record.read("step"))
    assert rows(text / "run") == [name for name, _ in words]


def test_a_run_that_was_asked_for_nothing_has_no_such_section(text: Path) -> None:
    assert main(["train", "text.txt", *SMALL.split(), "--clip", "none", "--out", "run"]) == 0
    assert rows(text / "run") == []
    assert list(RunRecord.open(text / "run").read("remedy")) == []
    assert "<h2>Remedies</h2>" not in (text / "run" / "report.html").read_text(encoding="utf-8")


def test_resume_may_change_the_clip(text: Path) -> None:
    assert main(["train", "text.txt", *SMALL.split(), "--clip", "percentile:50", "--out", "run"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "2", "--clip", "step:0.0001"]) == 0
    record = RunRecord.open(text / "run")
    assert [(line["step"], line["asked"]) for line in record.read("remedy")] == [
        (0, "percentile:50"),
        (8, "step:0.0001"),
    ]
    assert [line["clipped"] for line in record.read("step")][8:] == [1] * 8
    assert rows(text / "run") == ["clip", "clip"]


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag, _ in FLAGS.values())
    assert "--no-layer-norm" not in shown
