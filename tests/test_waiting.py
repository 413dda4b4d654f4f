"""Whoever waits at a terminal sees what is being done; whoever reads a pipe sees nothing of it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CODE = {
    "dependency": "import numpy, unvanish; unvanish.flow.dependency(numpy.random.default_rng(0).normal(size=3000))",
    "diagnose": """
import torch, unvanish
model = torch.nn.Sequential(torch.nn.RNN(1, 4))
unvanish.diagnose(model, torch.randn(20, 2, 1), lambda y: y[0].square().mean(), prescriptions=False)
""",
}
SHOWN = {"dependency": "comparing steps pair by pair, up to 300 apart", "diagnose": "finding the recurrences"}


def on_a_terminal(command: list[str], folder: Path | None = None) -> str:
    """Run a command whose error stream is a terminal, and return what is written there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=env, cwd=folder):
        os.close(theirs)
        written = b""
        while block := _read(ours):
            written += block
    os.close(ours)
    return written.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize("name", CODE)
def test_what_is_being_done_passes_by_on_a_terminal_and_nowhere_else(name: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CODE[name]]
    written = on_a_terminal(command)
    assert SHOWN[name] in written
    assert written.endswith("\r\x1b[2K")
    assert "\n" not in written
    assert subprocess.run(command, capture_output=True, check=True, text=True).stderr == ""


def test_whoever_listens_is_told_and_json_on_a_terminal_is_alone(tmp_path: Path) -> None:
    import numpy as np

    from unvanish import flow

    told: list[str] = []
    say: Callable[[str], None] = told.append
    flow.dependency(np.random.default_rng(0).normal(size=3000), say=say)
    assert told == [SHOWN["dependency"], "measuring how much context predicts as well as any"]
    (tmp_path / "case.py").write_text(
        "import torch\n"
        "def make(): return torch.nn.RNN(1, 4), torch.randn(9, 2, 1), lambda y: y[0].square().mean()\n"
    )
    command = [sys.executable, "-W", "ignore", "-m", "unvanish", "diagnose", "case:make"]
    assert SHOWN["diagnose"] in on_a_terminal([*command, "--no-prescriptions"], tmp_path)
    assert on_a_terminal([*command, "--no-prescriptions", "--json"], tmp_path) == ""
