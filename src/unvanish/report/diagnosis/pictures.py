"""The pictures of a diagnosis, as plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from unvanish.record.schema import number
from unvanish.report.diagnosis.read import Dependency, Findings, Memory, Part, Point, Split
from unvanish.report.page.axes import (
    FEWER,
    GRADIENT_LEFT,
    LOWEST_EXPONENT,
    PULL,
    STEPS_BACK,
    Figure,
    Series,
    any_known,
    canvas,
    lag_axis,
    line,
    log_axis,
    one_per_cent,
    picked,
    positive,
    rounded,
    share_axis,
    tell_thinned,
    thinned,
)
from unvanish.report.page.curves import STATE_COLOURS, STATE_DASHES, along_time, fitted_line, mark_need, mark_reach
from unvanish.report.page.markup import plot_text
from unvanish.report.page.wording import layer_title, signed

PARTS_DRAWN = 6
# A log axis of lags crowds at its far end: so many places in each decade are more than a screen shows.
PLACES_PER_DECADE = 100
UPPER, LOWER = [0.58, 1.0], [0.0, 0.5]
FARTHEST_EIGENVALUE = 1e6
EIGENVALUES = 300  # that are drawn
MEMORY = "time constant 1 / (1 − mean of the gate), in time steps"


def overview_picture(found: Findings) -> Figure | None:
    """Draw what the data need above what is left of the gradient, on one axis of steps back."""
    parts = drawn_parts(found.parts)
    dependency = found.dependency if found.dependency is not None and found.dependency.strongest else None
    if not parts and dependency is None:
        return None
    layout = canvas(STEPS_BACK, GRADIENT_LEFT, legend=True)
    layout |= {"shapes": [], "annotations": []}
    data = _overview_profiles(parts, layout) if parts else []
    if dependency is not None:
        data += _overview_dependency(dependency, layout, above=bool(parts))
    lags = [lag for part in parts for lag in part.profile.lags]
    lags += [point.lag for point in dependency.points] if dependency else []
    furthest = max([*lags, float(found.need or 1)])
    layout["xaxis"] = lag_axis(furthest)
    if found.need is not None:
        right = math.log10(found.need) > math.log10(furthest) / 2
        # a gradient that grows fills the top of the picture
        height = 0.1 if any(map(grows, parts)) and dependency is None else 1.0
        mark_need(layout, found.need, right, height=height, logarithmic=True)
    return {"data": data, "layout": layout}


def gain_picture(found: Dependency) -> Figure | None:
    """Draw how much is predicted with how many steps of context."""
    gains = [one for one in found.gains if one.lag >= 1]
    if len(gains) < 2:
        return None
    lags = [one.lag for one in gains]
    upper = rounded(one.value + (one.error or 0.0) for one in gains)
    lower = rounded(one.value - (one.error or 0.0) for one in gains)
    unit = plot_text(found.gain_unit)
    edge = {"mode": "lines", "showlegend": False}
    layout = canvas("steps of context", unit or "gain", legend=False) | {"shapes": [], "annotations": []}
    layout["xaxis"] = lag_axis(max(lags), "steps of context")
    data = [
        line(lags, lower, "less its error", "--hairline", width=1, **edge),
        line(lags, upper, "and its error", "--hairline", width=1, fill="tonexty", fillcolor="--hairline", **edge),
        line(lags, rounded(one.value for one in gains), "gain", "--ink"),
    ]
    if found.needed:
        right = math.log10(found.needed) > math.log10(max(lags)) / 2
        mark_need(layout, found.needed, right, height=0.2, logarithmic=True)
    return {"data": data, "layout": layout}


def drawn_parts(parts: Sequence[Part]) -> list[Part]:
    """Choose the parts whose profiles are drawn together: of many the shortest reach, the longest, some between."""
    known = [part for part in parts if any_known(_shares(part, "all")[1:])]
    ordered = sorted(range(len(known)), key=lambda at: known[at].reach.steps or 0)
    kept = {ordered[place] for place in picked(len(ordered), PARTS_DRAWN)}
    return [part for at, part in enumerate(known) if at in kept]


def grows(part: Part) -> bool:
    """Tell whether a gradient is anywhere clearly larger than where it began."""
    return any(share is not None and share > 2 for share in _shares(part, "all"))


def profile_picture(part: Part, need: int | None) -> Figure | None:
    """Draw norm against lag: the full state, each state, the fitted rate, 1 %, the reach, the needed lag."""
    profile = part.profile
    whole = _shares(part, "all")
    if len(profile.lags) < 2 or not any_known(whole):
        return None
    names = [name for name in profile.norms if name != "all"]
    lags, shares = thinned(profile.lags, whole, FEWER)
    data = [line(lags, shares, "full state", STATE_COLOURS[0], width=3.5)]
    for at, name in enumerate(names if len(names) > 1 else []):
        lags, shares = thinned(profile.lags, _shares(part, name), FEWER)
        if any_known(shares):
            color = STATE_COLOURS[1 + at % (len(STATE_COLOURS) - 1)]
            dash = STATE_DASHES[1 + at % (len(STATE_DASHES) - 1)]
            data.append(line(lags, shares, plot_text(name), color, width=1.5, dash=dash))
    layout = canvas(STEPS_BACK, GRADIENT_LEFT, legend=True)
    layout["yaxis"].update(share_axis(value for trace in data for value in trace["y"]))
    layout["xaxis"].update(range=[0, _last_worth_seeing(profile.lags, whole, need)])
    layout["shapes"], layout["annotations"] = [one_per_cent()], []
    tell_thinned(layout, len(profile.lags), FEWER)
    data += fitted_line(profile, whole)
    reach = part.reach
    mark_reach(layout, dataclasses.replace(profile, reach=reach.steps, censored=reach.censored))
    if need is not None and need <= max(profile.lags):
        mark_need(layout, need, need > layout["xaxis"]["range"][1] / 2, height=0.88)
    return {"data": data, "layout": layout}


def spectrum_picture(part: Part) -> Figure | None:
    """Draw the eigenvalues of one step's Jacobian in the complex plane, with the unit circle."""
    if not part.eigenvalues:
        return None
    ordered = shown = part.eigenvalues
    if len(ordered) > EIGENVALUES:
        ordered = sorted(ordered, key=lambda value: -math.hypot(*value))
        shown = [ordered[at] for at in picked(len(ordered), EIGENVALUES)]
    sizes = [min(math.hypot(*value), FARTHEST_EIGENVALUE) for value in shown]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(value[0] for value in shown),
        "y": rounded(value[1] for value in shown),
        "name": "eigenvalues",
        "marker": {"color": STATE_COLOURS[0], "size": 7, "opacity": 0.75},
    }
    layout = canvas("real part, Re λ", "imaginary part, Im λ", legend=False)
    if len(shown) < len(ordered):
        layout["thinned"] = (
            f"Drawn are {len(shown)} of {len(ordered):,} points, the largest and the smallest among them."
        )
    edge = round(1.12 * max(1.0, *sizes), 4)
    layout["xaxis"] |= {"range": [-edge, edge], "showgrid": True, "zeroline": True, "zerolinecolor": "--grid"}
    layout["yaxis"] |= {"range": [-edge, edge], "scaleanchor": "x", "zeroline": True, "zerolinecolor": "--grid"}
    circle = {"type": "circle", "x0": -1, "x1": 1, "y0": -1, "y1": 1, "line": {"color": "--ink", "width": 1.2}}
    layout["shapes"] = [circle]
    return {"data": [points], "layout": layout}


