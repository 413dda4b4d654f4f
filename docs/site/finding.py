"""The first page of the reference: every name, cell, word of a remedy, cause and task, and where each is told."""

from __future__ import annotations

import importlib
import types

from rooms import ROOMS, names_of, place_of

import unvanish
from unvanish.diagnosis import CAUSES, VERDICTS
from unvanish.nn.connect import CONNECTIONS
from unvanish.nn.constrain import CONSTRAINTS
from unvanish.nn.init.words import WORDS as INITIALISERS
from unvanish.nn.named import class_name
from unvanish.remedies.clip.parse import WORDS as CLIPS
from unvanish.remedies.penalty.parse import WORDS as PENALTIES

# Kind: its words, the section of the page on remedies.
REMEDIES = {
    "Initialisers": ([*INITIALISERS], "initialisers"),
    "Clips": ([*CLIPS, "none"], "clipping"),
    "Penalties": ([*PENALTIES, "none"], "penalties"),
    "Connections between layers": ([*CONNECTIONS], "connections"),
    "Connections through time": (["skips"], "connections"),
    "Normalisation": (["layer_norm", "batch_norm"], "normalisation"),
    "Constraints": ([*CONSTRAINTS], "constraints"),
    "Noise": (["recurrent_dropout", "zoneout", "weight_drop", "dropout"], "dropout-and-zoneout"),
    "Update rates": (["Pace"], "update-rates"),
    "Other cells": ([name for name in unvanish.cells if name != "rnn"], "cells-that-are-remedies"),
}


def finding_page() -> str:
    """Return the page."""
    classes = {class_name(unvanish.cells[name]): f"cells/{name}.md" for name in unvanish.cells}
    rooms = [f"| [`{room}`]({room}.md) | {_names(room, classes)} |" for room in ROOMS]
    remedies = [
        f"| [{kind}](../remedies.md#{heading}) | {_code(words)} |" for kind, (words, heading) in REMEDIES.items()
    ]
    tasks = [f"| [`{name}`]({_led('unvanish.tasks', name)}) | {_first_line(name)} |" for name in _tasks()]
    return "\n".join(
        [
            "# Reference",
            "",
            "Everything that has a name, and where it is described. How a cell is written: "
            "[the language of equations](../equations.md). The command line: [commands](../commands.md), and",
            "`--help` behind each of them.",
            "",
            "## Public names",
            "",
            "| module | names |",
            "|---|---|",
            *rooms,
            "",
            "## Cells",
            "",
            "[The catalogue](cells.md) compares them. Each has a page with its equations, numbers and source:",
            ", ".join(f"[{layer}]({place})" for layer, place in classes.items()) + ".",
            "",
            "## Remedies",
            "",
            "What each does to the gradient, when to take it, what it costs: [remedies](../remedies.md).",
            "",
            "| kind | words |",
            "|---|---|",
            *remedies,
            "",
            "## Causes",
            "",
            f"A diagnosis says {_code(VERDICTS)}, and names every cause that it finds, "
            "[in this order](../diagnosis.md#the-causes):",
            f"{_code(CAUSES)}.",
            "",
            "## Tasks",
            "",
            "| task | what it asks |",
            "|---|---|",
            *tasks,
        ]
    )


def _code(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _led(room: str, name: str) -> str | None:
    """Where a name of a room is described, seen from this page."""
    found = getattr(importlib.import_module("unvanish.public" if room == "unvanish" else room), name)
    if isinstance(found, types.ModuleType):
        return f"unvanish.{name}.md"
    where = place_of(found)
    return None if where is None else f"{room}.md#{where}"


def _names(room: str, classes: dict[str, str]) -> str:
    places = {name: classes.get(name) or _led(room, name) for name in names_of(room)}
    places |= {"cells": "cells.md"} if room == "unvanish" else {}
    return ", ".join(f"[`{name}`]({place})" if place else f"`{name}`" for name, place in places.items())


def _tasks() -> list[str]:
    found = unvanish.tasks
    return [name for name in found.__all__ if hasattr(getattr(found, name), "chance")]


def _first_line(name: str) -> str:
    return str(getattr(unvanish.tasks, name).__doc__).strip().partition("\n")[0]
