"""Completion in a shell: `unvanish completion bash`, and the values that options complete to.

The shell asks by calling `unvanish` with `_UNVANISH_COMPLETE`, at every press of Tab: nothing here loads torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from unvanish.cells import CATALOGUE
from unvanish.errors import OptionError, nearest
from unvanish.record import RECORDS

ASKED = "_UNVANISH_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def words(*values: str) -> Callable[[str], list[str]]:
    """Return what completes to some values.

    >>> words("adam", "adamw", "sgd")("ada")
    ['adam', 'adamw']
    """
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


cells = words(*CATALOGUE)


def runs(incomplete: str) -> list[str]:
    """Return the folders of runs here, under runs/, and in the folder that is being written."""
    places = (Path(), Path("runs"), Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent)
    found = {str(path.parent) for place in places for path in place.glob(f"*/{RECORDS}")}
    return sorted(folder for folder in found if folder.startswith(incomplete))


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.", autocompletion=words(*SHELLS))],
) -> None:
    """Print what makes a shell complete commands, options and their values.

    In ~/.bashrc or ~/.zshrc (after compinit): eval "$(unvanish completion bash)", or zsh. In config.fish: unvanish
    completion fish | source.

    Example: unvanish completion bash
    """
    if shell not in SHELLS:
        raise OptionError(f"SHELL {shell} is not known: {nearest(shell, SHELLS)}")
    from unvanish.cli.app import app

    answer(app, f"source_{shell}")


def answer(app: typer.Typer, instruction: str) -> int:
    """Do what a shell asks for, `source_bash` or `complete_bash`, and return the exit status."""
    from typer.completion import get_completion_inspect_parameters, shell_complete

    get_completion_inspect_parameters()  # makes the shells known to typer
    return shell_complete(typer.main.get_command(app), {}, "unvanish", ASKED, instruction)


def asked() -> str:
    """Return what a shell asks for; empty where none does."""
    return os.environ.get(ASKED, "")
