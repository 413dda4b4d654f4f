"""What all penalties ask of their weight."""

from __future__ import annotations

import math

from unvanish.checks import is_number
from unvanish.errors import OptionError


def check_weight(name: str, weight: object) -> float:
    """Refuse what is not a finite number from 0 on.

    >>> check_weight("Flossing", 2)
    2.0
    """
    if not is_number(weight) or not 0 <= weight < math.inf:
        raise OptionError(f"the weight of {name} is {weight!r}: give a number from 0 on")
    return float(weight)
