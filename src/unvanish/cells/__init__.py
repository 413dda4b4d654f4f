"""The catalogue: cells by name, found in the files of this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from unvanish.equations import Cell
from unvanish.errors import OptionError, nearest


def _discover() -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, Cell):
                if value.name in found:
                    raise OptionError(f"two cells are named '{value.name}': rename the one in {module.__name__}")
                found[value.name] = value
    return dict(sorted(found.items()))


CATALOGUE: Mapping[str, Cell] = MappingProxyType(_discover())


def find(name: str) -> Cell:
    """Return a cell of the catalogue by its name.

    >>> find("lstm").name
    'lstm'
    """
    if name not in CATALOGUE:
        raise OptionError(f"unknown cell '{name}': {nearest(name, CATALOGUE)}")
    return CATALOGUE[name]
