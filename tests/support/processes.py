"""Real processes of the command line, and a small training for them to run."""

from __future__ import annotations

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
