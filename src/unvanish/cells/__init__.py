"""The catalogue: cells by name, found in the files of this folder."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator, Mapping

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


OLD_NAMES = {"gru_reset_after": "gru"}


class Catalogue(Mapping[str, Cell]):
    """Cells by name; a name of before leads to the cell too, with a warning, for one version."""

    def __init__(self, found: Mapping[str, Cell]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> Cell:
        if name in OLD_NAMES:
            warnings.warn(f"the cell '{name}' is named '{OLD_NAMES[name]}' now", FutureWarning, stacklevel=2)
            name = OLD_NAMES[name]
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


CATALOGUE = Catalogue(_discover())


def find(name: str) -> Cell:
    """Return a cell of the catalogue by its name.

    >>> find("lstm").name
    'lstm'
    """
    if name not in CATALOGUE:
        raise OptionError(f"unknown cell '{name}': {nearest(name, CATALOGUE)}")
    return CATALOGUE[name]
