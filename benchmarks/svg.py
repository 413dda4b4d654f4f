"""A table as a picture: panels of horizontal bars, written as SVG by hand, so that nothing has to be installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, MARGIN, GAP, COLUMNS = 960, 16, 28, 2
TOP, HEAD, LINE, FOOT = 56, 24, 17, 32
LABELS, VALUES = 146, 76  # room beside the bars
FASTER, SLOWER, PLAIN, GOAL, INK, QUIET = "#2f7d6b", "#c0504d", "#4b6fa5", "#b26a00", "#222222", "#767676"
TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Panel:
    """One heading and its bars. With a `goal` the values are ratios, drawn from 1 × on a logarithmic axis."""

    title: str
    bars: Sequence[tuple[str, float]]
    unit: str = "×"
    goal: float | None = None


def draw(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    """Return the SVG text of a table, 960 pixels wide; all ratios share one axis."""
    columns = min(COLUMNS, len(panels))
    width = (WIDTH - 2 * MARGIN - GAP * (columns - 1)) / columns
    ratios = [value for p in panels if p.goal is not None for value in (p.goal, *(bar[1] for bar in p.bars))]
    limits = math.log(min([*ratios, 0.9])), math.log(max([*ratios, 1.5]))
    parts, top = [_text(MARGIN, 24, title, 16, weight=600), _text(MARGIN, 42, subtitle, 11.5, QUIET)], TOP
    for start in range(0, len(panels), columns):
        in_row = panels[start : start + columns]
        for column, panel in enumerate(in_row):
            parts += _panel(panel, MARGIN + column * (width + GAP), top, width, limits)
        top += max(HEAD + LINE * len(panel.bars) + FOOT for panel in in_row)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    head += f' font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>', *parts, "</svg>\n"])


def _text(
    x: float, y: float, words: str, size: float = 11.5, fill: str = INK, anchor: str = "start", weight: int = 400
) -> str:
    face = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {face}>{escape(words)}</text>'


def _line(x: float, top: float, bottom: float, colour: str, dash: str = "") -> str:
    style = f'stroke="{colour}"' + (f' stroke-width="1.5" stroke-dasharray="{dash}"' if dash else "")
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" {style}/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _panel(panel: Panel, left: float, top: float, width: float, limits: tuple[float, float]) -> list[str]:
    begin, room, first = left + LABELS, width - LABELS - VALUES, top + HEAD
    last = first + LINE * len(panel.bars)
    parts = [_text(left, top + 14, panel.title, 12.5, weight=600)]
    place: Callable[[float], float]
    if panel.goal is None:
        largest = max(value for _, value in panel.bars) or 1.0
        place, origin = lambda value: begin + room * value / largest, begin
    else:
        place = lambda value: begin + room * (math.log(value) - limits[0]) / (limits[1] - limits[0])  # noqa: E731
        origin = place(1.0)
        for tick in (tick for tick in TICKS if limits[0] <= math.log(tick) <= limits[1]):
            parts.append(_line(place(tick), first, last, "#e4e4e4"))
            parts.append(_text(place(tick), last + 13, f"{tick:g} ×", 10.5, QUIET, "middle"))
    for index, (label, value) in enumerate(panel.bars):
        y, x = first + index * LINE, min(origin, place(value))
        colour = PLAIN if panel.goal is None else FASTER if value >= 1 else SLOWER
        extent = f'width="{abs(place(value) - origin):.1f}" height="{LINE - 5}"'
        parts.append(_text(begin - 6, y + 12, label, anchor="end"))
        parts.append(f'<rect x="{x:.1f}" y="{y + 3}" {extent} fill="{colour}"/>')
        parts.append(_text(left + width, y + 12, f"{_number(value)} {panel.unit}", anchor="end"))
    parts.append(_line(origin, first, last, INK))
    if panel.goal is not None:
        parts.append(_line(place(panel.goal), first, last, GOAL, "4 3"))
    return parts
