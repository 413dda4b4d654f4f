"""The pictures of a comparison: all runs in each, the runs of a group in one colour."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from unvanish.report.comparison.read import Comparison, Entry, Group
from unvanish.report.page.axes import (
    GRADIENT_LEFT,
    LOWEST_EXPONENT,
    STEPS_BACK,
    Figure,
    Series,
    any_known,
    canvas,
    lag_axis,
    line,
    one_per_cent,
    positive,
    share_axis,
    thinned,
)
from unvanish.report.page.curves import STATE_COLOURS, STATE_DASHES, mark_lag
from unvanish.report.page.markup import plot_text
from unvanish.report.page.profile import Profile
from unvanish.report.page.wording import layer_title

Level = tuple[int, str, str, str]
TRAINING_DRAWN = 6  # runs: the training loss of more would hide the rest
FAR_ABOVE = 4  # times the longest reach
TEXT_HIGH = 0.07  # of a picture
MARKS = 4  # windows, and needs, that have room for their texts


def loss_picture(found: Comparison) -> Figure | None:
    """Draw the validation loss of all runs, and thin the training loss of few."""
    data = []
    few = len(found.entries) <= TRAINING_DRAWN
    for entry, style in _each(found):
        run = entry.run
        x, y = thinned([step.step for step in run.steps], [step.loss for step in run.steps])
        if few and any_known(y):
            thin = {"width": 1, "opacity": 0.4, "showlegend": False}
            data.append(line(x, y, style["name"], style["color"], **thin))
        seen: Series = [valid.loss for valid in run.valids]
        if any_known(seen):
            more = _line_of(style) | {"mode": "lines+markers"}
            data.append(line(*thinned([valid.step for valid in run.valids], seen), **more))
    if not data:
        return None
    unit = found.asked.loss_axis if found.same_loss else "loss"
    return {"data": data, "layout": canvas("training step", unit, legend=True)}


def profile_picture(found: Comparison) -> Figure | None:
    """Draw the last profile of each run, its reach, and the needs and the windows."""
    layout = canvas(STEPS_BACK, GRADIENT_LEFT, legend=True) | {"shapes": [one_per_cent()], "annotations": []}
    data, far, shares = [], [10.0], [1.0]
    for entry, style in _each(found):
        profile = _last(entry)
        if profile is None:
            continue
        curve = [
            (lag, share) for lag, share in zip(profile.lags, profile.relative("all"), strict=False) if lag >= 1
        ]
        x, y = thinned([lag for lag, _ in curve], positive(share for _, share in curve))
        if not any_known(y):
            continue
        data.append(line(x, y, **_line_of(style)))
        known = [(lag, share) for lag, share in zip(x, y, strict=True) if share is not None]
        shares += [share for _, share in known]
        far += [lag for lag, share in known if share >= 10.0**LOWEST_EXPONENT]
        data += _reach_dot(profile, style)
    if not data:
        return None
    _mark(found, layout, far)
    layout["yaxis"].update(share_axis(shares))
    low, high = layout["yaxis"]["range"]
    # room for the texts of the marks above the curves
    layout["yaxis"]["range"] = [low, high + 0.09 * len(layout["annotations"]) * (high - low)]
    return {"data": data, "layout": layout}


def reach_picture(found: Comparison) -> Figure | None:
    """Draw the reach of each run over its training, with the needs and the windows."""
    data, high = [], [1.0]
    for entry, style in _each(found):
        part = None if entry.reach is None else entry.reach.part
        measured = [(moment.step, moment.profiles[part]) for moment in entry.run.moments if part in moment.profiles]
        reaches: Series = [profile.reach for _, profile in measured]
        if any_known(reaches):
            more = _line_of(style) | {"mode": "lines+markers"}
            symbols = ["triangle-up" if profile.censored else "circle" for _, profile in measured]
            drawn = line([step for step, _ in measured], reaches, **more)
            drawn["marker"] = {"color": style["color"], "size": 7, "symbol": symbols}
            data.append(drawn)
            high += [reach for reach in reaches if reach is not None]
    if not data:
        return None
    layout = canvas("training step", "reach, in time steps", legend=True) | {"shapes": [], "annotations": []}
    # what lies far above would press all curves to the ground
    levels = sorted(one for one in _lags(found) if one[0] <= FAR_ABOVE * max(high))
    top = 1.1 * max([*high, *(float(lag) for lag, *_ in levels)])
    _across(layout, levels, top)
    layout["yaxis"]["range"] = [0, top]
    return {"data": data, "layout": layout}


def _across(layout: Figure, levels: list[Level], top: float) -> None:
    """Draw levels with their texts right of the axes, moved up where two would meet."""
    layout["margin"] = {"l": 8, "r": 88, "t": 34, "b": 8, "pad": 2}
    free = -math.inf
    for lag, told, color, dash in levels:
        level = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": lag, "y1": lag}
        layout["shapes"].append(level | {"line": {"color": color, "width": 1.5, "dash": dash}})
        at = max(lag / top, free)
        free = at + TEXT_HIGH
        layout["annotations"].append(
            {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 4, "y": at, "yref": "paper", "text": told}
            | {"yanchor": "middle", "showarrow": False, "font": {"color": color}}
        )


def drawn_part(entry: Entry) -> str:
    """Name the part of a run that is drawn."""
    return "" if entry.reach is None else entry.reach.part


def _each(found: Comparison) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield every run with its style; the legend names the first of a group."""
    for at, group in enumerate(found.groups):
        color = STATE_COLOURS[at % len(STATE_COLOURS)]
        dash = STATE_DASHES[at * 5 // 4 % len(STATE_DASHES)]
        for place, entry in enumerate(group.entries):
            yield (
                entry,
                {"name": _legend(group, entry), "color": color, "dash": dash, "first": place == 0}
                | {"width": 2.5 if len(group.entries) == 1 else 1.5},
            )


def _legend(group: Group, entry: Entry) -> str:
    part = layer_title(drawn_part(entry)).lower() if len(entry.run.reaches) > 1 else ""
    return plot_text(f"{group.name}, {part}" if part else group.name, 40)


def _line_of(style: dict[str, Any]) -> dict[str, Any]:
    shown = {name: style[name] for name in ("name", "color", "dash", "width")}
    return shown | {"showlegend": style["first"]}


def _last(entry: Entry) -> Profile | None:
    part = drawn_part(entry)
    known = [moment.profiles[part] for moment in entry.run.moments if part in moment.profiles]
    return known[-1] if known else None


def _reach_dot(profile: Profile, style: dict[str, Any]) -> list[Figure]:
    """Mark where a curve is at its reach."""
    shares = dict(zip(profile.lags, profile.relative("all"), strict=False))
    share = None if profile.reach is None else shares.get(profile.reach)
    if not profile.reach or not share:
        return []
    symbol = "triangle-right" if profile.censored else "circle"
    dot = line([profile.reach], [share], style["name"], style["color"], mode="markers", showlegend=False)
    dot["marker"] = {"color": style["color"], "size": 10, "symbol": symbol}
    return [dot]


def _lags(found: Comparison) -> Iterator[Level]:
    """Yield what is to be marked: the lags, their texts, colours and dashes."""
    needs = sorted({(need.lag or 0, need.censored) for need in (one.run.need for one in found.entries) if need})
    for lag, censored in needs[:MARKS]:
        if lag > 0:
            yield lag, f"needed {'≥ ' if censored else ''}{lag:,}", "--warn", "solid"
    windows = {one.run.window for one in found.entries if one.run.window is not None and one.run.window > 0}
    for window in sorted(windows)[:MARKS]:
        yield window, f"window {window:,}", "--muted", "dash"


def _mark(found: Comparison, layout: Figure, far: list[float]) -> None:
    marks = sorted(_lags(found))
    furthest = max([*far, *(float(lag) for lag, *_ in marks)])
    layout["xaxis"] = lag_axis(furthest)
    for at, (lag, told, color, dash) in enumerate(marks):
        right = math.log10(lag) > 0.6 * math.log10(furthest)
        mark_lag(layout, lag, told, color, right, height=0.99 - 0.07 * at, logarithmic=True, dash=dash)
