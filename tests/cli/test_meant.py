"""A misspelt option or command suggests the near one, by letters and by meaning."""

from __future__ import annotations

import pytest
import typer

from unvanish.cli import main
from unvanish.cli.app import app
from unvanish.cli.meant import COMMANDS, OPTIONS

OURS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GIVEN = {
    "train --learning-rate 0.1": "--lr?",
    "train --learning_rate=0.1": "--lr?",
    "train --learning-rte 0.1": "--lr?",
    "train -lr 0.1": "--lr?",
    "train --layers-count 3": "--layers?",
    "train --batchsize 3": "--batch-size?",
    "train --BATCH_SIZE 3": "--batch-size?",
    "train --units 3": "--hidden?",
    "train --hidden-size 3": "--hidden?",
    "train --seq-len 3": "--length?",
    "train --bptt 3": "--length?",
    "train --window 3": "--length or --windows?",
    "train --size 3": "--hidden or --batch-size?",
    "train --output here": "--out?",
    "export runs/a --output here": "--out?",
    "train --weight_decay 0.1": "--weight-decay?",
    "train --epohcs 3": "--epochs?",
    "train --data notes.txt": "SOURCE, without an option before it?",
    "generate --checkpoint runs/a": "RUN, without an option before it?",
    "fit notes.txt": "unvanish train?",
    "test runs/a": "unvanish evaluate?",
    "forecast runs/a": "unvanish predict?",
    "trian": "unvanish train?",
    "Diagnose": "unvanish diagnose?",
    "inspect runs/a": "unvanish diagnose or unvanish report?",
    "help": "unvanish --help?",
    "version": "unvanish --version?",
}


@pytest.mark.parametrize(("line", "near"), GIVEN.items(), ids=GIVEN)
def test_what_is_misspelt_suggests_what_was_meant(line: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"did you mean {near}" in err


@pytest.mark.parametrize("line", ["train --zzzz", "train -z", "zzzz"])
def test_what_is_near_to_nothing_names_the_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert "did you mean" not in err
    assert "zz" in err or "-z" in err
    assert "--help" in err


def test_synonyms_are_of_what_there_is_and_hide_nothing() -> None:
    parameters = [one for command in OURS.values() for one in command.params]
    names = {option.removeprefix("--") for one in parameters for option in one.opts}
    assert set(OPTIONS) <= names
    assert set(COMMANDS) - {"--help", "--version"} == set(OURS)
    for command in COMMANDS.values():
        assert not set(command.split()) & set(OURS)
