"""What the pictures share: colours, lines, marks, the axes of lags and of shares.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; each comes with a dash and a
marker of its own, for print in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unvanish.figures.canvas import library

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"),
    "#767676",  # not theirs: for what stands behind the data
)
SERIES = (  # without vermilion, in which the needed lag is marked
    (BLUE, "-", "o"),
    (GREEN, (0, (5, 1.5)), "s"),
    (PURPLE, (0, (5, 1.5, 1, 1.5)), "D"),
    (ORANGE, (0, (1, 1)), "v"),
    (SKY, (0, (8, 1.5, 1, 1.5, 1, 1.5)), "P"),
)
Style = dict[str, Any]
LOST = 0.01  # of the gradient's norm
LOWEST, HIGHEST = -6, 6  # decades: an axis of forty shows nothing
MANY = 300  # steps: an axis up to fewer has room for 2 and 5 beside 1 and 10
MOST = 8  # lines of a legend
GAP = 0.6  # of the size of a text, to its neighbour


def series(at: int) -> tuple[str, Any, str]:
    """Colour, dash and marker of a curve by its number; no two of the first 25 have the same."""
    count = len(SERIES)
    _, dash, shape = SERIES[(at + at // count) % count]
    return SERIES[at % count][0], dash, shape


def series_style(at: int, points: int) -> Style:
    """Return the style of a curve by its number; of its markers about eight are drawn."""
    color, dash, shape = series(at)
    return {"color": color, "linestyle": dash, "marker": shape, "markevery": max(1, points // 8)}


def curve(axes: Axes, x: Sequence[float], y: Sequence[float], name: str, thin: float = 1.0, **style: Any) -> Line2D:
    """Draw a line; its name is what the legend shows and what finds it again, in the Axes and in a file."""
    width = thin * library().rcParams["lines.linewidth"]
    (drawn,) = axes.plot(x, y, label=name, linewidth=width, **style)
    drawn.set_gid(name)
    return drawn


def legend(axes: Axes, *, above: int = 0) -> None:
    """Explain the lines, where there is one: inside the axes where they are free, or in columns above them."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) > MOST:
        handles, names = handles[: MOST - 1], [*names[: MOST - 1], f"and {len(names) - MOST + 1} more"]
        handles.append(axes.plot([], [], linestyle="none")[0])
    if names and above:
        place: Style = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0}
        style: Style = {"frameon": False, "columnspacing": 1.2, "handlelength": 2.2 if above == 2 else 1.2} | place
        axes.legend(handles, names, ncols=above, **style)
    elif names:
        axes.legend(handles, names, frameon=True, edgecolor="none", framealpha=0.8)


# -- marks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A lag that matters, told above the axes: `reach 9`."""

    name: str
    at: float
    text: str
    color: str = BLACK
    dash: Any = "-"


def mark(axes: Axes, marks: Iterable[Mark], *, over: int = 0) -> None:
    """Draw marks as vertical lines with their texts above the axes, in a second row where two would meet.

    The limits of the axes have to stand. What lies beyond them is told with an arrow at the edge. `over` is how
    many rows above the axes are taken.
    """
    size, transform = _text_size(), axes.get_xaxis_transform()
    rows, up = [math.inf] * over, 1.35 * size * over + 5 if over else 2.0
    inches = axes.get_window_extent().width / axes.figure.dpi
    right = axes.get_xlim()[1]
    for one in sorted(marks, key=lambda one: one.at):
        beyond = one.at > right
        at = right if beyond else one.at
        if not beyond:
            line = axes.axvline(at, color=one.color, linestyle=one.dash, linewidth=0.8, zorder=1)
            line.set_gid(one.name)
        text = f"{one.text} →" if beyond else one.text
        share, wide = _along(axes, at), 0.56 * size * len(text) / 72 / inches
        align = "right" if share > 1 - wide / 2 else "left" if share < wide / 3 else "center"
        start = share - {"right": wide, "center": wide / 2, "left": 0.0}[align]
        row = next((row for row, end in enumerate(rows) if end < start), len(rows))
        rows[row : row + 1] = [start + wide + GAP * size / 72 / inches]
        told = axes.annotate(text, (at, 1), xycoords=transform, xytext=(0, up + 1.15 * size * (row - over)))
        told.set(anncoords="offset points", ha=align, va="bottom", color=one.color, fontsize=size)
        told.set_gid(f"{one.name} told")
        told.set_annotation_clip(False)


