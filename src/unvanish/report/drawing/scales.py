"""The axes of a picture: limits, ticks and how the ticks are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unvanish.report.drawing.canvas import colour
from unvanish.report.page.markup import plot_text
from unvanish.report.page.wording import decimal, minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Described = dict[str, Any]
Ticks = list[tuple[float, str]]
LARGEST = 1e250  # beyond it matplotlib's own arithmetic overflows
PLAIN = 1e7  # ticks up to here are written out
PAD = 6  # pixels between the axes and a tick


def finite(value: Any) -> float:
    """Return what can be drawn; NaN, which is a gap, for what cannot."""
    return math.nan if value is None or not abs(value) <= LARGEST else float(value)


def scale(axes: Axes, which: str, axis: Described) -> None:
    """Set the kind of an axis, before anything is drawn on it."""
    if axis.get("type") == "log":
        getattr(axes, f"set_{which}scale")("log", nonpositive="mask")


def limit(axes: Axes, which: str, axis: Described) -> tuple[float, float]:
    """Set the limits as they are asked for, else as the data have them, and return them."""
    chosen = axis.get("range")
    if chosen is not None:
        low, high = (10.0**end for end in chosen) if axis.get("type") == "log" else map(finite, chosen)
        if low < high:
            getattr(axes, f"set_{which}lim")(low, high)
    low, high = getattr(axes, f"get_{which}lim")()
    return low, high


def ticks_of(axis: Described, low: float, high: float, most: int) -> Ticks:
    """Choose the ticks: those asked for, those of names, or round numbers."""
    if "tickvals" in axis:
        pairs = zip(map(finite, axis["tickvals"]), map(plot_text, axis["ticktext"]), strict=True)
        spare = 1e-3 * (high - low)
        return [(value, text) for value, text in pairs if low - spare <= value <= high + spare]
    if axis.get("type") == "log":
        decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        return [(10.0**at, decimal(10.0**at, 1)) for at in decades][:most]
    from matplotlib.ticker import MaxNLocator

    whole = axis.get("tickformat") in (",", "d")
    located = MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1).tick_values(low, high)
    spare = 1e-9 * (high - low)
    values = [float(value) for value in located if low - spare <= value <= high + spare]
    apart = values[1] - values[0] if len(values) > 1 else 1.0 if whole else high - low
    return [(value, written(value, apart, axis.get("tickformat"))) for value in values]


def written(value: float, apart: float, form: str | None) -> str:
    """Write a tick, with as many decimals as tell it from its neighbours.

    >>> written(0.5, 0.25, ".0%"), written(-1.5, 0.5, None), written(12000, 2000, ","), written(3e12, 1e12, None)
    ('50 %', '−1.5', '12,000', '3.00 × 10¹²')
    """
    if form == ".0%":
        return f"{100 * value:g} %"
    if form is None and (abs(value) >= PLAIN or 0 < apart < 1e-4):
        return decimal(value)
    places = max(0, -math.floor(math.log10(apart) + 1e-9)) if apart > 0 else 0
    if apart > 0 and round(apart, places) != round(apart, places + 1):
        places += 1
    return minus(f"{0.0 if abs(value) < 1e-12 * max(1.0, apart) else value:,.{places}f}")


def put_ticks(axes: Axes, which: str, ticks: Ticks, *, grid: bool, right: bool = False) -> None:
    """Write ticks beside the axes, without marks; a grid of thin lines where it helps to read values off.

    The place and the limits of the axes have to stand. matplotlib's own ticks take half the time of a picture.
    """
    made, box = axes.figure, axes.bbox
    width, height = made.bbox.width, made.bbox.height
    low = axes.get_xlim()[0], axes.get_ylim()[0]
    lines: list[tuple[list[float], list[float]]] = []
    for value, text in ticks:
        at = axes.transData.transform((value, low[1]) if which == "x" else (low[0], value))
        if which == "x":
            made.text(at[0] / width, (box.y0 - PAD) / height, text, ha="center", va="top")
            lines.append(([at[0]] * 2, [box.y0, box.y1]))
        else:
            x = box.x1 + PAD if right else box.x0 - PAD
            made.text(x / width, at[1] / height, text, ha="left" if right else "right", va="center_baseline")
            lines.append(([box.x0, box.x1], [at[1]] * 2))
    if grid:
        for x, y in lines:
            ruled(axes, x, y, "--grid")


def ruled(axes: Axes, x: list[float], y: list[float], name: str) -> None:
    """Draw a thin line between two places of the figure, in pixels, behind everything."""
    from matplotlib.lines import Line2D

    line = Line2D(x, y, color=colour(name), linewidth=1, zorder=0.5, transform=axes.figure.dpi_scale_trans)
    line.set_data([one / 72 for one in x], [one / 72 for one in y])
    axes.add_artist(line).set_clip_on(False)
