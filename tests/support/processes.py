"""Real processes of the command line, and a small training for them to run."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from unvanish.record import RECORDS

SMALL = [
    "--hidden",
    "8",
    "--length",
    "12",
    "--batch-size",
    "4",
    "--dropout",
    "0.3",
    "--probes",
    "2",
    "--device",
    "cpu",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Start `python -m unvanish` with its output in pipes."""
    options: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": ENVIRONMENT,
        "text": True,
    }
    return subprocess.Popen([sys.executable, "-m", "unvanish", *arguments], **{**options, **more})


def wait_for_steps(run: Path, count: int) -> None:
    """Wait until a run has written down so many steps."""
    records, until = run / RECORDS, time.monotonic() + 600
    while not records.is_file() or records.read_bytes().count(b'"kind": "step"') < count:
        assert time.monotonic() < until, "the run does not get on"
        time.sleep(0.001)


def give_up_powers() -> None:
    """Let this process be bound by the permissions of files, as one that is not root's: Linux, for good in a fork.

    Root reads and writes what nobody may by two of its capabilities; without them it is an owner like others.
    """
    version_and_process = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 of them
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(version_and_process, nothing) != 0:
        raise OSError(ctypes.get_errno(), "the capabilities of root could not be given up")
