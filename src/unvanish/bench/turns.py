"""Times of programs that take turns: what slows the machine slows all of them, so that ratios hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Who = TypeVar("Who", bound=Hashable)


@dataclass(frozen=True)
class Span:
    """The median of rounds, and the range of their middle half: a round may be one that the machine disturbed."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Span:
        """Gather rounds.

        >>> Span.of([9.0, 1.0, 2.0, 3.0, 0.1])
        Span(median=2.0, low=1.0, high=3.0)
        """
        ordered = sorted(values)
        cut = len(ordered) // 4
        return cls(statistics.median(ordered), ordered[cut], ordered[-1 - cut])


def in_turns(
    sides: Mapping[Who, Callable[[], float]], *, rounds: int, fewest: int, enough: float
) -> dict[Who, list[float]]:
    """Let all sides tell their seconds once a round, each round begun by another side.

    After `enough` seconds of waiting the `fewest` rounds have to do.
    """
    found: dict[Who, list[float]] = {who: [] for who in sides}
    order, began = list(sides), time.perf_counter()
    for number in range(rounds):
        for who in order:
            found[who].append(sides[who]())
        order = [*order[1:], order[0]]
        if number + 1 >= fewest and time.perf_counter() - began > enough:
            break
    return found