def _along(axes: Axes, x: float) -> float:
    """Where x lies on the axes, as a share of their width."""
    inside: float = axes.transAxes.inverted().transform(axes.transData.transform((x, axes.get_ylim()[0])))[0]
    return inside


def _text_size() -> float:
    from matplotlib.font_manager import FontProperties

    points: float = FontProperties(size=library().rcParams["legend.fontsize"]).get_size_in_points()
    return points


@dataclass(frozen=True)
class Level:
    """A value that matters, told right of the axes: `1 %`."""

    name: str
    at: float
    text: str
    color: str = GREY
    dash: Any = ":"


def across(axes: Axes, levels: Iterable[Level]) -> None:
    """Draw levels as horizontal lines with their texts right of the axes, moved up where two would meet.

    The limits of the axes have to stand.
    """
    size, free = _text_size(), -math.inf
    for one in sorted(levels, key=lambda one: one.at):
        axes.axhline(one.at, color=one.color, linestyle=one.dash, linewidth=0.8, zorder=1).set_gid(one.name)
        points = axes.transData.transform((0, one.at))[1] / axes.figure.dpi * 72
        up = max(free - points, 0.0)
        free = points + up + 1.4 * size
        told = axes.annotate(one.text, (1, one.at), xycoords=axes.get_yaxis_transform(), xytext=(2, up))
        told.set(anncoords="offset points", ha="left", va="center", color=one.color, fontsize=size)
        told.set_annotation_clip(False)


# -- axes --------------------------------------------------------------------------------------------------------


def start_of(norms: Sequence[float]) -> float:
    """Return the first norm, of which the others are shares; 1 where it is none to divide by."""
    return norms[0] if norms and 1e-150 < norms[0] < 1e150 else 1.0


def share_axis(axes: Axes, values: Iterable[float], start: float = 1.0) -> None:
    """Make y a log axis of norms: of at most twelve decades, and from 0.1 % of `start` or below it upwards."""
    logs = [math.log10(value / start) for value in values if 0 < value / start < math.inf]
    low = max(min([-3, *map(math.floor, logs)]), LOWEST)
    high = min(max([0, *(math.ceil(one - 0.1) for one in logs)]), HIGHEST)
    # Limits first: not every norm can be scaled to.
    axes.set_ylim(start * 10 ** (low - 0.15), start * 10 ** (high + 0.25))
    axes.set_yscale("log", nonpositive="mask")


def lag_axis(axes: Axes, lags: Sequence[float]) -> None:
    """Make x a log axis of lags with plain numbers; where there is a lag 0 it stands left of 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    far = max([10.0, *lags])
    if min(lags, default=1) < 1:
        axes.set_xscale("symlog", linthresh=1, linscale=0.3)
        axes.set_xlim(-0.3, far * 1.1)
    else:
        axes.set_xscale("log")
        axes.set_xlim(0.9, far * 1.1)
        if far < MANY:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def whole_ticks(axes: Axes, axis: str = "x") -> None:
    """Number steps, layers and directions by whole numbers, with separators."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
    chosen.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def named_rows(axes: Axes, names: Sequence[str]) -> None:
    """Make y an axis of names, the first on top."""
    axes.set_yticks(range(len(names)), [plain_text(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def plain_text(name: str, most: int = 28) -> str:
    """Write a name so that matplotlib does not take it for mathematics or for one to leave out of a legend."""
    cut = name if len(name) <= most else f"{name[: most - 1]}…"
    return cut.replace("$", r"\$").lstrip("_") or "–"
