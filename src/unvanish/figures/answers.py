"""What a run answered: a forecast beside what came, and how often each class was taken for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unvanish.figures.axes import BLACK, BLUE, GREY, curve, legend, named_rows, plain_text, whole_ticks
from unvanish.figures.kinds import Columns, Plain, View, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LARGEST = 3e38
ROW = 0.2  # inches of a class
WRITTEN = 12  # classes whose counts have room
SHADES = {"95": 0.15, "80": 0.3}  # of the intervals


def forecasts(plain: Plain) -> Columns:
    """List the steps of the forecasts that were kept: known, came, median, and the ends of the intervals."""
    found: Columns = {
        name: [] for name in ("series", "target", "after", "step", "quantity", "covered_per_cent", "value")
    }
    for window in _windows(plain):
        curves: list[tuple[str, str | None, Sequence[Any], int]] = [
            ("known", None, window["history"], 1 - len(window["history"])),
            ("came", None, window["came"], 1),
            ("median", None, window["middle"], 1),
        ]
        for end, name in (("low", "lower"), ("high", "upper")):
            curves += [(name, share, values, 1) for share, values in window[end].items()]
        for name, share, values, first in curves:
            found["step"] += range(first, first + len(values))
            found["value"] += values
            told = {"series": window["key"], "target": window["target"], "after": window["after"]}
            told |= {"quantity": name, "covered_per_cent": share}
            for column, value in told.items():
                found[column] += [value] * len(values)
    return found


def _windows(plain: Plain) -> Sequence[Mapping[str, Any]]:
    lines = plain["lines"].get("forecast", [])
    found: Sequence[Mapping[str, Any]] = lines[-1]["windows"] if lines else []
    return found


def draw_forecast(axes: Axes, plain: Plain) -> None:
    """Draw the first of the forecasts, with its intervals, what was known before it and what came."""
    windows = _windows(plain)
    if windows:
        _draw(axes, windows[0])
    whole_ticks(axes)
    axes.set_xlabel("steps ahead")
    axes.set_ylabel(plain_text(windows[0]["target"]) if windows else "value")
    legend(axes)


def _draw(axes: Axes, window: Mapping[str, Any]) -> None:
    ahead = [float(step) for step in range(1, len(window["middle"]) + 1)]
    for share, shade in SHADES.items():
        low, high = (_single(window[end].get(share, [])) for end in ("low", "high"))
        if low and len(low) == len(high):
            label, places = f"{share} %", [float(step) for step in range(1, len(low) + 1)]
            axes.fill_between(places, low, high, color=BLUE, alpha=shade, linewidth=0, label=label, gid=label)
    known, came = _single(window["history"]), _single(window["came"])
    curve(axes, [float(step) for step in range(1 - len(known), 1)], known, "known", 0.8, color=BLACK)
    places = [float(step) for step in range(1, len(came) + 1)]
    curve(axes, places, came, "came", 0.6, color=BLACK, marker="o", markersize=2.5, linestyle=":")
    curve(axes, ahead, _single(window["middle"]), "median", 1.6, color=BLUE)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=0.8, zorder=1)


def _single(values: Sequence[Any]) -> list[float]:
    """Take numbers that single precision holds, and no axis fails at."""
    return [value if abs(value) < LARGEST else math.nan for value in numbers(values)]


def confusion(plain: Plain) -> Columns:
    """List how often each class was taken for each."""
    names, taken = _matrix(plain)
    found = [
        (true, said, times)
        for true, row in zip(names, taken, strict=True)
        for said, times in zip(names, row, strict=True)
    ]
    return {
        "on": [_line(plain).get("on")] * len(found),
        "true": [true for true, _, _ in found],
        "taken_for": [said for _, said, _ in found],
        "count": [times for _, _, times in found],
    }


def _line(plain: Plain) -> Mapping[str, Any]:
    lines = plain["lines"].get("confusion", [])
    found: Mapping[str, Any] = lines[-1] if lines else {}
    return found


def _matrix(plain: Plain) -> tuple[list[str], list[list[int]]]:
    """The names and the counts as a square, whatever a record holds."""
    names, taken = list(_line(plain).get("names", [])), _line(plain).get("taken", [])
    rows = [[int(value or 0) for value in row] + [0] * len(names) for row in [*taken, *[[]] * len(names)]]
    return names, [row[: len(names)] for row in rows[: len(names)]]


def draw_confusion(axes: Axes, plain: Plain) -> None:
    """Draw the share of each class that was taken for each, with the counts of few classes."""
    names, taken = _matrix(plain)
    shares = [[times / (sum(row) or 1) for times in row] for row in taken]
    if names:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.8, aspect="auto", gid="shares")
    for true, row in enumerate(taken if len(names) <= WRITTEN else []):
        for said, times in enumerate(row):
            if times:
                axes.annotate(f"{times:,}", (said, true), ha="center", va="center", gid="count")
    for edge in range(1, len(names)):
        axes.axhline(edge - 0.5, color=GREY, linewidth=0.3)
    named_rows(axes, names or ["–"])
    axes.set_xticks(
        range(len(names)), [plain_text(name, 12) for name in names], rotation=90 if sum(map(len, names)) > 24 else 0
    )
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")


FORECAST = View(forecasts, draw_forecast, lambda plain: bool(_windows(plain)))
CONFUSION = View(
    confusion,
    draw_confusion,
    lambda plain: bool(_matrix(plain)[0]),
    lambda plain: 1.0 + ROW * max(6, len(_matrix(plain)[0])),
)
