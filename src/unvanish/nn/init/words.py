"""Initialisers by word: a name, with its numbers after colons (`orthogonal`, `sparse:15:1.1`, `chrono:784`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from unvanish.errors import OptionError, nearest
from unvanish.nn.init.arrays import (
    ArrayInitialiser,
    constant,
    depth,
    he,
    identity,
    orthogonal,
    radius,
    scaled,
    sparse,
    uniform,
    xavier,
)
from unvanish.nn.init.timescales import LayerInitialiser, chrono, forget_bias, leaks

Maker = Callable[..., ArrayInitialiser | LayerInitialiser]

# What stands after the colons are the arguments that can be given by place.
WORDS: dict[str, Maker] = {
    "zeros": lambda: constant(0.0),
    "ones": lambda: constant(1.0),
    "normal": scaled,
    "scaled": scaled,
    "uniform": uniform,
    "xavier": xavier,
    "xavier_uniform": xavier,
    "xavier_normal": lambda gain=1.0: xavier(gain, normal=True),
    "he": he,
    "he_uniform": he,
    "he_normal": lambda: he(normal=True),
    "orthogonal": orthogonal,
    "identity": identity,
    "sparse": sparse,
    "radius": radius,
    "depth": depth,
    "forget": forget_bias,
    "chrono": chrono,
    "leaks": leaks,
}


def from_word(word: str) -> ArrayInitialiser | LayerInitialiser:
    """Return the initialiser that a word, or a number as a text, stands for.

    >>> from_word("orthogonal:1.5"), from_word("0.25")
    (<initialiser orthogonal:1.5>, <initialiser 0.25>)

    Raises:
        OptionError: the word is unknown, or its numbers are none that it takes.
    """
    name, *texts = word.split(":")
    if name not in WORDS and not texts:
        try:
            return constant(float(word))
        except ValueError:
            pass
    if name not in WORDS:
        raise OptionError(f"unknown initialiser '{name}': {nearest(name, WORDS)}")
    arguments = [p for p in inspect.signature(WORDS[name]).parameters.values() if p.kind != p.KEYWORD_ONLY]
    needed = [p.name for p in arguments if p.default is p.empty]
    shown = ":".join([name, *(p.name for p in arguments)])
    if not len(needed) <= len(texts) <= len(arguments):
        raise OptionError(
            f"'{word}' has {len(texts)} numbers after its name: write '{shown}'"
            + (f", of which {len(arguments) - len(needed)} may be left out" if len(needed) < len(arguments) else "")
        )
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise OptionError(f"'{word}' wants plain numbers after the colons: write '{shown}'") from None
    return WORDS[name](*numbers)
