"""What a page shows first: bars of time steps and bars of figures, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unvanish.report.page.axes import Figure, lag_axis
from unvanish.report.page.blocks import Gallery
from unvanish.report.page.markup import Html, element

ROW, REST = 30, 62  # pixels for a row of bars, and for the axis under them
THICK = 0.62  # of a row
ROOM = 0.55  # decades right of the furthest bar, for its number


@dataclass(frozen=True)
class Bar:
    """One bar: its name, how long it is, how that is written, its colour."""

    name: str
    value: float
    told: str
    color: str


@dataclass(frozen=True)
class Bars:
    """One picture of bars with its words; `what` says it to those who do not see."""

    title: str
    what: str
    caption: str
    picture: Figure | None


def steps_bars(bars: Sequence[Bar], marked: float | None) -> Figure:
    """Draw numbers of time steps on a log axis; a dotted line at what is `marked` crosses them all."""
    axis = lag_axis(max(bar.value for bar in bars), "time steps back") | {"showgrid": True}
    axis["range"][1] += ROOM * min(1.0, axis["range"][1] / 2)
    layout = _layout(axis)
    if marked is not None:
        style = {"color": "--warn", "width": 1, "dash": "dot"}
        line = {"type": "line", "yref": "paper", "x0": marked, "x1": marked, "y0": 0, "y1": 1, "line": style}
        layout["shapes"] = [line]
    return {"data": _traces(bars), "layout": layout}


def figure_bars(bars: Sequence[Bar], title: str, *, share: bool) -> Figure | None:
    """Draw figures on an axis that begins at zero; None where they have no such axis."""
    high = max(bar.value for bar in bars)
    if not 0 < high < math.inf or min(bar.value for bar in bars) < 0:
        return None
    axis: Figure = {"title": {"text": title}, "range": [0, 1.28 * high], "showgrid": True}
    if share:
        axis |= {"range": [0, 1.2], "tickvals": [0, 0.5, 1], "ticktext": ["0 %", "50 %", "100 %"]}
    return {"data": _traces(bars), "layout": _layout(axis)}


def hang_bars(gallery: Gallery, wanted: Sequence[Bars]) -> Html | None:
    """Hang the pictures that there are side by side, their rows equally high."""
    known = [(one, one.picture) for one in wanted if one.picture is not None]
    if not known:
        return None
    most = max(len(picture["data"]) for _, picture in known)
    drawn = []
    for one, picture in known:
        for trace in picture["data"]:
            trace["width"] = THICK * len(picture["data"]) / most
        told = ", ".join(f"{trace['name']} {trace['text'][0]}" for trace in picture["data"])
        label = f"Bars of {one.what}: {told}."
        drawn.append(
            gallery.hang([picture], label, one.caption, title=one.title, kind="low", height=REST + ROW * most)
        )
    return element("div", *drawn, class_="pair first")


def _traces(bars: Sequence[Bar]) -> list[Figure]:
    return [
        {"type": "bar", "orientation": "h", "x": [bar.value], "y": [bar.name], "name": bar.name}
        | {"text": [bar.told], "width": THICK, "marker": {"color": bar.color}}
        for bar in bars
    ]


def _layout(axis: Figure) -> Figure:
    return {"showlegend": False, "xaxis": axis, "yaxis": {"title": {"text": ""}, "type": "category"}}
