"""Ctrl-C while torch, Lightning and the rest are being imported: one line and the status of a Ctrl-C.

In those seconds nothing is kept yet, so the process ends at once: an exception would come out of the middle of some
library's import, which shows a traceback or turns it into another fault. The package imports this module before
torch, and it does nothing unless the process was started as the command line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any


def is_command() -> bool:
    """Return whether this process was started as `unvanish` or `python -m unvanish`."""
    started = sys.argv[0] if sys.argv else ""
    if started == "-m":  # as it stands while Python is looking for the module's package
        return "unvanish" in sys.orig_argv
    return PurePath(started).stem == "unvanish"


def _end(number: int, frame: Any) -> None:
    os.write(2, b"unvanish: interrupted\n")
    os._exit(128 + number)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Let Ctrl-C end the process at once inside the block, unless somebody else handles it."""
    begin()
    try:
        yield
    finally:
        finish()


def begin() -> None:
    """Let Ctrl-C end the process at once from here on."""
    with contextlib.suppress(ValueError):  # not the main thread: signals belong to somebody else
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)


def finish() -> None:
    """Let Ctrl-C be an exception again."""
    with contextlib.suppress(ValueError):
        if signal.getsignal(signal.SIGINT) is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)


if is_command():
    begin()
