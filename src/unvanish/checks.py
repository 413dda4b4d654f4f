"""Checks of arguments: each returns the value as a plain one, or raises OptionError with its name and what to give.

Numbers of NumPy are numbers here; True and False are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeGuard

from unvanish.errors import OptionError


def is_whole(value: object) -> TypeGuard[int]:
    """Say whether a value is an integer.

    >>> is_whole(3), is_whole(True), is_whole(3.0)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a value is a real number, be it NaN or infinite.

    >>> is_number(3), is_number(math.nan), is_number(True), is_number("3")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def reads_as_number(text: str) -> bool:
    """Say whether a text is a number as Python writes one.

    >>> reads_as_number("1e3"), reads_as_number(" nan "), reads_as_number("1,5"), reads_as_number("")
    (True, True, False, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def flag(value: object, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise _refused(value, name, "True or False")
    return value


def whole_number(value: object, name: str, *, at_least: int = 1, at_most: float = math.inf, give: str = "") -> int:
    """Return an integer in a range; `give` is what the message says to give instead of a wrong value."""
    if not is_whole(value) or not at_least <= value <= at_most:
        raise _refused(value, name, give or f"a whole number from {at_least} on")
    return int(value)


def words(value: object, name: str) -> tuple[str, ...]:
    """Return a list of words as a tuple; one word alone is refused, being a sequence of characters.

    >>> words(["a", "bc"], "target")
    ('a', 'bc')
    """
    if isinstance(value, str):
        raise OptionError(f"{name} is {value!r}, and a list of words is wanted: give [{value!r}]")
    if not isinstance(value, Iterable):
        raise _refused(value, name, "a list of words")
    found = tuple(value)
    for one in found:
        if not isinstance(one, str):
            raise OptionError(f"{name} holds {one!r}, and words are wanted: give {str(one)!r}")
    return found


def finite(value: object, name: str) -> float:
    """Return a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise _refused(value, name, "a finite number")
    return float(value)


def positive(value: object, name: str, *, below: float = math.inf) -> float:
    """Return a finite number above 0, and below a bound where there is one."""
    if not is_number(value) or not 0 < value < below:
        raise _refused(value, name, "a positive number" + ("" if below == math.inf else f" below {below:g}"))
    return float(value)


def share(value: object, name: str) -> float:
    """Return a probability of less than 1: at 1 nothing would be left."""
    if not is_number(value) or not 0 <= value < 1:
        raise _refused(value, name, "a probability from 0 on that is less than 1")
    return float(value)


def _refused(value: Any, name: str, give: str) -> OptionError:
    return OptionError(f"{name} is {value!r}: give {give}")
