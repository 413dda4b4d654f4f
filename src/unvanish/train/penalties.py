"""The penalties of a run: what is added beside the loss, or to the gradient after its backward pass.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unvanish.errors import OptionError, nearest
from unvanish.nn import Recurrent
from unvanish.remedies.penalty import Omega


def parse(word: str) -> Omega:
    """Make a penalty from `word:weight`."""
    kind, _, number = word.partition(":")
    if kind != "omega":
        raise OptionError(f"unknown penalty {kind!r} in {word!r}: {nearest(kind, ['omega'])}")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    return Omega(weight)


def check_penalties(words: Sequence[str]) -> None:
    """Refuse what is no penalty, and one kind twice.

    >>> check_penalties(["omega:2"])
    """
    kinds = [type(parse(word)) for word in words]
    for word, kind in zip(words, kinds, strict=True):
        if kinds.count(kind) > 1:
            raise OptionError(f"--penalty {word}: there are two of this kind, whose weights would add up; give one")


class Penalties:
    """What the penalties of a run are asked at every step.

    Attributes:
        found: of the last step, for every word that was asked for: `value`, before its weight; `weight`; `acted`,
            whether it changed the gradient; and of Omega `spread`, by part.
    """

    def __init__(self, words: Sequence[str], layer: Recurrent) -> None:
        self.made = {word: parse(word) for word in words}
        self.found: dict[str, dict[str, Any]] = {}
        for penalty in self.made.values():
            penalty.attach(layer)

    def after_backward(self) -> None:
        """Add the gradients of those that are worked out from the backward pass that has just run."""
        for word, penalty in self.made.items():
            record = penalty()
            self.found[word] = {
                "value": record.value,
                "weight": record.weight,
                "acted": record.added and record.weight > 0,
                "spread": {name.rpartition(".")[2]: spread for name, spread in record.spread.items()},
            }

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of those that have any, by word."""
        return {word: penalty.state_dict() for word, penalty in self.made.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for word, penalty in self.made.items():
            if word in state:
                penalty.load_state_dict(state[word])
