"""What a kind of result is to the figures: its views, and what a notebook tells of it before the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plain = Mapping[str, Any]  # what a result's to_dict() returns
Columns = dict[str, list[Any]]  # one list per column, all of one length
PANEL = 2.2  # inches


@dataclass(frozen=True)
class View:
    """One way to look at a result.

    Attributes:
        columns: its tidy table, one row per observation.
        draw: its picture; None where there is only the table.
        there: whether a result has anything to draw in this view.
        height: of the picture in inches.
    """

    columns: Callable[[Plain], Columns]
    draw: Callable[[Axes, Plain], None] | None = None
    there: Callable[[Plain], bool] = lambda _: True
    height: Callable[[Plain], float] = lambda _: PANEL

    def within(self, find: Callable[[Plain], Plain]) -> View:
        """Return the view of what holds such a result; `find` takes it from there."""
        draw = self.draw
        return View(
            lambda plain: self.columns(find(plain)),
            None if draw is None else lambda axes, plain: draw(axes, find(plain)),
            lambda plain: self.there(find(plain)),
            lambda plain: self.height(find(plain)),
        )


@dataclass(frozen=True)
class Table:
    """A small table as a notebook shows it: units in the header, every cell a text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Kind:
    """A kind of result: its views by name, the main one first, and its small tables."""

    views: Mapping[str, View]
    tables: Callable[[Plain], Sequence[Table]]


def numbers(values: Sequence[Any]) -> list[float]:
    """Take numbers of plain data; None, which stands for one that is not finite, becomes NaN."""
    return [math.nan if value is None else float(value) for value in values]


def short(value: float | None, sign: bool = False) -> str:
    """Write a number with four digits and a true minus.

    >>> short(-0.0123456), short(1234567.0), short(None), short(float("inf")), short(0.5, sign=True)
    ('−0.01235', '1,234,567', '–', '∞', '+0.5')
    """
    if value is None or math.isnan(value):
        return "–"
    large = 1e4 <= abs(value) < 1e9
    text = f"{value:{'+' if sign else ''}{',.0f' if large else '.4g'}}"
    return text.replace("-", "−").replace("inf", "∞")


def share(value: float | None) -> str:
    """Write a share in per cent.

    >>> share(0.256), share(None)
    ('25.6 %', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{100 * value:.3g} %".replace("-", "−")


def least(steps: float | None, censored: bool = False) -> str:
    """Write a number of steps that may be a lower bound.

    >>> least(1200, True), least(9), least(None)
    ('≥ 1,200', '9', '–')
    """
    return "–" if steps is None else f"{'≥ ' if censored else ''}{steps:,.0f}"
