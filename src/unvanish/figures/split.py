"""What the matrices and what the activations add to a rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unvanish.figures.axes import BLACK, BLUE, GREY, VERMILION, Style, curve, named_rows
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TERMS = {"matrices": "weights", "activations": "activations", "together": "rate"}


def columns(plain: Plain) -> Columns:
    """List both terms and their sum."""
    return {
        "part": [plain["part"]] * len(TERMS),
        "term": list(TERMS),
        "nats_per_step": [plain[field] for field in TERMS.values()],
    }


def draw(axes: Axes, plain: Plain) -> None:
    """Draw both terms and their sum on both sides of zero, with their numbers."""
    values = numbers([plain[field] for field in TERMS.values()])
    styles: list[Style] = [
        {"color": BLUE, "marker": "o"},
        {"color": VERMILION, "marker": "s"},
        {"color": BLACK, "marker": "D"},
    ]
    known = [value for value in values if abs(value) < 1e300]
    low, high = min([0.0, *known]), max([0.0, *known])
    spare = 0.3 * (high - low) or 1.0
    for row, (name, value, style) in enumerate(zip(TERMS, values, styles, strict=True)):
        axes.plot([0, value], [row, row], color=style["color"], linewidth=2.4, gid=f"{name} bar")
        curve(axes, [value], [float(row)], name, linestyle="none", **style)
        side, shift = ("left", 6) if value >= 0 else ("right", -6)
        told = axes.annotate(short(value, sign=True), (value, row), xytext=(shift, 0), textcoords="offset points")
        told.set(ha=side, va="center", fontsize=7)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_xlim(low - spare, high + spare)
    named_rows(axes, list(TERMS))
    axes.set_xlabel("nats per step")


def table(plain: Plain) -> list[Table]:
    """Tell both terms and their sum."""
    row = (plain["part"], *(short(plain[field], sign=True) for field in TERMS.values()))
    return [Table(("part", *(f"{name}, nats per step" for name in TERMS)), [row])]


SPLIT = Kind({"terms": View(columns, draw, height=lambda _: 1.3)}, table)
