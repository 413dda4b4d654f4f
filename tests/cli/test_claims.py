"""One process writes into a run's folder at a time, and who may not is told so."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tests.support.processes import ENVIRONMENT, SMALL, give_up_powers, start, wait_for_steps
from tests.support.runs import make_text, silent, small, stopped_run
from unvanish.cli import main
from unvanish.errors import RunError
from unvanish.record import Claim
from unvanish.train import prepare, prepare_resume
from unvanish.train import run as runs


def test_two_runs_of_the_same_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
            return cls(2026, 11, 26, 1, 2, 3, tzinfo=tz)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.datetime, "datetime", Clock)
    made = [prepare(small(tmp_path)) for _ in range(3)]
    names = ["lstm-20261126-010203", "lstm-20261126-010203-2", "lstm-20261126-010203-3"]
    assert [training.folder for training in made] == [Path("runs") / name for name in names]
    for training in made:
        training.run(silent)


def test_a_folder_that_another_process_begins_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with Claim(tmp_path / "run"), pytest.raises(RunError, match=f"run is in use by process {os.getpid()}: wait"):
        prepare(small(tmp_path), tmp_path / "run")
    training = prepare(small(tmp_path), tmp_path / "run")
    with pytest.raises(RunError, match="is not empty"):
        prepare(small(tmp_path), tmp_path / "run")
    training.run(silent)
    assert not list((tmp_path / "run").rglob(".*"))


def test_what_a_run_that_never_began_left_is_taken_over(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in (".config.yaml.abc", ".lock", "records.jsonl"):
        (run / name).touch()
    prepare(small(tmp_path), run).run(silent)
    (run.parent / "other").mkdir()
    (run.parent / "other" / "records.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(RunError, match="is not empty"):
        prepare(small(tmp_path), run.parent / "other")


def test_a_second_resume_is_refused_with_the_number_of_the_first_which_a_kill_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(make_text(2700), encoding="utf-8")
    run = tmp_path / "run"
    with start("train", str(tmp_path / "text.txt"), *SMALL, "--epochs", "99", "--out", str(run)) as process:
        wait_for_steps(run, 5)
        assert main(["train", "--resume", str(run)]) == 2
        assert capsys.readouterr().err == (
            f"unvanish: {run} is in use by process {process.pid}: wait until it ends, or stop it first\n"
        )
        assert main(["train", str(tmp_path / "text.txt"), *SMALL, "--out", str(run)]) == 2
        process.send_signal(signal.SIGKILL)
    capsys.readouterr()
    prepare_resume(run, say=silent).claim.release()


# Every command imports what it needs in a block of its own; train and generate need the same.
IMPORTS = [("train", module) for module in ("torch.fx", "torch", "sympy.core", "lightning")]
IMPORTS += [(command, "torch") for command in ("generate", "diagnose", "env", "cells")]
ARGUMENTS: dict[str, list[str]] = {"env": [], "cells": ["lstm"]}


@pytest.mark.parametrize(("command", "module"), IMPORTS)
def test_ctrl_c_during_an_import_is_one_line(tmp_path: Path, command: str, module: str) -> None:
    """Python tells of every module that it has imported: the signal comes when the first inside one has been."""
    code = [sys.executable, "-X", "importtime", "-m", "unvanish", command, *ARGUMENTS.get(command, [str(tmp_path)])]
    with subprocess.Popen(code, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rpartition("|")[2].strip().startswith(module):
                process.send_signal(signal.SIGINT)
                break
        rest = [line for line in process.stderr if not line.startswith("import time:")]
    assert (process.returncode, rest) == (130, ["unvanish: interrupted\n"])


@pytest.mark.parametrize(
    ("locked", "arguments"),
    [
        ("run", ["train", "--resume", "run"]),
        ("run/config.yaml", ["generate", "run"]),
        ("run/checkpoints", ["generate", "run"]),
        ("run/records.jsonl", ["report", "run"]),
        ("run", ["report", "run"]),
        ("text.txt", ["train", "text.txt"]),
        (".", ["train", "text.txt", "--batch-size", "2", "--length", "9", "--hidden", "4"]),
        (".", ["train", "no-such.txt", "-o", "new/run"]),
        (".", ["diagnose", "no_such:made", "-o", "found.html"]),
        (".", ["compare", "run", "no-such", "-o", "compare.html"]),
        (".", ["predict", "run", "no-such.csv", "-o", "answers.csv"]),
        ("run", ["export", "run"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_permission_that_is_lacking_is_named(tmp_path: Path, locked: str, arguments: list[str]) -> None:
    """In a fork without root's powers: another user might not be able to read the packages that it must import."""
    run = stopped_run(tmp_path, engine="reference", layers=1)
    place, mode = tmp_path / locked, (tmp_path / locked).stat().st_mode
    place.chmod(0o555 if arguments[0] != "generate" and place.is_dir() else 0o000)
    said = tmp_path / "said"
    said.touch()
    before = sorted(run.rglob("*"))
    child = os.fork()
    if child == 0:
        status = 99
        try:
            give_up_powers()
            os.chdir(tmp_path)
            with said.open("w", encoding="utf-8") as sys.stderr:
                status = main(arguments)
        except BaseException:
            said.write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    place.chmod(mode)
    text = said.read_text(encoding="utf-8")
    assert os.waitstatus_to_exitcode(status) == 2, text
    assert "ermission denied" in text
    assert text.count("\n") == 1
    assert "start" not in text
    assert sorted(run.rglob("*")) == before
