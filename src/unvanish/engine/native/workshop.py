"""A compiler's place of work: a temporary folder and a group of processes that end with this process.

However it ends: a signal that nothing handles (SIGTERM, SIGKILL) leaves Python no time to tidy up. So a shell waits
beside the compiler for its input to end, which the system sees to, and then removes the folder and ends the group.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from unvanish.engine.native.cache import opened

# Told that all is done it only ends the group. While something still writes to the folder `rm` may fail.
_WATCH = 'read -r done || for attempt in 1 2 3 4 5; do rm -rf "$0" && break; done; kill -KILL 0'


class BuildError(Exception):
    """No library could be made; the message says why and what would help."""


class Group(NamedTuple):
    """Processes that end together, and the folder for their temporary files, if they have one."""

    number: int
    folder: Path | None

    def run(self, command: list[str], seconds: float) -> str:
        """Run a program of the group and return what it says, both streams in one.

        Raises:
            BuildError: it cannot be run, fails, or takes more than so many seconds.
        """
        return self.run_all([command], seconds)[0]

    def run_all(self, commands: Sequence[list[str]], seconds: float) -> list[str]:
        """Run programs side by side and return what each says; where one fails, the others are ended.

        Raises:
            BuildError: one cannot be run, fails, or they take more than so many seconds.
        """
        until = time.monotonic() + seconds
        with contextlib.ExitStack() as end:
            started = [(command, end.enter_context(self._started(command))) for command in commands]
            return [_said(command, process, until, seconds) for command, process in started]

    @contextlib.contextmanager
    def _started(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        names = () if self.folder is None else ("TMPDIR", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
        place = dict.fromkeys(names, str(self.folder))
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=self.number,
                umask=0o077,
                env={**os.environ, "LC_ALL": "C", **place},
            )
        except OSError as fault:
            raise BuildError(f"{command[0]} cannot be run ({fault.strerror}); set CXX to another") from fault
        with process:
            try:
                yield process
            finally:
                process.kill()
                process.wait()  # after Ctrl-C nobody else does


def _said(command: list[str], process: subprocess.Popen[bytes], until: float, seconds: float) -> str:
    """Wait for the end of a program and return what it said."""
    try:
        said = process.communicate(timeout=max(0.0, until - time.monotonic()))[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} had not ended after {seconds:g} s; set CXX to another") from None
    if process.returncode != 0:
        raise BuildError(f"{command[0]} failed: {_reason(said, process.returncode)}; set CXX to another")
    return said


def _reason(said: str, status: int) -> str:
    """The line of a compiler's words that says what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line or "cannot" in line or "No space" in line]
    return next(iter(telling + lines), f"it said nothing and returned {status}")[:300]


@contextlib.contextmanager
def group(folder: Path | None = None) -> Iterator[Group]:
    """A group of processes that ends with this block, or with this process, and then with its folder.

    Raises:
        OSError: there is no shell.
    """
    with subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "" if folder is None else str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as shell:
        try:
            yield Group(shell.pid, folder)
        finally:
            shell.communicate(b"done\n")


@contextlib.contextmanager
def workshop() -> Iterator[tuple[Group, int]]:
    """A temporary folder that nobody else can write to, opened, and a group to work in it.

    Raises:
        OSError: there can be none.
    """
    with (
        tempfile.TemporaryDirectory(prefix="unvanish-", ignore_cleanup_errors=True) as name,
        opened(Path(name), "TMPDIR") as folder,
        group(Path(name)) as found,
    ):
        yield found, folder
