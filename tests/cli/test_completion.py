"""A shell that asks gets commands, options and values; the values are those that the settings take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from unvanish import cells
from unvanish.cli import main
from unvanish.cli.app import app
from unvanish.data.looking import KINDS
from unvanish.engine import ENGINES
from unvanish.record import CONFIG, RECORDS
from unvanish.train.datasettings import CHOICES
from unvanish.train.settings import LOGGERS, OPTIMIZERS, PRECISIONS, SCHEDULES


def completed(line: str, folder: Path) -> list[str]:
    """What bash is told when Tab is pressed at the end of a line."""
    words = line.split(" ")
    asked = {
        "_UNVANISH_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    found = subprocess.run(
        [sys.executable, "-m", "unvanish"],
        env={**os.environ, **asked, "_UNVANISH_COMPLETE": "complete_bash"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not found.stderr
    return found.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, one of them under runs/, and a folder that is none."""
    for place in ("runs/lstm-1", "own", "runs/other"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("runs/lstm-1", "own"):
        (tmp_path / place / CONFIG).touch()
        (tmp_path / place / RECORDS).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unvanish tr", ["train"]),
        ("unvanish train --opt", ["--optimizer"]),
        ("unvanish train --optimizer a", ["adam", "adamw"]),
        ("unvanish train --cell peep", ["peephole_lstm"]),
        ("unvanish train --engine n", ["native"]),
        ("unvanish report ", ["own", "runs/lstm-1"]),
        ("unvanish train --resume ru", ["runs/lstm-1"]),
        ("unvanish export own --to ", ["onnx", "torch", "c"]),
        ("unvanish cells ind", ["indrnn"]),
    ],
)
def test_a_shell_completes(folder: Path, line: str, expected: list[str]) -> None:
    assert completed(line, folder) == expected


def test_values_are_those_that_the_settings_take() -> None:
    (command,) = (one for name, one in typer.main.get_command(app).commands.items() if name == "train")  # type: ignore[attr-defined]
    context = command.make_context("train", [], resilient_parsing=True)
    offered = {
        one.name: {item.value for item in one.shell_complete(context, "")}
        for one in command.params
        if one.shell_complete(context, "")
    }
    expected = {name: set(values) for name, values in CHOICES.items()} | {
        "kind": set(KINDS),
        "cell": set(cells),
        "optimizer": set(OPTIMIZERS),
        "schedule": set(SCHEDULES),
        "precision": set(PRECISIONS),
        "logger": set(LOGGERS),
        "engine": set(ENGINES),
    }
    assert {name: offered[name] for name in expected} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_the_shell_reads(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert f"_UNVANISH_COMPLETE=complete_{shell}" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
    assert main(["completion", "tcsh"]) == 2
