"""One picture: its panels with their axes, what stands in them, marks, legend, as SVG for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unvanish.report.drawing.canvas import FONT, colour, encoded, figure
from unvanish.report.drawing.marks import LETTER, ROW, draw_legend, draw_note, draw_shape, legend_rows
from unvanish.report.drawing.markup import inline
from unvanish.report.drawing.scales import Described, Ticks, finite, limit, put_ticks, ruled, scale, ticks_of
from unvanish.report.drawing.traces import draw_trace, palette
from unvanish.report.page.markup import Html, plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BELOW = 46  # pixels for the ticks and the title of x
TITLE = 22  # pixels for the title of y, which stands above its axis
RIGHT = 14
SCALE_WIDE = 64  # pixels for the scale of colours
NARROW = 450


def drawn(picture: Described, width: int, height: int, prefix: str) -> Html:
    """Draw a picture of so many pixels; `prefix` keeps its ids apart from all others on a page."""
    picture = _placed(picture)
    data, layout = picture["data"], picture["layout"]
    with figure(width, height) as made:
        names = sorted(name for name in layout if name.startswith("yaxis"))
        panels = {name.replace("axis", ""): made.add_axes((0.1, 0.1, 0.8, 0.8)) for name in names}
        ticks = {name: _fill(axes, name, data, layout, width) for name, axes in panels.items()}
        rows = legend_rows(data, width) if layout.get("showlegend") else []
        _place(made, panels, ticks, layout, len(rows), any(trace["type"] == "heatmap" for trace in data))
        draw_legend(made, rows)
        for shape in layout.get("shapes", ()):
            draw_shape(panels, shape)
        for note in layout.get("annotations", ()):
            draw_note(panels, note, logarithmic=layout["xaxis"].get("type") == "log")
        return inline(encoded(made), width, height, prefix)


def _placed(picture: Described) -> Described:
    """Give names on an axis their places, from the top down, side by side where bars form a group."""
    layout = picture["layout"]
    if layout["yaxis"].get("type") != "category":
        return picture
    names = list(dict.fromkeys(name for trace in picture["data"] for name in trace["y"]))
    grouped = layout.get("barmode") == "group"
    many = len(picture["data"]) if grouped else 1
    data = []
    for at, trace in enumerate(picture["data"]):
        own: Described = {"width": 0.7 / many} if grouped else {}
        off = 0.7 * ((at + 0.5) / many - 0.5) if grouped else 0.0
        places = [names.index(name) + off for name in trace["y"]]
        data.append({**trace, **own, "at": places} | ({"y": places} if trace["type"] == "scatter" else {}))
    axis = {"title": layout["yaxis"]["title"], "range": [-0.6, len(names) - 0.4], "reversed": True}
    axis |= {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
    return {"data": data, "layout": {**layout, "yaxis": axis}}


def _fill(axes: Axes, name: str, data: list[Described], layout: Described, width: int) -> tuple[Ticks, Ticks]:
    """Draw what belongs to a panel, set its limits, and return its ticks."""
    x, y = layout["xaxis"], layout[f"{name[0]}axis{name[1:]}"]
    scale(axes, "x", x)
    scale(axes, "y", y)
    axes.margins(x=0.015, y=0.06)
    axes.set_axis_off()
    for which, axis in (("x", x), ("y", y)):
        if axis.get("range") is not None:
            limit(axes, which, axis)  # first: bands and bars begin there
    before: Described | None = None
    for trace in data:
        if trace.get("yaxis", "y") == name:
            draw_trace(axes, trace, before)
            before = trace
    across, up = limit(axes, "x", x), limit(axes, "y", y)
    if y.get("reversed"):
        axes.invert_yaxis()
    for axis, which in ((x, "x"), (y, "y")):
        if axis.get("zeroline"):
            line = axes.axvline if which == "x" else axes.axhline
            line(0, color=colour(axis["zerolinecolor"]), linewidth=1, zorder=1.2)
    return ticks_of(x, *across, 5 if width < NARROW else 8), ticks_of(y, *up, 5)


def _place(
    made: Figure,
    panels: dict[str, Axes],
    ticks: dict[str, tuple[Ticks, Ticks]],
    layout: Described,
    rows: int,
    scaled: bool,
) -> None:
    """Give the panels their places, around what their ticks and titles take."""
    width, height = (72 * side for side in made.get_size_inches())
    longest = max((len(text) for _, own in ticks.values() for _, text in own), default=0)
    left = max(18.0, LETTER * longest + 12)
    right = width - layout.get("margin", {}).get("r", RIGHT) - (SCALE_WIDE if scaled else 0)
    titled = any(_title(layout, name) for name in panels)
    top = height - ROW * rows - (TITLE if titled else 6) - 4
    for name, axes in panels.items():
        low, high = layout[f"{name[0]}axis{name[1:]}"].get("domain", (0, 1))
        box = (left, BELOW + low * (top - BELOW), right - left, (high - low) * (top - BELOW))
        axes.set_position((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        lowest = low == 0
        x, y = layout["xaxis"], layout[f"{name[0]}axis{name[1:]}"]
        across, up = ticks[name]
        if y.get("scaleanchor"):
            edge = finite(y["range"][1]) * box[2] / box[3]
            axes.set_xlim(-edge, edge)
            across = ticks_of(x, -edge, edge, 5)
        put_ticks(axes, "x", _apart(axes, across) if lowest else [], grid=bool(x.get("showgrid")))
        ruled(axes, [box[0], box[0] + box[2]], [box[1], box[1]], "--hairline")
        put_ticks(axes, "y", up, grid=y.get("showgrid", True))
        title = plot_text(_title(layout, name), 90)
        made.text(2 / width, (box[1] + box[3] + 13) / height, title, va="center", fontsize=FONT)
    if scaled:
        _scale_of_colours(made, panels["y"], layout["colorbar"])
    title = plot_text(layout["xaxis"]["title"]["text"], 90)
    made.text((left + right) / 2 / width, 10 / height, title, ha="center", va="center", fontsize=FONT)


def _apart(axes: Axes, ticks: Ticks) -> Ticks:
    """Leave out ticks whose texts would touch those before them."""
    kept: Ticks = []
    free = -1e9
    for value, text in ticks:
        at, half = axes.transData.transform((value, 1))[0], LETTER * len(text) / 2
        if at - half >= free:
            kept.append((value, text))
            free = at + half + 8
    return kept


def _title(layout: Described, name: str) -> str:
    title: str = layout[f"{name[0]}axis{name[1:]}"].get("title", {}).get("text", "")
    return title


def _scale_of_colours(made: Figure, beside: Axes, described: dict[str, Any]) -> None:
    """Draw the scale of a map of colours right of it."""
    box, width = beside.get_position(), 72 * made.get_size_inches()[0]
    axes = made.add_axes((box.x1 + 12 / width, box.y0, 10 / width, box.height))
    low, high = described["range"]
    steps = 64
    axes.imshow(
        [[low + (high - low) * at / (steps - 1)] for at in range(steps)],
        cmap=palette(),
        vmin=low,
        vmax=high,
        extent=(0, 1, low, high),
        origin="lower",
        aspect="auto",
        interpolation="none",
    )
    ticks = list(zip(described["tickvals"], described["ticktext"], strict=True))
    axes.set_axis_off()
    put_ticks(axes, "y", ticks, grid=False, right=True)
