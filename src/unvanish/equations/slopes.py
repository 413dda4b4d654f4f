"""The derivatives of the functions that equations may call, as they stand in `words`."""

from __future__ import annotations

import functools

from unvanish.equations.expression import Expr
from unvanish.equations.parse import parse
from unvanish.equations.words import WORDS


@functools.cache
def slopes(function: str) -> tuple[Expr, ...]:
    """Return the derivative of a function by each of its arguments, over `y`, `a` and `b` (see `Word`)."""
    return tuple(map(read, WORDS[function].slopes))


@functools.cache
def read(slope: str) -> Expr:
    """Read the text of a derivative, which may call functions that equations may not."""
    hidden = frozenset(name for name, word in WORDS.items() if word.arity == 1 and not word.spoken)
    return parse(f"slope = {slope}", hidden)[0].expression
