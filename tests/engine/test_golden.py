"""The text of three kernels, as it was when somebody last read it. `make golden` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from unvanish.cells import find
from unvanish.engine import make_plan
from unvanish.engine.native.emit import emit
from unvanish.engine.native.lower import lower

KEPT = Path(__file__).parent / "golden"
NAMES = ["lstm", "gru", "clockwork_rnn"]


def text(name: str) -> str:
    return emit(lower(make_plan(find(name).system()), fold=False), double=False).text


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_the_one_that_was_read(name: str) -> None:
    assert text(name) == (KEPT / f"{name}.cpp").read_text(encoding="utf-8"), "if this is meant: make golden"


if __name__ == "__main__":
    for name in NAMES:
        (KEPT / f"{name}.cpp").write_text(text(name), encoding="utf-8")
