"""A page for each room of public names, of their docstrings."""

from __future__ import annotations

import importlib
import types
from typing import Any

ROOMS = {
    "unvanish": "Layers, cells, the diagnosis",
    "unvanish.flow": "Measurements",
    "unvanish.diagnosis": "What a diagnosis returns",
    "unvanish.clip": "Clipping",
    "unvanish.penalty": "Penalties",
    "unvanish.init": "Initialisers",
    "unvanish.pace": "Update rates",
    "unvanish.tasks": "Tasks",
    "unvanish.export": "Export",
    "unvanish.record": "The record of a run",
    "unvanish.train": "Training in programs",
    "unvanish.estimators": "Estimators for scikit-learn",
    "unvanish.hugging_face": "Hugging Face",
    "unvanish.errors": "Errors",
}


def room_page(room: str) -> str:
    """Return the page of a room: what it is for, and every public name."""
    place = importlib.import_module("unvanish.public") if room == "unvanish" else _room(room)
    parts = [f"# {ROOMS[room]}: `{room}`\n"]
    if room != "unvanish" and place.__doc__:
        parts.append(place.__doc__.strip() + "\n")
    for name in names_of(room):
        found = getattr(place, name)
        where = place_of(found)
        if where is not None:
            parts.append(f'::: {where}\n    options:\n      heading: "{room}.{name}"\n      toc_label: {name}\n')
    return "\n".join(parts)


def _room(room: str) -> types.ModuleType:
    unvanish = importlib.import_module("unvanish")
    found = unvanish
    for name in room.split(".")[1:]:
        found = getattr(found, name)
    return found


def names_of(room: str) -> list[str]:
    """Return the public names of a room; what stands in `unvanish` itself has its place there."""
    public = importlib.import_module("unvanish.public")
    place = public if room == "unvanish" else _room(room)
    found = getattr(place, "__all__", None)
    names = found if found is not None else [name for name in vars(place) if _own(place, name)]
    return sorted(name for name in names if room == "unvanish" or name not in public.__all__)


def _own(place: types.ModuleType, name: str) -> bool:
    return not name.startswith("_") and getattr(getattr(place, name), "__module__", None) == place.__name__


def place_of(found: Any) -> str | None:
    """Where a name is written: rooms, and classes that are made of cells, have pages of their own."""
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if isinstance(found, types.ModuleType) or not module or not name or module == "unvanish.nn.named":
        return None
    source = importlib.import_module(module)
    return f"{module}.{name}" if getattr(source, name.split(".")[0], None) is not None else None
