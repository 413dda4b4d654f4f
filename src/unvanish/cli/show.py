"""What the commands share: the consoles, and options given as NAME=VALUE."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console

from unvanish.errors import OptionError, printable

# Where nobody looks at a terminal, a table keeps its full width for whoever reads the text: no path is broken.
UNBOUNDED, NARROW = 10_000, 100
console = Console(
    highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBOUNDED
)

progress = Console(stderr=True, highlight=False, markup=False, emoji=False)  # what passes, beside what is piped on


@contextlib.contextmanager
def doing(as_json: bool) -> Iterator[Callable[[str], None]]:
    """Lend what shows what is being done: on a terminal only, and to no machine."""
    if as_json:
        yield lambda _: None
    else:
        with progress.status("") as status:
            yield status.update


def is_narrow() -> bool:
    """Return whether the terminal has no room for a column of sentences beside the others."""
    return console.width < NARROW


def plain(text: str) -> None:
    """Print a line, at once: somebody may be waiting at a pipe. What a terminal would act on is shown escaped."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def document(found: Any) -> None:
    """Print one JSON document on one line, in ASCII: for machines, whatever the terminal's encoding."""
    plain(json.dumps(found, allow_nan=False))


def written(text: str) -> None:
    """Print what a network wrote: to a file or a pipe as it is, every character of it; to a terminal as `plain`."""
    going_on(f"{text}\n")


def going_on(text: str) -> None:
    """Print a part of what a network writes, at once, as `written` prints the whole."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line on the error stream, as `plain`: what came out otherwise than expected, but is not a fault."""
    sys.stderr.write(f"unvanish: {printable(text)}\n")


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Read `d=9`, `alpha=0.9`, `period=1,2,4`, `nonlinearity=relu` as options of a cell.

    >>> parse_settings(["d=9", "alpha=0.9", "period=1,2,4", "nonlinearity=relu"])
    {'d': 9, 'alpha': 0.9, 'period': [1, 2, 4], 'nonlinearity': 'relu'}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise OptionError(f"--set {pair} is not understood: write NAME=VALUE, for instance --set d=9")
        found[name] = [_value(part) for part in value.split(",")] if "," in value else _value(value)
    return found


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
