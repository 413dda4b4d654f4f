"""A line on a terminal that says what is being done while somebody waits, and is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator

CLEARED = "\r\x1b[2K"


@contextlib.contextmanager
def shown(say: Callable[[str], None] | None) -> Iterator[Callable[[str], None]]:
    """Give what is told what is being done: `say`, or without one a passing line on the terminal.

    Where the error stream is no terminal nothing is written.

    >>> with shown(None) as say:  # a test has no terminal
    ...     say("measuring")
    """
    if say is not None:
        yield say
    elif not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
    else:
        try:
            yield _pass
        finally:
            sys.stderr.write(CLEARED)
            sys.stderr.flush()


def _pass(text: str) -> None:
    width = shutil.get_terminal_size().columns
    sys.stderr.write(f"{CLEARED}{text[: width - 1]}")
    sys.stderr.flush()
