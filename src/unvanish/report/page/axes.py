"""Axes and traces of the pictures, as plain data: what stands where, in the words of Plotly's figures.

A colour that begins with `--` names a CSS variable of the page: a picture follows the reader's colour scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from unvanish.report.page.wording import percent_tick, superscript

Figure = dict[str, Any]
Series = list[float | None]

# What lies beyond is either rounding or an explosion long since seen: an axis of 40 decades shows nothing.
LOWEST_EXPONENT, HIGHEST_EXPONENT = -6, 6
# Points of a curve as wide as the page, of one half as wide, and of one in the background.
POINTS, FEWER, FEWEST = 400, 200, 80
THINNED = "Of a curve with more points than can be seen, the least and the greatest of each stretch are drawn."
STEPS_BACK = "steps back k"
STEPS = ("training step", "time step", STEPS_BACK)  # how the titles of axes of steps begin
GRADIENT_LEFT = "gradient left, g(k) / g(0)"
PULL = "pull of the loss, ‖∂L/∂sₜ‖"


def rounded(values: Iterable[float | None], digits: int = 5) -> Series:
    """Shorten numbers to what a picture can show."""
    return [None if value is None else _shortened(value, digits) for value in values]


def _shortened(value: float, digits: int) -> float:
    short = float(f"{value:.{digits}g}")
    return short if math.isfinite(short) else value  # the largest numbers would be rounded up to infinity


def positive(values: Iterable[float | None]) -> Series:
    """Keep what a log axis can show; the rest becomes a gap."""
    return [value if value is not None and value > 0 else None for value in values]


def thinned(places: Sequence[float], values: Series, points: int = POINTS) -> tuple[list[float], Series]:
    """Keep the smallest and the largest value of each bucket, so that no spike is lost."""
    if len(places) <= points:
        return list(places), values
    width = math.ceil(2 * len(places) / points)
    kept: set[int] = set()
    for begin in range(0, len(places), width):
        known = [(value, at) for at, value in enumerate(values[begin : begin + width], begin) if value is not None]
        kept.update({min(known)[1], max(known)[1]} if known else {begin})
    return [places[at] for at in sorted(kept)], [values[at] for at in sorted(kept)]


def picked(length: int, most: int) -> list[int]:
    """Choose at most so many places, evenly, the first and the last among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(at * (length - 1) / (most - 1)) for at in range(most)})


def line(x: Sequence[float], y: Series, name: str, color: str, **more: Any) -> Figure:
    """Build one line; a lone point is drawn as a point."""
    shown = [value for value in y if value is not None]
    mode = "lines" if len(shown) > 1 else "markers"
    style = {"color": color, "width": more.pop("width", 2), "dash": more.pop("dash", "solid")}
    return {
        "type": "scatter",
        "mode": more.pop("mode", mode),
        "x": rounded(x, 7),
        "y": rounded(y),
        "name": name,
        "line": style,
        "marker": {"color": color, "size": 6},
        **more,
    }


def any_known(values: Sequence[Any]) -> bool:
    """Tell whether there is anything to draw."""
    return any(value is not None for value in values)


def tell_thinned(layout: Figure, longest: int, points: int = POINTS) -> None:
    """Note in a layout that its curves were thinned, where they were: whoever hangs the picture says so."""
    if longest > points:
        layout["thinned"] = THINNED


def canvas(x: str, y: str, *, legend: bool) -> Figure:
    """Begin the layout of a picture: its two axes with their titles."""
    layout: Figure = {"showlegend": legend}
    for name, title in (("xaxis", x), ("yaxis", y)):
        # steps are whole, and written 1,200, as in the text
        layout[name] = {"title": {"text": title}} | ({"tickformat": ","} if title.startswith(STEPS) else {})
    return layout


def one_per_cent(axis: str = "y") -> Figure:
    """Build the dotted line at 1 %, under which a gradient counts as lost."""
    style = {"color": "--muted", "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": 0.01, "y1": 0.01, "line": style}


def exponents(values: Iterable[float | None]) -> tuple[int, int] | None:
    """Find the decades that positive numbers span; None where there are none."""
    logs = [math.log10(value) for value in values if value is not None and value > 0]
    return (math.floor(min(logs)), math.ceil(max(logs))) if logs else None


def share_axis(values: Iterable[float | None]) -> Figure:
    """Build the log axis of shares of the gradient: from 0.1 % or below up to 100 % or above."""
    low, high = exponents(values) or (-3, 0)
    low, high = max(min(low, -3), LOWEST_EXPONENT), min(max(high, 0), HIGHEST_EXPONENT)
    ticks = share_ticks(low, high)
    return {
        "type": "log",
        "range": [low - 0.15, high + 0.15],
        "tickmode": "array",
        "tickvals": [10.0**exponent for exponent in ticks],
        "ticktext": [percent_tick(exponent) for exponent in ticks],
    }


def share_ticks(low: int, high: int) -> list[int]:
    """Choose the decades to label: all of few, every second of many, 1 % always among them."""
    stride = 1 if high - low <= 6 else 2
    return [exponent for exponent in range(low, high + 1) if exponent % stride == 0]


def log_axis(values: Iterable[float | None]) -> Figure:
    """Build a log axis for norms of any size, at least one decade tall."""
    known = positive(values)
    span = exponents(known)
    if span is None:
        return {"type": "log"}
    # ten to the power of a tick has to be a number
    logs = [min(max(math.log10(value), -300), 300) for value in known if value is not None]
    low, high = min(logs), max(logs)
    low = max(low, high - 12)
    spare = max(0.06 * (high - low), 0.5 * (1 - (high - low)), 0.0)
    low, high = low - spare, high + spare
    stride = 1 + math.floor((high - low) / 6)
    decades = [at for at in range(math.ceil(low), math.floor(high) + 1) if at % stride == 0]
    ticks = [10.0**at for at in decades]
    if len(ticks) < 2:
        ticks = [
            factor * 10.0**at
            for at in range(math.floor(low), math.floor(high) + 1)
            for factor in (1, 2, 5)
            if low <= math.log10(factor * 10.0**at) <= high
        ]
    return {
        "type": "log",
        "range": [round(low, 4), round(high, 4)],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [_norm_tick(tick) for tick in ticks],
    }


def lag_axis(furthest: float, title: str = "steps back") -> Figure:
    """Build the log axis of steps, from one step back to the furthest."""
    high = min(max(1.0, math.log10(max(furthest, 1.0))), 300.0)
    factors = (1, 2, 5) if high <= 2.4 else (1, 3) if high <= 3.3 else (1,)
    stride = 1 + math.floor(high / 7)
    decades = range(0, math.floor(high) + 1, stride)
    ticks = [factor * 10**at for at in decades for factor in factors if factor * 10.0**at <= 10**high * 1.001]
    return {
        "type": "log",
        "title": {"text": title},
        "range": [-0.04, round(high + 0.04, 4)],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" if tick < 10**6 else _norm_tick(tick) for tick in ticks],
    }


def _norm_tick(tick: float) -> str:
    if 1e-4 < tick < 1e5:
        return f"{tick:,.10g}"
    exponent = math.floor(math.log10(tick) + 1e-9)
    factor = round(tick / 10.0**exponent)
    lead = "" if factor == 1 else f"{factor}·"
    return f"{lead}10{superscript(exponent)}"
