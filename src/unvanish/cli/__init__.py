"""The command line: one thin file per command.

A fault that was foreseen shows as one line and ends with status 2; Ctrl-C ends with 130. With `--debug`
anywhere on the line the traceback is shown before that line, and the status is the same.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from unvanish.cli.starting import at_once

_OURS = __file__.removesuffix(os.path.join("cli", "__init__.py"))  # noqa: PTH118  (pathlib takes time to import)
_EXTRAS = ("typer", "rich", "lightning", "yaml", "pydantic", "pydantic_core")
# What to do about a fault of the system.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit status; this is the entry point of `unvanish`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no ≥ is no reason to end a training
    from unvanish.errors import UnvanishError

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _in_a_line()
            return _run(given)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except UnvanishError as fault:
        return _fail(str(fault), 2, debug)
    except BrokenPipeError:  # whoever read our output has gone away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as fault:
        return _fail(_system_fault(fault), 2, debug)


def _in_a_line() -> Callable[..., None]:
    """What shows a warning: one of ours as a line, once, without the place in the code; others as Python does."""
    as_usual, told = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        from unvanish.errors import printable

        if not filename.startswith(_OURS):
            as_usual(message, category, filename, *rest, **more)
        elif str(message) not in told:
            told.add(str(message))
            print("unvanish:", printable(" ".join(str(message).split())), file=sys.stderr)  # noqa: T201

    return show


def _run(arguments: list[str]) -> int:
    try:
        with at_once():
            from unvanish.cli.app import run
    except ImportError as fault:
        if (fault.name or "").partition(".")[0] in _EXTRAS:
            from unvanish.errors import MissingExtraError

            raise MissingExtraError(
                f"the command line needs {fault.name}: install it with  pip install 'unvanish[app]'"
            ) from fault
        raise
    return run(arguments)


def _system_fault(fault: OSError) -> str:
    where = f" ({os.fsdecode(fault.filename)})" if isinstance(fault.filename, str | bytes) else ""
    if fault.errno in _FORBIDDEN:
        advice = "this user may not; change the permissions, or name another place with --out"
    elif fault.errno in _FULL:
        advice = "make room or name another place with --out"
    else:
        advice = "mend it or name another place with --out"
    return f"{fault.strerror or fault}{where}: {advice}"


def _fail(text: str, status: int, debug: bool) -> int:
    """Show a fault, the one that is being handled, and return the status."""
    from unvanish.errors import printable

    sys.stdout.flush()
    if debug:
        import traceback

        sys.stderr.write(printable(traceback.format_exc()))
    print("unvanish:", printable(" ".join(text.split())), file=sys.stderr)  # noqa: T201
    return status
