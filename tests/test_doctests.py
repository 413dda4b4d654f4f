"""The examples in the docstrings run and give what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import unvanish

MODULES = [
    info.name
    for info in pkgutil.walk_packages(unvanish.__path__, "unvanish.")
    if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_module(name: str) -> None:
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    extra = {"torch": importlib.import_module("torch")}
    assert doctest.testmod(module, extraglobs=extra, optionflags=flags).failed == 0
