"""What is drawn over a picture: marks with their texts, and the legend above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unvanish.report.drawing.canvas import FONT, colour
from unvanish.report.drawing.scales import Described, finite
from unvanish.report.drawing.traces import DASHES, SHAPES
from unvanish.report.page.markup import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER = 0.56 * FONT  # pixels: a letter of a page's font, on average
ROW = 19
SAMPLE = 22
Entry = tuple[str, Described]


def draw_shape(panels: dict[str, Axes], shape: Described) -> None:
    """Draw a line across, along or within the axes, or the unit circle."""
    style = shape["line"]
    color, width = colour(style["color"]), style["width"]
    ref = shape.get("yref", "y")
    if shape["type"] == "circle":
        from matplotlib.patches import Ellipse

        size = shape["x1"] - shape["x0"], shape["y1"] - shape["y0"]
        circle = Ellipse((0, 0), *size, fill=False, edgecolor=color, linewidth=width)
        panels["y"].add_patch(circle).set_gid("circle")
        return
    drawn = {"color": color, "linewidth": width, "linestyle": DASHES[style.get("dash", "solid")], "zorder": 1.5}
    if ref == "paper":
        for axes in panels.values():
            axes.axvline(finite(shape["x0"]), **drawn).set_gid("mark")
    elif shape.get("xref") == "paper":
        panels[ref].axhline(finite(shape["y0"]), **drawn)
    else:
        panels[ref].plot(
            [finite(shape["x0"]), finite(shape["x1"])], [finite(shape["y0"]), finite(shape["y1"])], **drawn
        )


def draw_note(panels: dict[str, Axes], note: Described, *, logarithmic: bool) -> None:
    """Write the text of a mark: by value, or by its share of the whole picture where it says `paper`."""
    ends = list(panels.values())
    axes, y = ends[0], note["y"]
    if len(ends) > 1:  # the last panel is the upper one
        axes, y = (ends[1], 2 * y - 1) if y > 0.5 else (ends[0], 2 * y)
    x = note["x"] if note.get("xref") == "paper" else finite(10.0 ** note["x"] if logarithmic else note["x"])
    vertical = {"top": "top", "middle": "center"}[note.get("yanchor", "top")]
    axes.annotate(
        plot_text(note["text"], 60),
        (x, y),
        xycoords=("axes fraction" if note.get("xref") == "paper" else "data", "axes fraction"),
        xytext=(note.get("xshift", 0), 0),
        textcoords="offset points",
        ha=note.get("xanchor", "left"),
        va=vertical,
        color=colour(note["font"]["color"]),
        annotation_clip=False,
        zorder=5,
    )


def legend_rows(data: list[Described], width: float) -> list[list[Entry]]:
    """Lay the entries of the legend out in rows as wide as the picture."""
    rows: list[list[Entry]] = [[]]
    used = 0.0
    entries = {plot_text(trace["name"], 60): trace for trace in reversed(data) if trace.get("showlegend", True)}
    for name, trace in reversed(entries.items()):
        wide = wide_of(name)
        if rows[-1] and used + wide > width:
            rows.append([])
            used = 0.0
        rows[-1].append((name, trace))
        used += wide
    return rows if rows[0] else []


def wide_of(name: str) -> float:
    """How much room an entry takes."""
    return SAMPLE + 8 + LETTER * len(name) + 18


def draw_legend(figure: Figure, rows: list[list[Entry]]) -> None:
    """Draw the rows of the legend from the top of the figure down, a sample and a name each."""
    width, height = (72 * side for side in figure.get_size_inches())
    for at, row in enumerate(rows):
        x, y = 2.0, height - ROW * at - 10
        for name, trace in row:
            _sample(figure, trace, (x / width, (x + SAMPLE) / width), y / height)
            figure.text((x + SAMPLE + 7) / width, y / height, name, va="center", fontsize=FONT)
            x += wide_of(name)


def _sample(figure: Figure, trace: Described, ends: tuple[float, float], y: float) -> None:
    from matplotlib.lines import Line2D

    line, marker = trace.get("line", {}), trace.get("marker", {})
    broad = trace["type"] == "bar" or trace.get("fill")
    color = colour(trace["fillcolor"] if trace.get("fill") else line.get("color") or marker.get("color"))
    style = DASHES[line.get("dash", "solid")]
    drawn: Described = {"color": color, "alpha": trace.get("opacity"), "solid_capstyle": "butt"}
    if broad or "lines" in trace["mode"]:
        width = 9 if broad else line.get("width", 2)
        figure.add_artist(Line2D(ends, [y, y], linewidth=width, linestyle="-" if broad else style, **drawn))
    if not broad and "markers" in trace["mode"]:
        symbol = marker.get("symbol", "circle")
        symbol = symbol if isinstance(symbol, str) else "circle"
        face = colour("--paper") if symbol.endswith("-open") else color
        shape = {"marker": SHAPES.get(symbol, "o"), "markersize": min(marker.get("size", 6), 8)}
        middle = [sum(ends) / 2]
        figure.add_artist(Line2D(middle, [y], linestyle="none", color=color, markerfacecolor=face, **shape))
