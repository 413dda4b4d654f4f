"""A run that is killed inside any operation on its files comes to the same end: the quick form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_inside_every_kind_of_operation_and_resumed_to_the_same_end() -> None:
    """In a process that trains nothing itself: it is forked, which one whose threads have run does not survive."""
    command = [sys.executable, "-m", "tests.train.storm", "--kills", "12"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "12 of 12 came to the same end" in found.stdout
