"""Another process of a training that several share.

    python -m unvanish.train.follower RUN RANK WORLD PORT

It makes its network and its data of what the run's folder says, and writes nothing there.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch

from unvanish.train.loop import train_with
from unvanish.train.processes import READY
from unvanish.train.run import joining
from unvanish.train.sharing import Share


def follow(folder: Path, share: Share) -> None:
    """Be one of the other processes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process says when to stop
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(max(1, torch.get_num_threads() // share.world))
    session = dataclasses.replace(joining(folder), share=share)
    sys.stdout.buffer.write(READY + b"\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads on
    train_with(session)


if __name__ == "__main__":
    follow(Path(sys.argv[1]), Share(*map(int, sys.argv[2:])))
