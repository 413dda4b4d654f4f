"""A penalty from a word of the command line."""

from __future__ import annotations

import math
from collections.abc import Callable

from unvanish.errors import OptionError, nearest
from unvanish.remedies.penalty.flossing import Flossing
from unvanish.remedies.penalty.omega import Omega
from unvanish.remedies.penalty.orthogonality import Orthogonality
from unvanish.remedies.penalty.stabiliser import NormStabiliser

Penalty = Omega | Flossing | NormStabiliser | Orthogonality

WORDS: dict[str, Callable[[float], Penalty]] = {
    "omega": Omega,
    "omega-paper": lambda weight: Omega(weight, form="paper"),
    "orthogonal": Orthogonality,
    "stabilise": NormStabiliser,
    "flossing": Flossing,
}


def parse(text: str) -> Penalty | None:
    """Make a penalty from `word:weight`, or none from `none`.

    The words: omega, omega-paper, orthogonal, stabilise, flossing.

    Raises:
        OptionError: the word is unknown, or the weight is not one that its penalty can have.

    >>> found = parse("omega:2")
    >>> type(found).__name__, found.weight, parse("none")
    ('Omega', 2.0, None)
    """
    if text.strip() == "none":
        return None
    word, _, number = text.strip().partition(":")
    if word not in WORDS:
        raise OptionError(f"unknown penalty {word!r} in {text!r}: {nearest(word, [*WORDS, 'none'])}")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if math.isnan(weight):
        raise OptionError(f"the penalty {text!r} has no weight: write {word}:1, with a number after the colon")
    try:
        return WORDS[word](weight)
    except OptionError as error:
        raise OptionError(f"the penalty {text!r} cannot be made: {error}") from None
