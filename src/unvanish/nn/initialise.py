"""Which parameter of a layer gets which initialiser: by word, number, callable, name or pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from unvanish.checks import is_number
from unvanish.equations.system import System
from unvanish.errors import OptionError, nearest
from unvanish.nn.init.arrays import ArrayInitialiser, constant
from unvanish.nn.init.timescales import Fillable, LayerInitialiser
from unvanish.nn.init.words import from_word

Initialiser = str | float | Callable[[Tensor], object] | ArrayInitialiser | LayerInitialiser
OneInit = Initialiser | Mapping[str, Initialiser]
Init = OneInit | Sequence[OneInit] | None

Known = ArrayInitialiser | LayerInitialiser | Callable[[Tensor], object]


def fill(layer: Fillable, of_cell: Mapping[str, Initialiser], init: Init) -> None:
    """Fill the parameters of a layer: with what its cell says of them, then with `init`.

    Args:
        layer: a `Recurrent`, with all parameters as torch fills them.
        of_cell: initialisers by name or pattern.
        init: an initialiser (a word, a number, a callable of the array, an object of `unvanish.init`), a mapping
            from names or patterns to initialisers, or several of these, the later over the earlier.

    An initialiser alone goes to every matrix; identity, sparse and radius, which are about recurrences, go to the
    recurrent matrices, and those of layers to what they find. A pattern meets parameters; the fixed numbers of the
    layer where it meets none.

    Raises:
        OptionError: an initialiser is unknown, means nothing for this cell, or a pattern meets nothing.

    >>> import unvanish
    >>> layer = unvanish.LSTM(2, 3)
    >>> fill(layer, {}, ["orthogonal", {"b_*": 0.0}, "forget:2"])
    >>> layer["b_f"].tolist(), layer["b_o"].tolist()
    ([2.0, 2.0, 2.0], [0.0, 0.0, 0.0])
    """
    _fill_once(layer, of_cell)
    several = init if isinstance(init, list | tuple) else () if init is None else (init,)
    for one in several:
        _fill_once(layer, cast(OneInit, one))


def _fill_once(layer: Fillable, init: OneInit) -> None:
    if isinstance(init, Mapping):
        names = [parameter.name for parameter in layer.system.parameters]
        for name, initialiser in resolve(init, names, layer.system.numbers).items():
            _fill_named(layer, name, initialiser)
        return
    initialiser = known(init)
    if isinstance(initialiser, LayerInitialiser):
        initialiser.fill(layer)
        return
    recurrent = isinstance(initialiser, ArrayInitialiser) and initialiser.recurrent
    matrices = _matrices(layer.system, recurrent)
    if not matrices:
        kind = "recurrent matrix" if recurrent else "matrix"
        raise OptionError(
            f"{layer.cell.name} has no {kind} for init={init!r}: name what it is for, init={{'…': {init!r}}}"
        )
    for name in matrices:
        _fill_named(layer, name, initialiser)


def _matrices(system: System, recurrent: bool) -> list[str]:
    matrices = [parameter for parameter in system.parameters if parameter.columns is not None]
    return [matrix.name for matrix in matrices if matrix.role == "recurrent" or not recurrent]


def _fill_named(layer: Fillable, name: str, initialiser: Known) -> None:
    """Fill one parameter or fixed number in every part of a layer."""
    if isinstance(initialiser, LayerInitialiser):
        initialiser.fill(layer, name)
        return
    number = name in layer.system.numbers
    if number and name in layer.options:
        raise OptionError(f"{name} was given to the layer, and init fills it: leave one of the two out")
    if isinstance(initialiser, ArrayInitialiser) and initialiser.whole and name in layer.cell.slower_to_faster:
        raise OptionError(
            f"{name} of {layer.cell.name} loses its entries from faster to slower units, and with them what "
            f"'{initialiser.word}' says of the whole matrix: name the others, {{'W_*': '{initialiser.word}'}}"
        )
    for part in layer.parts():
        apply(initialiser, name, part[name])


def resolve(init: Mapping[str, Initialiser], names: Iterable[str], numbers: Iterable[str] = ()) -> dict[str, Known]:
    """Say which initialiser each parameter gets, from a mapping by name or pattern.

    Later patterns win. A pattern that meets no parameter is looked for among the fixed `numbers`; one that meets
    nothing is an error, never ignored.

    >>> resolve({"U_*": "orthogonal", "b_f": 1.0}, ["W_f", "U_f", "b_f"])
    {'U_f': <initialiser orthogonal>, 'b_f': <initialiser 1>}
    """
    names, numbers, chosen = list(names), list(numbers), dict[str, Known]()
    for pattern, initialiser in init.items():
        met = fnmatch.filter(names, pattern) or fnmatch.filter(numbers, pattern)
        if not met:
            raise OptionError(
                f"init names '{pattern}', which is not a parameter: {nearest(pattern, [*names, *numbers])}"
            )
        chosen.update(dict.fromkeys(met, known(initialiser)))
    return chosen


def known(initialiser: object) -> Known:
    """Return what a word or a number stands for; refuse what is not an initialiser."""
    if isinstance(initialiser, ArrayInitialiser | LayerInitialiser):
        return initialiser
    if isinstance(initialiser, str):
        return from_word(initialiser)
    if is_number(initialiser):
        try:
            return constant(initialiser)
        except OptionError:
            pass
    if getattr(initialiser, "__module__", "").startswith("unvanish.nn.init"):  # chrono for chrono(50)
        name = getattr(initialiser, "__name__", "…")
        raise OptionError(f"{name} makes an initialiser and is none: write {name}(…), or the word '{name}:…'")
    if not callable(initialiser):
        raise OptionError(f"{initialiser!r} is not an initialiser: give a word, a finite number or a callable")
    return cast(Callable[[Tensor], object], initialiser)


@torch.no_grad()
def apply(initialiser: ArrayInitialiser | Callable[[Tensor], object], name: str, array: Tensor) -> None:
    """Fill one array in place; what is on the meta device has nothing to fill, and is checked alone."""
    if isinstance(initialiser, ArrayInitialiser):
        initialiser(array, name)
        return
    if array.is_meta:
        return
    filled = initialiser(array)
    if isinstance(filled, Tensor) and filled is not array:
        array.copy_(filled)
