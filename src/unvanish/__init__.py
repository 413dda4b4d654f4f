"""Recurrent networks that remember: any cell at full speed, and a measurement of how far its gradient reaches."""

from __future__ import annotations

# First, as it sees to a Ctrl-C while the rest is being imported.
from unvanish.cli import starting  # isort: split

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unvanish.public import *  # noqa: F403
else:  # at once: the room of this name would stand in its place
    from unvanish.cells import CATALOGUE as cells  # noqa: F401

__version__ = "0.2.0"
del starting


def __getattr__(name: str) -> type[Recurrent]:  # noqa: F405
    """Return a room, or a public name, which loads torch; a layer's name of before leads to it, with a warning."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'unvanish' has no attribute '{name}'")
    if importlib.util.find_spec(f"unvanish.{name}"):
        return importlib.import_module(f"unvanish.{name}")  # type: ignore[return-value]
    public = importlib.import_module("unvanish.public")
    if name == "__all__" or name in public.__all__:
        return getattr(public, name)  # type: ignore[no-any-return]
    from unvanish.nn.named import class_named

    return class_named(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("unvanish.public").__all__})
