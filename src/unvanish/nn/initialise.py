"""Initialisers by name, by number or as a callable, for parameters found by name or pattern."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from unvanish.errors import OptionError, nearest

Initialiser = str | float | Callable[[Tensor], object]

INITIALISERS: dict[str, Callable[[Tensor], object]] = {
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
    "normal": lambda a: nn.init.normal_(a, std=0.01),
    "identity": nn.init.eye_,
    "orthogonal": nn.init.orthogonal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "he_uniform": nn.init.kaiming_uniform_,
    "he_normal": nn.init.kaiming_normal_,
}
_VECTORS_TOO = ("zeros", "ones", "normal")


def resolve(
    init: Initialiser | Mapping[str, Initialiser] | None, names: Iterable[str], matrices: Iterable[str]
) -> dict[str, Initialiser]:
    """Say which initialiser each parameter gets: one alone goes to every matrix, a mapping by pattern.

    Later patterns win. A pattern that meets no parameter is an error, never ignored.

    >>> resolve({"U_*": "orthogonal", "b_f": 1.0}, ["W_f", "U_f", "b_f"], ["W_f", "U_f"])
    {'U_f': 'orthogonal', 'b_f': 1.0}
    """
    names, chosen = list(names), {}
    if init is None:
        return {}
    if not isinstance(init, Mapping):
        return dict.fromkeys(matrices, _checked(init))
    for pattern, initialiser in init.items():
        met = fnmatch.filter(names, pattern)
        if not met:
            raise OptionError(f"init names '{pattern}', which is no parameter: {nearest(pattern, names)}")
        chosen.update(dict.fromkeys(met, _checked(initialiser)))
    return chosen


def _checked(initialiser: Initialiser) -> Initialiser:
    if isinstance(initialiser, str) and initialiser not in INITIALISERS:
        raise OptionError(f"unknown initialiser '{initialiser}': {nearest(initialiser, INITIALISERS)}")
    usable = isinstance(initialiser, str) or callable(initialiser)
    if isinstance(initialiser, int | float) and not isinstance(initialiser, bool):
        usable = math.isfinite(initialiser)
    if not usable:
        raise OptionError(f"{initialiser!r} is no initialiser: give a name, a finite number or a callable")
    return initialiser


@torch.no_grad()
def apply(initialiser: Initialiser, name: str, array: Tensor) -> None:
    """Fill one parameter in place."""
    if isinstance(initialiser, str):
        if array.dim() < 2 and initialiser not in _VECTORS_TOO:
            raise OptionError(f"'{initialiser}' is for matrices, {name} is a vector: give a number or 'zeros'")
        INITIALISERS[initialiser](array)
    elif isinstance(initialiser, int | float):
        array.fill_(initialiser)
    else:
        filled = initialiser(array)
        if isinstance(filled, Tensor) and filled is not array:
            array.copy_(filled)
