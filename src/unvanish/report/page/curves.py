"""The curves that both pages draw: a norm along time, a fitted rate, the mark of the reach."""

from __future__ import annotations

import math

from unvanish.report.page.axes import FEWER, LOWEST_EXPONENT, Figure, Series, any_known, line, positive, thinned
from unvanish.report.page.profile import Profile

STATE_COLOURS = ("--series-1", "--series-2", "--series-3", "--series-4")
# Beside its colour each curve has a dash of its own, for readers who do not tell the colours apart.
STATE_DASHES = ("solid", "dash", "dashdot", "longdash")


def along_time(name: str, place: int, norms: Series, before: Series) -> list[Figure]:
    """Draw a norm over the time steps of a window, and what it was before where that is known."""
    drawn, color = [], STATE_COLOURS[place % len(STATE_COLOURS)]
    for label, values, style in (
        (name, norms, {"width": 2.5, "dash": STATE_DASHES[place % len(STATE_DASHES)]}),
        (f"{name}, first", before, {"width": 1.5, "opacity": 0.6, "dash": "dot"}),
    ):
        kept = positive(values)
        if any_known(kept):
            at, shown = thinned(list(range(len(kept))), kept, FEWER)
            drawn.append(line(at, shown, label, color, **style))
    return drawn


def fitted_line(profile: Profile, curve: Series) -> list[Figure]:
    """Draw the fitted line, log g(k) = level + rate · k, over the lags that are seen."""
    if profile.rate is None or profile.level is None:
        return []
    lowest = 10.0**LOWEST_EXPONENT
    visible = [lag for lag, value in zip(profile.lags, curve, strict=False) if value and value >= lowest]
    if len(visible) < 2:
        return []
    ends = [visible[0], visible[-1]]
    logs = [profile.level + profile.rate * lag for lag in ends]
    if max(map(abs, logs)) > 600:
        return []
    values: Series = [math.exp(log) for log in logs]
    return [line(ends, values, "fitted rate", "--ink", width=1.5, dash="dash")]


def mark_reach(layout: Figure, profile: Profile) -> None:
    """Draw the reach as a line with its number."""
    if profile.reach is None:
        return
    text = f"reach {'≥ ' if profile.censored else ''}{profile.reach:,}"
    style = {"color": "--accent", "width": 1.5}
    at = profile.reach
    layout["shapes"].append({"type": "line", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": style})
    right = at > (max(profile.lags) + min(profile.lags)) / 2
    layout["annotations"].append(
        {"x": at, "y": 0.98, "yref": "paper", "text": text, "showarrow": False, "font": {"color": "--accent"}}
        | {"xanchor": "right" if right else "left", "yanchor": "top", "xshift": -5 if right else 5}
    )


def mark_need(layout: Figure, need: int, right: bool, *, height: float = 1.0, logarithmic: bool = False) -> None:
    """Draw the needed lag as a line with its number."""
    mark_lag(layout, need, f"needed {need:,}", "--warn", right, height=height, logarithmic=logarithmic)


def mark_lag(
    layout: Figure,
    lag: int,
    told: str,
    color: str,
    right: bool,
    *,
    height: float = 1.0,
    logarithmic: bool = False,
    dash: str = "solid",
) -> None:
    """Draw a lag as a line with its text; a log axis wants a line by value and a text by exponent."""
    style = {"color": color, "width": 2, "dash": dash}
    layout["shapes"].append(
        {"type": "line", "yref": "paper", "x0": lag, "x1": lag, "y0": 0, "y1": 1, "line": style}
    )
    layout["annotations"].append(
        {"x": math.log10(lag) if logarithmic else lag, "y": height, "yref": "paper", "text": told}
        | {"showarrow": False, "font": {"color": color}, "yanchor": "top", "bgcolor": "--paper"}
        | {"xanchor": "right" if right else "left", "xshift": -5 if right else 5}
    )