def exponent_picture(part: Part) -> Figure | None:
    """Draw the Lyapunov exponents, the largest first, on both sides of zero."""
    if not part.exponents:
        return None
    kept = picked(len(part.exponents), 64)
    data = []
    for name, color, chosen in (
        ("shrinks", STATE_COLOURS[0], [at for at in kept if part.exponents[at] <= 0]),
        ("grows", STATE_COLOURS[1], [at for at in kept if part.exponents[at] > 0]),
    ):
        if chosen:
            x, y = [at + 1 for at in chosen], rounded(part.exponents[at] for at in chosen)
            data.append({"type": "bar", "x": x, "y": y, "name": name, "marker": {"color": color}, "width": 0.7})
    layout = canvas("direction i", "Lyapunov exponent λᵢ, in nats per time step", legend=len(data) > 1)
    layout["yaxis"] |= {"zeroline": True, "zerolinecolor": "--ink"}
    layout["xaxis"] |= {"tickformat": "d", "range": [0.4, len(part.exponents) + 0.6]}
    return {"data": data, "layout": layout}


def saturation_picture(part: Part) -> Figure | None:
    """Draw the share of saturated values and the mean slope of each activation."""
    known = [one for one in part.activations if one.saturated is not None or one.slope is not None]
    if not known:
        return None
    names = [plot_text(one.name, 20) for one in known]
    data = [
        _bars("mean slope", names, [one.slope for one in known], STATE_COLOURS[0]),
        _bars("saturated", names, [one.saturated for one in known], STATE_COLOURS[1]),
    ]
    layout = canvas("share, in %", "", legend=True)
    layout["xaxis"] |= {"range": [0, 1.04], "tickformat": ".0%", "showgrid": True}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    layout |= {"barmode": "group", "bargap": 0.35}
    return {"data": data, "layout": layout}


