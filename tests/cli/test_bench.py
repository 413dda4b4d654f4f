"""`unvanish bench`: what it prints, what it writes, and one clear line for what cannot be timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import unvanish
from unvanish.cli import main
from unvanish.cli.show import console

Capture = pytest.CaptureFixture[str]
SMALL = ["--length", "8", "--batch-size", "2", "--input", "3", "--hidden", "4", "--rounds", "5"]
MINE = """
from unvanish import Cell
MINE = Cell("mine", "h[t] = tanh(W @ x[t] + U @ h[t-1] + b)")
lstm = Cell("lstm", "h[t] = tanh(W @ x[t] + U @ h[t-1] + b)")
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "my.py"
    path.write_text(MINE)
    return path


def test_cells_of_the_catalogue_and_of_ones_own_are_timed(mine: Path, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "new" / "bench.html"
    assert main(["bench", "gru", f"{mine}:MINE", *SMALL, "--out", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 steps, batch 2, input 3, hidden 4, float32, 1 thread, ")
    heads = [line.split() for line in lines if line.startswith(("training step", "forward pass"))]
    peers = ["unvanish", "×", "plain", "PyTorch", "×", "torch.nn.LSTM", "×", "torch.nn.GRU", "same", "numbers"]
    assert heads == [["training", "step", *peers], ["forward", "pass", *peers]]
    rows = [line.split()[0] for line in lines if " ms " in line]
    assert rows == ["gru", "mine"] * 2
    assert any(line.startswith("A training step of gru and mine is ") for line in lines)
    assert lines[-1] == f"page    {page}"
    assert "the same in plain PyTorch" in page.read_text(encoding="utf-8")


def test_machines_get_one_document(capsys: Capture) -> None:
    assert main(["bench", "--json", "--threads", "1", *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [cell["cell"] for cell in found["cells"]] == ["lstm"]
    assert found["shape"] == {
        "time steps": 8,
        "batch": 2,
        "input": 3,
        "hidden": 4,
        "layers": 1,
        "numbers": "float32",
    }
    assert found["machine"]["torch"] == torch.__version__
    assert found["machine"]["unvanish"] == unvanish.__version__
    assert found["cells"][0]["is_same"]


def test_a_narrow_terminal_keeps_the_medians(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 70)
    assert main(["bench", "lstm", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "same numbers" not in out
    assert max(map(len, out.splitlines()[:6])) <= 70


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lstn"], "did you mean 'lstm'"),
        (["no.py:MINE"], "does not exist"),
        (["lstm", "--set", "d=5"], "lstm has no option 'd'"),
        (["lstm", "gru", "--set", "d=5"], "--set is of one cell"),
        (["lstm", "lstm"], "two of them have one name"),
        (["lstm", "--hidden", "0"], "--hidden"),
        (["lstm", "--units", "3"], "--hidden"),
        (["lstm", "--out", "."], "is a folder"),
    ],
)
def test_what_cannot_be_timed_is_one_line(arguments: list[str], said: str, capsys: Capture) -> None:
    assert main(["bench", *arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert not told.out


def test_a_cell_of_ones_own_may_not_hide_behind_the_name_of_another(mine: Path, capsys: Capture) -> None:
    assert main(["bench", "lstm", f"{mine}:lstm", *SMALL]) == 2
    assert "two of them have one name" in capsys.readouterr().err
