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

    The words: omega, omega-paper, orthogonal, stabilise, flossing. `flossing:1:8` says how many exponents, too.

    Raises:
        OptionError: the word is unknown, or the weight is not one that its penalty can have.

    >>> found = parse("omega:2")
    >>> type(found).__name__, found.weight, parse("none")
    ('Omega', 2.0, None)
    >>> parse("flossing:1:8").count
    8
    """
    if text.strip() == "none":
        return None
    word, *numbers = text.strip().split(":")
    if word not in WORDS:
        raise OptionError(f"unknown penalty {word!r} in {text!r}: {nearest(word, [*WORDS, 'none'])}")
    try:
        weight = float(numbers[0]) if numbers else math.nan
        counts = [int(number) for number in numbers[1:]]
    except ValueError:
        weight, counts = math.nan, []
    if math.isnan(weight) or len(counts) > (word == "flossing"):
        shown = "flossing:1, or flossing:1:8 for the 8 largest exponents" if word == "flossing" else f"{word}:1"
        raise OptionError(f"the penalty {text!r} has no weight, or too many numbers: write {shown}")
    try:
        return Flossing(weight, *counts) if word == "flossing" else WORDS[word](weight)
    except OptionError as error:
        raise OptionError(f"the penalty {text!r} cannot be made: {error}") from None