def memory_picture(part: Part, need: int | None) -> Figure | None:
    """Draw the time constant of each state, from the mean to the unit that keeps most, against the needed lag."""
    known = [(one, one.time_constant) for one in part.memories if one.time_constant]
    if not known:
        return None
    names = [plot_text(memory_name(one), 24) for one, _ in known]
    means: Series = [constant for _, constant in known]
    longest: Series = [one.longest if one.longest is not None else None for one, _ in known]
    layout = canvas(MEMORY, "", legend=True)
    furthest = max(value for value in [*means, *longest, float(need or 1)] if value is not None)
    layout["xaxis"] = lag_axis(furthest, MEMORY) | {"showgrid": True}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    layout |= {"shapes": [], "annotations": []}
    data = [
        _dots("mean", names, means, {"color": STATE_COLOURS[0], "size": 11}),
        _dots("longest unit", names, longest, {"color": STATE_COLOURS[1], "size": 10, "symbol": "diamond"}),
    ]
    if need is not None:
        mark_need(layout, need, math.log10(need) > math.log10(max(furthest, 10)) / 2, logarithmic=True)
    return {"data": [trace for trace in data if any_known(trace["x"])], "layout": layout}


def memory_name(memory: Memory) -> str:
    """Name a memory by its state and its gate."""
    return f"{memory.state} (gate {memory.gate})" if memory.gate else memory.state


def split_picture(split: Split) -> Figure | None:
    """Draw what the matrices and what the activations add to the rate, on both sides of zero."""
    shown = [("matrices", split.weights), ("activations", split.activations), ("together", split.rate)]
    known = [(name, value) for name, value in shown if value is not None]
    if len(known) < 2:
        return None
    colours = {"matrices": STATE_COLOURS[0], "activations": STATE_COLOURS[1], "together": "--faint"}
    data = [
        _bars(name, [name], [value], colours[name])
        | {
            "width": 0.55,
            "text": [signed(value)],
        }
        for name, value in known
    ]
    layout = canvas("ln of the factor per step back, in nats", "", legend=False)
    values = [value for _, value in known]
    low, high = min(0.0, *values), max(0.0, *values)
    spare = 0.34 * (high - low) or 1.0
    layout["xaxis"] |= {"zeroline": True, "zerolinecolor": "--ink", "showgrid": True}
    if number(high + spare) is not None and number(low - spare) is not None:
        layout["xaxis"]["range"] = [low - spare, high + spare]
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    return {"data": data, "layout": layout}


def pull_picture(part: Part) -> Figure | None:
    """Draw the norm of the loss's gradient at each time step, each state a line."""
    data = []
    for at, (state, norms) in enumerate(part.loss_norms.items()):
        data += along_time(plot_text(state), at, norms, [])
    if not data:
        return None
    layout = canvas("time step t", PULL, legend=len(part.loss_norms) > 1)
    layout["yaxis"].update(log_axis(value for trace in data for value in trace["y"]))
    tell_thinned(layout, max(map(len, part.loss_norms.values())), FEWER)
    return {"data": data, "layout": layout}


