"""The command line: one thin file per command.

A fault that was foreseen shows as one line and ends with status 2; Ctrl-C ends with 130. With `--debug`
anywhere on the line the traceback is shown as well.
"""

from __future__ import annotations

import io
import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit status; this is the entry point of `unvanish`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no ≥ is no reason to end a training
    from unvanish.errors import UnvanishError

    try:
        return _run(given)
    except KeyboardInterrupt:
        if debug:
            raise
        return _fail("interrupted", 130)
    except UnvanishError as fault:
        if debug:
            raise
        return _fail(str(fault), 2)
    except BrokenPipeError:  # whoever read our output has gone away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as fault:
        if debug:
            raise
        where = f" ({fault.filename})" if fault.filename else ""
        return _fail(f"{fault.strerror or fault}{where}: make room or name another place with --out", 2)


def _run(arguments: list[str]) -> int:
    try:
        from unvanish.cli.app import run
    except ImportError as fault:
        if (fault.name or "").partition(".")[0] in ("typer", "rich", "lightning", "yaml", "plotly"):
            from unvanish.errors import MissingExtraError

            raise MissingExtraError(
                f"the command line needs {fault.name}: install it with  pip install 'unvanish[app]'"
            ) from fault
        raise
    return run(arguments)


def _fail(text: str, status: int) -> int:
    sys.stdout.flush()
    print("unvanish:", " ".join(text.split()), file=sys.stderr)  # noqa: T201
    return status
