"""The other processes of a training: started, and told of where one is lost."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from unvanish.errors import RunError
from unvanish.train.checkpoint import Checkpoints
from unvanish.train.sharing import Share

FOLLOWER, READY = "unvanish.train.follower", b"ready"
NOTICED = 5.0  # seconds within which a process whose connection is lost has ended
PATIENCE = 30.0  # seconds that the others may take to end when the first has ended


class Others:
    """The other processes of a training."""

    def __init__(self, folder: Path, share: Share) -> None:
        self.folder, self.world = folder, share.world
        self._told: list[IO[bytes]] = []
        self._started: list[subprocess.Popen[bytes]] = []
        for rank in range(1, share.world):
            told = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
            command = [sys.executable, "-m", FOLLOWER, str(folder), str(rank), str(share.world), str(share.port)]
            self._told.append(told)
            # In a group of their own: a terminal's Ctrl-C is for the first process, which tells them.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, process_group=0
            )
            self._started.append(process)

    def wait(self) -> None:
        """Wait until all have read the run: whoever then meets the others does not wait for one that is not there.

        Raises:
            RuntimeError: one of them ended before.
        """
        for process in self._started:
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY:
                raise RuntimeError("one of the processes did not start")

    def lost(self) -> str:
        """Say which process has ended before its time, and how; empty where none has."""
        for rank, (process, told) in enumerate(zip(self._started, self._told, strict=True), 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(NOTICED)
                if status:
                    told.seek(0)
                    lines = told.read().decode(errors="replace").strip().splitlines()
                    how = signal.Signals(-status).name if status < 0 else (lines or [f"status {status}"])[-1]
                    return f"process {rank + 1} of {self.world} ended ({how})"
        return ""

    def end(self, *, kill: bool) -> None:
        """Wait until all have ended."""
        for process, told in zip(self._started, self._told, strict=True):
            try:
                if kill:
                    process.kill()
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            told.close()
            assert process.stdout is not None
            process.stdout.close()


@contextlib.contextmanager
def others(folder: Path, share: Share) -> Iterator[None]:
    """Have the other processes run as long as the block does.

    Raises:
        RunError: one of them ended before its time.
    """
    if share.world == 1 or not share.leads:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // share.world))
    found = Others(folder, share)
    try:
        found.wait()
        yield
    except Exception as fault:
        lost = found.lost() if isinstance(fault, RuntimeError) else ""
        found.end(kill=True)
        if not lost:
            raise
        raise RunError(
            f"{lost}, and the training cannot go on without it; {_left(folder)} with "
            f"unvanish train --resume {folder}"
        ) from fault
    except BaseException:
        found.end(kill=True)
        raise
    finally:
        torch.set_num_threads(threads)
    found.end(kill=False)


def _left(folder: Path) -> str:
    """What there is to go on from."""
    if Checkpoints(folder).found():
        return "the last good checkpoint is kept: go on from it"
    return "no checkpoint had been written yet: start over"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
