"""`unvanish diagnose`: what it says, how it ends, and one clear line for what cannot be diagnosed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.runs import make_text, small, straight
from unvanish.cli import main
from unvanish.cli.show import console

Capture = pytest.CaptureFixture[str]
SUBJECTS = """
import torch
from torch import nn
import unvanish

class Last(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.rnn, self.out = layer, nn.Linear(8, 1)
    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])

def loss(y):
    return (y - 1).square().mean()

def ill():
    torch.manual_seed(0)
    return Last(nn.RNN(2, 8)), torch.randn(60, 4, 2), loss

def sound():
    torch.manual_seed(0)
    model, batch, _ = ill()
    return {"model": Last(unvanish.LeakyRNN(2, 8, alpha=0.99)), "batch": batch, "loss": loss, "need": 40}

def stopped():
    return Last(nn.RNN(2, 8)), torch.randn(1, 4, 2), loss

def many():
    return Last(nn.RNN(2, 8)), torch.randn(60, 4, 2), lambda y: y

def flat():
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh()), torch.randn(60, 2), lambda y: y.sum()

def mine():
    torch.manual_seed(0)
    return Last(type("Mine", (nn.RNN,), {})(2, 8)), torch.randn(60, 4, 2), loss

class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 8, num_layers=2, bidirectional=True), nn.Linear(16, 1)
    def forward(self, x):
        _, h_n = self.rnn(x)
        return self.out(torch.cat([h_n[-2], h_n[-1]], dim=-1))

def stacked():
    torch.manual_seed(0)
    return Both(), torch.randn(60, 4, 2), loss

def raising():
    raise ValueError("no such file")

def narrow():
    return Last(nn.RNN(3, 8)), torch.randn(60, 4, 2), loss

def labels():
    entropy = nn.CrossEntropyLoss()
    return Last(nn.RNN(2, 8)), torch.randn(60, 4, 2), lambda y: entropy(y, torch.tensor([0, 0, 0, 7]))

def elsewhere():
    return Last(nn.RNN(2, 8)).to("meta"), torch.randn(60, 4, 2), loss

SIZE = 3

def nothing():
    return None

