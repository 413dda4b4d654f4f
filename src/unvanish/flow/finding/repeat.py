"""The repeat in a row of calls, told by numbers that are the same wherever the same line of code runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

FEWEST = 3  # steps: fewer are not a recurrence
LONGEST = 4000  # calls in a step that are looked for
Tokens = np.ndarray[Any, np.dtype[np.int64]]


class Repeat(NamedTuple):
    """Calls that repeat: where they begin, how many make one period, how many there are, what they run over."""

    start: int
    period: int
    length: int
    over_input: bool


def best_repeat(tokens: Tokens, axes: set[int]) -> Repeat | None:
    """The best repeat: one that runs as often as something is iterated over, else what covers most."""
    best: tuple[tuple[Any, ...], Repeat] | None = None
    for period in range(1, min(len(tokens) // FEWEST, LONGEST) + 1):
        same = np.concatenate([[False], tokens[period:] == tokens[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            count = (end - start) // period + 1
            if count >= FEWEST:
                exact = max((size for size in axes if 0 <= count - size <= 1), default=0)
                near = exact or max((size for size in axes if size - count in (1, 2)), default=0)
                key = (True, near, exact, period) if near else (False, period * count, -period)
                if best is None or key > best[0]:
                    best = key, Repeat(start, period, end - start + period, bool(near))
    return None if best is None else best[1]


def shortest(tokens: Tokens, repeat: Repeat, axes: set[int]) -> Repeat:
    """The shortest period of a repeat: where nothing is iterated over, the size of the batch would make two steps
    one."""
    own = tokens[repeat.start : repeat.start + repeat.length]
    for period in range(1, repeat.period):
        if repeat.period % period == 0 and bool((own[period:] == own[:-period]).all()):
            near = any(-1 <= size - repeat.length // period <= 2 for size in axes)
            return Repeat(repeat.start, period, repeat.length, near)
    return repeat


def goes_on(tokens: Tokens, repeat: Repeat) -> bool:
    """Whether the calls of a repeat are made elsewhere, too: it may be a run of like steps among others."""
    step = tokens[repeat.start : repeat.start + repeat.period]
    return int(np.isin(tokens, step).sum()) > repeat.length + repeat.period
