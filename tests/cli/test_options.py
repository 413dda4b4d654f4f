"""Every option with its default stays as it is, and every help ends with a line that works.

Where a change is meant:  make golden, and read what git diff shows.
"""

from __future__ import annotations

import difflib
import inspect
import shlex
from pathlib import Path
from typing import get_args

import pytest
import typer

from unvanish.cli.app import app

KEPT = Path(__file__).with_name("options.txt")
GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands  # type: ignore[attr-defined]
CALLBACKS = {command.name: command.callback for command in app.registered_commands}


def listed() -> str:
    """Every argument and option of every command: names, type, default."""
    lines = []
    for name, command in sorted(COMMANDS.items()):
        written = {one.name: [*one.opts, *one.secondary_opts] for one in command.params}
        for one in inspect.signature(CALLBACKS[name], eval_str=True).parameters.values():
            if one.name not in written:  # the context
                continue
            kind = get_args(one.annotation)[0]
            shown = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
            default = "required" if one.default is one.empty else f"default {str(one.default) or 'empty'}"
            lines.append(f"{name} {' '.join(written[one.name])}: {shown.replace('pathlib.', '')}, {default}\n")
    return "".join(lines)


def test_options_are_those_that_are_kept() -> None:
    kept = KEPT.read_text(encoding="utf-8").splitlines()
    changed = "\n".join(difflib.unified_diff(kept, listed().splitlines(), "kept", "now", n=0, lineterm=""))
    assert not changed, f"the options are others; where that is meant: make golden\n{changed}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_ends_with_an_example_that_the_command_takes(name: str) -> None:
    last = inspect.cleandoc(COMMANDS[name].callback.__doc__).splitlines()[-1]
    assert last.startswith(f"Example: unvanish {name}")
    program, command, *arguments = shlex.split(last.removeprefix("Example: "))
    assert (program, command) == ("unvanish", name)
    COMMANDS[name].make_context(name, arguments)


if __name__ == "__main__":
    KEPT.write_text(listed(), encoding="utf-8")