def _overview_profiles(parts: list[Part], layout: Figure) -> list[Figure]:
    curves = [_strongest_each(part.profile.lags, _shares(part, "all")) for part in parts]
    layout["yaxis"].update(share_axis(value for _, shares in curves for value in shares))
    layout["shapes"].append(one_per_cent())
    bottom = 10 ** layout["yaxis"]["range"][0]
    data = []
    for at, (part, (lags, shares)) in enumerate(zip(parts, curves, strict=True)):
        color, dash = STATE_COLOURS[at % len(STATE_COLOURS)], STATE_DASHES[at * 5 // 4 % len(STATE_DASHES)]
        reach, cut = part.reach, part.window if part.window is not None else math.inf
        name = f"{plot_text(layer_title(part.name), 24)}: reach {reach.shown}"
        near = [share if lag <= cut else None for lag, share in zip(lags, shares, strict=True)]
        far = [share if lag >= cut else None for lag, share in zip(lags, shares, strict=True)]
        data.append(line(lags, near, name, color, width=2.5, dash=dash))
        if any_known(far[:-1]):
            data.append(line(lags, far, "cut", color, width=1, dash="dot", showlegend=False))
        if reach.steps:
            top = dict(zip(part.profile.lags, _shares(part, "all"), strict=False)).get(reach.steps)
            style = {"color": color, "width": 1.5, "dash": "dash"}
            ends = {"x0": reach.steps, "x1": reach.steps, "y0": bottom, "y1": max(top or 0.01, 0.01)}
            layout["shapes"].append({"type": "line", **ends, "line": style})
    return data


def _overview_dependency(found: Dependency, layout: Figure, *, above: bool) -> list[Figure]:
    strongest, name = found.strongest or 1.0, "yaxis2" if above else "yaxis"
    points = _strongest_points(found.points)
    lags = [point.lag for point in points]
    shares = positive(number(point.value / strongest) for point in points)
    chance = positive(None if p.chance is None else number(p.chance / strongest) for p in points)
    layout[name] = {"title": {"text": "dependency, as a share of the strongest"}, **share_axis([*shares, *chance])}
    if above:
        layout[name] |= {"domain": UPPER, "anchor": "x"}
        layout["yaxis"]["domain"] = LOWER
    on = {"yaxis": "y2"} if above else {}
    layout["shapes"].append(one_per_cent("y2" if above else "y"))
    floor = 10.0**LOWEST_EXPONENT
    band = {"fill": "tozeroy", "fillcolor": "--hairline"}
    edge = [value if value is None else max(value, floor) for value in chance]
    sure = [share if point.significant else None for share, point in zip(shares, points, strict=True)]
    chancy = [None if point.significant else share for share, point in zip(shares, points, strict=True)]
    drawn = [
        line(lags, edge, "chance alone", "--faint", width=1, mode="lines", **band, **on)
        if any_known(edge)
        else None,
        _points(lags, sure, "dependency in the data", "--ink") | on if any_known(sure) else None,
        _points(lags, chancy, "not significant", "--faint") | on if any_known(chancy) else None,
    ]
    return [trace for trace in drawn if trace is not None]


def _points(lags: list[float], shares: Series, name: str, color: str) -> Figure:
    return {
        **line(lags, shares, name, color, mode="markers"),
        "marker": {"color": color, "size": 4.5, "symbol": "circle" if color == "--ink" else "circle-open"},
    }


def _shares(part: Part, state: str) -> Series:
    """Take a state's norms as shares of the full state's at lag 0; what a log axis cannot show is a gap."""
    lags, norms = part.profile.lags, part.profile.norms
    start = norms.get("all", [None])[0] if lags and lags[0] == 0 and norms.get("all") else None
    if not start:
        return positive(part.profile.relative(state))
    return positive(None if norm is None else number(norm / start) for norm in norms.get(state, []))


def _last_worth_seeing(lags: list[float], shares: Series, need: int | None) -> float:
    """Leave out the far lags where nothing is left on the picture, but for the needed one."""
    furthest, lowest = max(lags), 10.0**LOWEST_EXPONENT
    seen = [lag for lag, share in zip(lags, shares, strict=True) if share is not None and share >= lowest]
    marks = [1.1 * max(seen, default=0.0), 1.1 * (need if need is not None and need <= furthest else 0), 10.0]
    return min(furthest, math.ceil(max(marks)))


def _buckets(lags: Iterable[float]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for at, lag in enumerate(lags):
        if lag >= 1:
            found.setdefault(round(PLACES_PER_DECADE * math.log10(lag)), []).append(at)
    return found


def _strongest_each(lags: list[float], values: Series) -> tuple[list[float], Series]:
    """Keep the largest value of each place on a log axis."""
    kept = [max(places, key=lambda at: values[at] or 0.0) for places in _buckets(lags).values()]
    if kept and kept[-1] != len(lags) - 1:
        kept.append(len(lags) - 1)  # where the curve ends is worth seeing
    return [lags[at] for at in kept], [values[at] for at in kept]


def _strongest_points(points: list[Point]) -> list[Point]:
    buckets = _buckets(point.lag for point in points).values()
    return [points[max(places, key=lambda at: points[at].value)] for places in buckets]


def _bars(name: str, labels: list[str], values: Series, color: str) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "x": rounded(values),
        "y": labels,
        "name": name,
        "marker": {"color": color},
    }


def _dots(name: str, labels: list[str], values: Series, marker: Figure) -> Figure:
    x = rounded(positive(values))
    return {"type": "scatter", "mode": "markers", "x": x, "y": labels, "name": name, "marker": marker}
