"""The text of three kernels stays as it is, so that a change which should not alter it shows no difference.

Where it is meant to be another:  make golden, and read what git diff shows.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from unvanish import cells
from unvanish.engine import make_plan
from unvanish.engine.ir.lower import lower
from unvanish.engine.native.emit import emit

FOLDER = Path(__file__).with_name("golden")
NAMES = ("lstm", "gru_reset_before", "clockwork_rnn")


def emitted(name: str) -> str:
    """The text in single precision, for a wide input."""
    return emit(lower(make_plan(cells[name].system()), fold=False), double=False, vector=64).text


@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_the_one_that_is_kept(name: str) -> None:
    kept = (FOLDER / f"{name}.cpp").read_text(encoding="utf-8").splitlines()
    changed = "\n".join(difflib.unified_diff(kept, emitted(name).splitlines(), "kept", "now", n=1, lineterm=""))
    assert not changed, f"the kernel of {name} is another; where that is meant: make golden\n{changed}"


def test_all_that_is_kept_is_compared() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        (FOLDER / f"{name}.cpp").write_text(emitted(name), encoding="utf-8")
