"""A clip from a word of the command line."""

from __future__ import annotations

import math
from collections.abc import Callable

from unvanish.checks import reads_as_number
from unvanish.errors import OptionError, nearest
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.layer import PerLayer
from unvanish.remedies.clip.norm import ByNorm
from unvanish.remedies.clip.percentile import Percentile
from unvanish.remedies.clip.random import RandomStep
from unvanish.remedies.clip.step import PerStep
from unvanish.remedies.clip.unitwise import UnitWise
from unvanish.remedies.clip.value import ByValue
from unvanish.remedies.clip.zscore import ZScore

WORDS: dict[str, Callable[[float], Clip]] = {
    "norm": ByNorm,
    "value": ByValue,
    "layer": PerLayer,
    "unit": UnitWise,
    "percentile": Percentile,
    "zscore": ZScore,
    "step": PerStep,
    "step-norm": lambda threshold: PerStep(threshold, "norm"),
    "random": RandomStep,
}


def parse(text: str) -> Clip | None:
    """Make a clip from `word:number`, from a number alone (by norm), or from `none`.

    The words: norm, value, layer, unit, percentile, zscore, step (by value), step-norm, random.

    Raises:
        OptionError: the word is unknown, or the number is not one that its clip can have.

    >>> parse("norm:5"), parse("0.5"), parse("none")
    (ByNorm(5: 0 of 0 calls acted, 0 not finite), ByNorm(0.5: 0 of 0 calls acted, 0 not finite), None)
    """
    if text.strip() == "none":
        return None
    word, colon, number = text.strip().partition(":")
    if not colon and word not in WORDS:
        word, number = ("norm", word) if reads_as_number(word) else (word, number)
    if word not in WORDS:
        raise OptionError(f"unknown clip {word!r}: {nearest(word, [*WORDS, 'none'])}")
    threshold = float(number) if reads_as_number(number) else math.nan
    if math.isnan(threshold):
        said = f"{number!r} is not a number" if number else "it has no number"
        raise OptionError(f"the clip {text!r} is not understood, for {said}: write {word}:1, or none")
    try:
        return WORDS[word](threshold)
    except OptionError as error:
        raise OptionError(f"the clip {text!r} cannot be made: {error}") from None
