"""Every public room is there as an attribute and as a module, and is the same thing either way."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import unvanish

ROOMS = [name for name in unvanish.__all__ if isinstance(getattr(unvanish, name), ModuleType)]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_is_one_module_whichever_way_it_is_asked_for(name: str) -> None:
    assert importlib.import_module(f"unvanish.{name}") is getattr(unvanish, name)


def test_rooms_of_remedies_are_imported_before_anything_else_is() -> None:
    code = (
        "from unvanish.clip import ByNorm; import unvanish.pace, unvanish.penalty, unvanish.init\n"
        "import unvanish; from unvanish.remedies import clip, pace, penalty; from unvanish.nn import init\n"
        "assert unvanish.clip is clip and clip.ByNorm is ByNorm and unvanish.pace is pace\n"
        "assert unvanish.penalty is penalty and unvanish.init is init\n"
        "assert ByNorm.__module__.startswith('unvanish.remedies.clip')\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
