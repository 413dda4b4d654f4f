"""What `make test-full` runs whole and `make test` by a part that still covers every path that can differ."""

from __future__ import annotations

import os
from typing import TypeVar

Anything = TypeVar("Anything")
WHOLE = os.environ.get("TESTS") == "whole"


def usual(part: Anything, whole: Anything) -> Anything:
    """Return the part, or under `make test-full` the whole."""
    return whole if WHOLE else part
