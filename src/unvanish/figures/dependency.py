"""What data need: the gain of a context by its length, and the dependence pair by pair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unvanish.figures.axes import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    Level,
    Mark,
    Style,
    across,
    curve,
    lag_axis,
    legend,
    mark,
    series,
    whole_ticks,
)
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, least, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENOUGH = 0.99  # of what can be predicted at all


def gains(plain: Plain) -> Columns:
    """List what each length of context takes off the held-out loss."""
    found = plain["curve"]
    return {
        "context": found["lags"],
        "gain": found["gain"],
        "standard_error": found["error"],
        "unit": [found["unit"]] * len(found["lags"]),
    }


def pairs(plain: Plain) -> Columns:
    """List the dependence of pairs by the lag between them, beside what chance gives."""
    names = {
        "lag": "lags",
        "dependence": "values",
        "raw": "raw",
        "chance_mean": "null_mean",
        "chance_edge": "null_high",
        "p_value": "p_values",
        "significant": "significant",
        "pairs": "samples",
    }
    columns: Columns = {name: plain[field] for name, field in names.items()}
    return columns | {"unit": [plain["unit"]] * len(plain["lags"])}


def draw_gains(axes: Axes, plain: Plain) -> None:
    """Draw the gain with its standard error, the 99 % that is enough, and the needed lag."""
    found = plain["curve"]
    lags, gain, error = numbers(found["lags"]), numbers(found["gain"]), numbers(found["error"])
    low = [one - spread for one, spread in zip(gain, error, strict=True)]
    high = [one + spread for one, spread in zip(gain, error, strict=True)]
    axes.fill_between(
        lags, low, high, color=BLUE, alpha=0.2, linewidth=0, gid="standard error", label="± standard error"
    )
    few: Style = {"marker": "o"} if len(lags) <= 15 else {}
    curve(axes, lags, gain, "gain", color=BLACK, **few)
    lag_axis(axes, lags)
    top = max([one for one in gain if math.isfinite(one)], default=0.0)
    bottom = min([0.0, *(one for one in gain if math.isfinite(one))])
    axes.set_ylim(bottom, 1.15 * top if top > 0 else 1.0)
    if top > 0:
        across(axes, [Level("enough", ENOUGH * top, "99 %")])
    axes.set_xlabel("context $k$ (steps)")
    axes.set_ylabel(f"gain ({found['unit']})")
    legend(axes)
    text = f"needed {least(plain['needed'], plain['censored'])}"
    mark(axes, [Mark("need", plain["needed"], text, VERMILION, (0, (5, 2)))])


def draw_pairs(axes: Axes, plain: Plain) -> None:
    """Draw what is more than chance gives in the mean, what chance alone stays under, and the visible lag."""
    lags, values = numbers(plain["lags"]), numbers(plain["values"])
    chance = zip(numbers(plain["null_high"]), numbers(plain["null_mean"]), strict=True)
    edge = [high - mean for high, mean in chance]
    style: Style = {"linestyle": "none", "marker": "o", "markersize": 2.5 if len(lags) < 300 else 1.5}
    for name, wanted, color, face in (
        ("significant", True, BLACK, BLACK),
        ("not significant", False, GREY, "white"),
    ):
        kept = [at for at, significant in enumerate(plain["significant"]) if significant == wanted]
        if kept:
            shown = [lags[at] for at in kept], [values[at] for at in kept]
            curve(axes, *shown, name, color=color, markerfacecolor=face, **style)
    curve(axes, lags, edge, "chance", 0.8, color=BLUE, linestyle=series(1)[1])
    if plain["kind"] == "symbols":
        lag_axis(axes, lags)
        _log_values(axes, [*values, *edge])
        axes.set_ylabel(f"mutual information ({plain['unit']})")
    else:  # a period is seen where lags are evenly spaced
        axes.set_xlim(0, 1.02 * max(lags, default=1.0))
        whole_ticks(axes)
        known = [one for one in [*values, *edge] if math.isfinite(one)]
        axes.set_ylim(min([0.0, *known]), 1.1 * max([0.0, *known]) or 1.0)
        axes.set_ylabel(f"dependence ({plain['unit']})" if plain["unit"] == "nats" else plain["unit"])
    axes.set_xlabel("lag $k$ (steps)")
    legend(axes, above=3)
    if plain["visible"]:
        text = f"visible {least(plain['visible'], plain['visible_censored'])}"
        mark(axes, [Mark("visible", plain["visible"], text)], over=1)


def _log_values(axes: Axes, values: list[float]) -> None:
    """Make y a log axis of what is positive, at most four decades under the largest."""
    known = [one for one in values if 0 < one < math.inf]
    top, low = max(known, default=1.0), min(known, default=0.1)
    axes.set_ylim(max(low, top * 1e-4) / 1.5, top * 2)
    axes.set_yscale("log", nonpositive="mask")


def table(plain: Plain) -> list[Table]:
    """Tell both lags, and where the dependence is strongest."""
    top = max(range(len(plain["values"])), key=lambda at: plain["values"][at])
    strongest = f"{short(plain['values'][top])} {plain['unit']} at lag {plain['lags'][top]:,}"
    row = (
        plain["kind"],
        least(plain["needed"], plain["censored"]),
        least(plain["visible"], plain["visible_censored"]),
        strongest,
        plain["note"],
    )
    return [Table(("kind", "needed, steps", "visible, steps", "strongest pair", "note"), [row])]


DEPENDENCY = Kind({"gain": View(gains, draw_gains), "pairwise": View(pairs, draw_pairs)}, table)
