"""A profile along depth: g(d) against the layers below the last one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unvanish.figures.axes import (
    BLACK,
    BLUE,
    LOST,
    Level,
    Mark,
    across,
    curve,
    legend,
    mark,
    share_axis,
    start_of,
    whole_ticks,
)
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, least, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def columns(plain: Plain) -> Columns:
    """List the layers, the last one first."""
    return {
        "layers_below_last": list(range(len(plain["norms"]))),
        "layer": plain["layers"][::-1],
        "norm": plain["norms"],
        "parameter_gradient": plain["weight_norms"][::-1],
    }


def draw(axes: Axes, plain: Plain) -> None:
    """Draw what is left at the output of each layer, and what its parameters get; mark the reach."""
    norms, own = numbers(plain["norms"]), numbers(plain["weight_norms"][::-1])
    depths = list(map(float, range(len(norms))))
    curve(axes, depths, norms, "at the layer's output", color=BLACK, marker="o")
    if not all(map(math.isnan, own)):
        style = {"color": BLUE, "linestyle": (0, (5, 1.5)), "marker": "s", "markerfacecolor": "white"}
        curve(axes, depths, own, "of its own parameters", 0.8, **style)
    start = start_of(norms)
    share_axis(axes, [*norms, *own], start)
    axes.set_xlim(-0.4, len(norms) - 0.6)
    whole_ticks(axes)
    axes.set_xlabel("depth $d$ (layers below the last)")
    axes.set_ylabel("gradient norm $g(d)$")
    across(axes, [Level("one per cent", LOST * start, "1 %")])
    mark(axes, [Mark("reach", plain["reach"], f"reach {least(plain['reach'], plain['censored'])}")])
    legend(axes)


def table(plain: Plain) -> list[Table]:
    """Tell what was found in one row."""
    reach = least(plain["reach"], plain["censored"])
    row = (f"{len(plain['layers']):,}", short(plain["rate"], sign=True), reach)
    return [Table(("layers", "rate, nats per layer", "reach, layers"), [row])]


DEPTH = Kind({"norms": View(columns, draw)}, table)
