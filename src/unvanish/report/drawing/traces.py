"""What stands in a picture: lines, points, bands, bars, a map of colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unvanish.report.drawing.canvas import FONT, colour
from unvanish.report.drawing.scales import Described, finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": (0, (5, 2.5)),
    "dot": (0, (1.2, 2)),
    "dashdot": (0, (6, 2, 1.2, 2)),
    "longdash": (0, (10, 3)),
}
SHAPES = {"diamond": "D", "triangle-up": "^", "triangle-right": ">", "square": "s"}
MARKED = 60  # points of a line that are marked each; more hide the line
LEVELS = 48  # colours of a map: as many as can be told apart, and few enough for a small image


def draw_trace(axes: Axes, trace: Described, before: Described | None) -> None:
    """Draw one trace; `before` is the one under it, down to which a band is filled."""
    if trace["type"] == "bar":
        _bars(axes, trace)
    elif trace["type"] == "heatmap":
        draw_map(axes, trace)
    else:
        _scatter(axes, trace, before)


def _scatter(axes: Axes, trace: Described, before: Described | None) -> None:
    x, y = numbers(trace["x"]), numbers(trace["y"])
    line, opacity = trace.get("line", {}), trace.get("opacity", 1)
    color = colour(line["color"] if line else trace["marker"]["color"])
    width, mode = line.get("width", 2), trace["mode"]
    if x and "fill" in trace:
        under: Any = axes.get_ylim()[0]
        if before is not None and trace["fill"] == "tonexty":
            under = numbers(before["y"])
        axes.fill_between(x, under, y, color=colour(trace["fillcolor"]), linewidth=0, zorder=1)
    if "lines" in mode and width:
        style = DASHES[line.get("dash", "solid")]
        axes.plot(x, y, color=color, linewidth=width, linestyle=style, alpha=opacity, zorder=2)
    if "markers" in mode and ("lines" not in mode or len(x) <= MARKED):
        _points(axes, x, y, trace.get("marker", {}), color)


def _points(axes: Axes, x: list[float], y: list[float], marker: Described, color: str) -> None:
    symbols = marker.get("symbol", "circle")
    each = [symbols] * len(x) if isinstance(symbols, str) else list(symbols)
    for symbol in dict.fromkeys(each):
        at = [place for place, one in enumerate(each) if one == symbol]
        face = colour("--paper") if symbol.endswith("-open") else color
        axes.plot(
            [x[place] for place in at],
            [y[place] for place in at],
            marker=SHAPES.get(symbol, "o"),
            markersize=marker.get("size", 6),
            linestyle="none",
            color=color,
            markerfacecolor=face,
            markeredgewidth=1,
            alpha=marker.get("opacity"),
            zorder=3,
        )


def _bars(axes: Axes, trace: Described) -> None:
    across = trace.get("orientation") == "h"
    places, values = (trace["y"], trace["x"]) if across else (trace["x"], trace["y"])
    places, values = numbers(trace.get("at") or places), numbers(values)
    draw, start = (axes.barh, axes.get_xlim()[0]) if across else (axes.bar, axes.get_ylim()[0])
    start = start if "log" in (axes.get_xscale(), axes.get_yscale()) else 0.0  # a log axis has no zero
    lengths = [value - start for value in values]
    draw(places, lengths, trace.get("width", 0.8), start, color=colour(trace["marker"]["color"]), zorder=2)
    for place, value, text in zip(places, values, trace.get("text", ()), strict=False):
        right = value >= 0
        axes.annotate(
            text,
            (value, place),
            xytext=(5 if right else -5, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=FONT,
            color=colour("--ink"),
        )


def draw_map(axes: Axes, trace: Described) -> None:
    """Draw a map of colours as an image with as many pixels as it has cells."""
    x, y, z = numbers(trace["x"]), numbers(trace["y"]), trace["z"]
    high = len(z)
    # moments of training need not be evenly apart, and the rows of an image are
    rows = [_nearest(y, y[0] + (y[-1] - y[0]) * at / max(1, high - 1)) for at in range(high)]
    columns = [_nearest(x, x[0] + (x[-1] - x[0]) * at / max(1, len(x) - 1)) for at in range(len(x))]
    half_x, half_y = (0.5 * (ends[-1] - ends[0]) / max(1, len(ends) - 1) or 0.5 for ends in (x, y))
    axes.imshow(
        [[finite(z[row][column]) for column in columns] for row in rows],
        cmap=palette(),
        vmin=trace["zmin"],
        vmax=trace["zmax"],
        extent=(x[0] - half_x, x[-1] + half_x, y[0] - half_y, y[-1] + half_y),
        origin="lower",
        aspect="auto",
        interpolation="none",
    )


def _nearest(places: Sequence[float], wanted: float) -> int:
    return min(range(len(places)), key=lambda at: abs(places[at] - wanted))


def palette() -> Any:
    """Viridis, which colour-blind readers can read and which stays in order in grey."""
    from matplotlib import colormaps

    return colormaps["viridis"].resampled(LEVELS)


def numbers(values: Sequence[Any]) -> list[float]:
    """Take what can be drawn of each value."""
    return [finite(value) for value in values]


def known(values: Sequence[float]) -> list[float]:
    """Leave out the gaps."""
    return [value for value in values if not math.isnan(value)]
