"""What `make test-full` runs whole and `make test` by a part that still covers every path that can differ."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

Anything = TypeVar("Anything")
WHOLE = os.environ.get("TESTS") == "whole"

# What a kernel can be asked for: gates side by side, a second stage, no recurrent matrix, a delay, the time and
# numbers per unit.
KINDS = ("lstm", "gru_reset_before", "indrnn", "skip_rnn", "clockwork_rnn")


def usual(part: Anything, whole: Anything) -> Anything:
    """Return the part, or under `make test-full` the whole."""
    return whole if WHOLE else part


def engine_of(cell: str) -> str:
    """The kernels for one cell of each kind, the reference for others: where each would need one kernel more."""
    return "native" if WHOLE or cell in KINDS else "reference"


# What takes long and seldom finds what the others do not.
whole_only = pytest.mark.skipif(not WHOLE, reason="make test-full runs it")