class Subject:
    @staticmethod
    def made():
        return ill()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "subjects.py").write_text(SUBJECTS, encoding="utf-8")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    (tmp_path / "trains.py").write_text("raise FileNotFoundError('train.csv')\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("def make(:\n", encoding="utf-8")
    (tmp_path / "wanting.py").write_text("import no_such_module\n", encoding="utf-8")
    (tmp_path / "bare.py").write_text("import torch\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    for name, modified in (("a", 1e9), ("b", 1.5e9), ("c", 1.2e9)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
        os.utime(tmp_path / "runs" / name / "config.yaml", (modified, modified))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def told(capsys: Capture, status: int, *arguments: str) -> str:
    assert main(["diagnose", *arguments]) == status
    captured = capsys.readouterr()
    if status == 2:
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err
    assert captured.err == ""
    return captured.out


def test_verdict_is_the_last_line_and_the_exit_status(here: Path, capsys: Capture) -> None:
    out = told(capsys, 1, "subjects:ill", "--need", "40")
    lines = out.rstrip().splitlines()
    assert lines[-1].startswith("vanishing: needed 40 steps (from given), reached ")
    assert any(line.startswith("because") for line in lines)
    assert not any(line.startswith("first: ") for line in lines), "a remedy heals"
    assert "torch.nn.init.orthogonal_" in out or "unvanish.Recurrent(" in out
    out = told(capsys, 0, "subjects:sound")
    assert out.rstrip().splitlines()[-1].startswith("healthy: needed 40 steps (from given), reached ")
    assert told(capsys, 1, "subjects:Subject.made", "--need", "40", "--no-prescriptions").count("helps") == 0


def test_tables_keep_to_a_narrow_terminal(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 60)
    lines = told(capsys, 1, "subjects:ill", "--need", "40").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("helps, at the start of training"))
    rows = [line for line in lines[start:] if " × " in line]
    assert rows
    assert all(len(line) <= 60 for line in rows)
    for row in rows:
        name = row.split("  ")[0].strip()
        assert any(line.startswith(f"{name}: ") for line in lines), "what it does stands below the table"


def test_remedy_that_could_not_be_tried_is_told_with_the_reason(here: Path, capsys: Capture) -> None:
    out = told(capsys, 1, "subjects:mine", "--need", "40")
    assert "not tried: " in out
    assert "a class of its own" in " ".join(out.split())


def test_remedy_that_serves_several_parts_stands_once_with_their_names(here: Path, capsys: Capture) -> None:
    lines = told(capsys, 1, "subjects:stacked", "--need", "40", "--out", "found.html").splitlines()
    parts = ["rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"]
    (first,) = [at for at, line in enumerate(lines) if line.startswith("chrono ")]
    rows = [line.split() for line in lines[first : first + 4]]
    assert [rows[0][1], *(row[0] for row in rows[1:])] == parts
    assert all("healthy" in row for row in rows)
    refused = [line for line in lines if line.startswith("not tried: ")]
    assert len(refused) == 2, "an LSTM in its place, and its own cell with skips"
    assert all(line.startswith(f"not tried: {', '.join(parts)}: ") for line in refused)
    assert not any("RuntimeError" in line or "ValueError" in line for line in refused)
    page = (here / "found.html").read_text(encoding="utf-8")
    assert page.count('data-remedy="chrono"') == 1
    assert page.count("unvanish.init.chrono(40).fill(unvanish.flow.as_ours(model.rnn))") == 1
    assert page.count("lstm on rnn.l0, rnn.l0_reverse, rnn.l1, rnn.l1_reverse: the model") == 1


FILE = """
import argparse
import pickle
import sys
from dataclasses import dataclass
import torch
from torch import nn
from diagnose_beside import WIDTH

rate = argparse.ArgumentParser()
rate.add_argument("--rate", default=0.1)
rate.parse_args()
if __name__ == "__main__":
    raise SystemExit("trains")

@dataclass
class Sizes:
    hidden: int = WIDTH

class Last(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, sizes.hidden), nn.Linear(sizes.hidden, 1)
    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])

def make():
    torch.manual_seed(0)
    assert sys.modules[Last.__module__].Last is Last
    return pickle.loads(pickle.dumps(Last(Sizes()))), torch.randn(60, 4, 2), lambda y: (y - 1).square().mean()
"""


@pytest.mark.parametrize("name", ["diagnose_mine", "json"])  # a name of one's own, and one that Python has already
def test_callable_of_a_file_is_diagnosed_from_anywhere(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "diagnose_beside.py").write_text("WIDTH = 8\n", encoding="utf-8")
    (folder / f"{name}.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    before = list(sys.argv)
    out = told(capsys, 1, f"deep/{name}.py:make", "--need", "40", "--no-prescriptions")
    assert out.rstrip().splitlines()[-1].startswith("vanishing: needed 40 steps")
    assert sys.argv == before
    assert sys.modules["json"] is json


def test_need_beyond_the_window_asks_for_longer_windows_before_any_remedy(here: Path, capsys: Capture) -> None:
    out = told(capsys, 1, "subjects:ill", "--need", "1000", "--out", "found.html")
    lines = out.splitlines()
    (first,) = [at for at, line in enumerate(lines) if line.startswith("first: train on windows of more than 1000")]
    assert first < next(at for at, line in enumerate(lines) if line.startswith("lengthens, does not heal"))
    assert "the first of them" not in out
    assert "then the first of these" in out
    page = (here / "found.html").read_text(encoding="utf-8")
    assert page.index("First: train on windows of more than 1000 steps") < page.index("data-remedy=")
    found = json.loads(told(capsys, 1, "subjects:ill", "--need", "1000", "--json"))
    assert found["first"].startswith("train on windows of more than 1000 steps")
    assert found["prescriptions"]


def test_json_is_all_of_it(here: Path, capsys: Capture) -> None:
    found = json.loads(told(capsys, 1, "subjects:ill", "--need", "40", "--json"))
    assert (found["target"], found["verdict"], found["need"]) == ("subjects:ill", "vanishing", 40)
    assert found["parts"][0]["profile"]["norms"]["all"][0] == pytest.approx(1)
    assert found["causes"][0]["kind"] == "weights"
    assert found["prescriptions"][0]["reach"] > found["prescriptions"][0]["reach_before"]


def test_data_say_what_is_needed(here: Path, capsys: Capture) -> None:
    (here / "periodic.txt").write_text(make_text(3000), encoding="utf-8")
    found = json.loads(told(capsys, 0, "subjects:ill", "--data", "periodic.txt", "--json", "--no-prescriptions"))
    assert found["need_from"] == "the data"
    assert 1 < found["need"] == found["dependency"]["needed"] < found["dependency"]["visible"]
    said = told(capsys, 0, "subjects:ill", "--data", "periodic.txt", "--no-prescriptions")
    assert f"needed {found['need']} steps, visible {found['dependency']['visible']} steps" in said
    assert "none.txt is not a file" in told(capsys, 2, "subjects:ill", "--data", "none.txt")


def test_report_is_written(here: Path, capsys: Capture) -> None:
    told(capsys, 1, "subjects:ill", "--need", "40", "--out", "found.html")
    page = (here / "found.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "subjects:ill" in page or "anishing" in page


def test_a_run_is_diagnosed_against_its_own_text(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.txt").write_text(make_text(2000), encoding="utf-8")
    run = straight(small(tmp_path, source=str(tmp_path / "text.txt"), epochs=1, probes=0), tmp_path / "run")
    assert main(["diagnose", str(run), "--json", "--no-prescriptions"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert found["need_from"] == "the data"
    assert [part["name"] for part in found["parts"]] == ["recurrent.l0", "recurrent.l1"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("subjects:stopped", "the batch has one time step"),
        ("subjects:many", "the loss is of shape (4, 1)"),
        ("subjects:raising", "subjects:raising raised ValueError: no such file"),
        ("subjects:narrow", "raised RuntimeError"),
        ("subjects:labels", "raised IndexError: Target 7 is out of bounds"),
        ("subjects:elsewhere", "meta"),
        ("subjects:nothing", "returns no (model, batch, loss)"),
        ("subjects:zzz", "subjects has no callable 'zzz'; it has elsewhere, flat, ill, "),
        ("subjects:soundd", "subjects has no callable 'soundd': did you mean 'sound'"),
        ("bare:make", "bare has no callable 'make', and defines none"),
        ("subjects:Subject.missing", "has no attribute 'missing'"),
        ("subjects.py", "unvanish diagnose subjects.py:make"),
        ("./subjects.py", "unvanish diagnose ./subjects.py:make"),
        ("in/deep.py:make", "the file in/deep.py does not exist: name a Python file, FILE.py:CALLABLE"),
        ("subject.py:make", "the file subject.py does not exist: did you mean 'subjects.py'"),
        ("subjects.py:soundd", "subjects.py has no callable 'soundd': did you mean 'sound'"),
        ("subjects.py:loss", "subjects.py:loss wants arguments, (y): name a function that is called without any"),
        ("subjects.py:SIZE", "subjects.py:SIZE is int: name a function that returns (model, batch, loss)"),
        ("subjects.py:Both", "it returns a Both alone, return it with a batch and a loss"),
        (
            "ends.py:make",
            "ends.py ended the program (SystemExit: 3) where it is only imported: put what it does",
        ),
        ("trains.py:make", "trains.py:make raised FileNotFoundError: train.csv"),
        ("broken.py:make", "broken.py:make raised SyntaxError"),
        ("wanting.py:make", "No module named 'no_such_module'; wanting.py imports it: install it"),
        ("notes.txt", "train one with unvanish train notes.txt and name its run"),
        ("notes.txt", "unvanish diagnose MODULE:CALLABLE --data notes.txt"),
        ("runs", "runs is a folder of runs: name one of them, the newest is unvanish diagnose runs/b"),
        ("no_such_module:made", "No module named 'no_such_module'"),
        ("no_such_folder", "is not the folder of a run; a callable is written MODULE:CALLABLE or FILE.py:CALLABLE"),
    ],
)
def test_what_cannot_be_diagnosed_is_one_clear_line(here: Path, capsys: Capture, target: str, words: str) -> None:
    assert words in told(capsys, 2, target)
