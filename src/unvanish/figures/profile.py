"""A profile: g(k) against the lag k, its band, its fitted rate, its reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from unvanish.figures.axes import (
    BLACK,
    GREY,
    LOST,
    LOWEST,
    VERMILION,
    Level,
    Mark,
    across,
    curve,
    legend,
    mark,
    plain_text,
    series,
    share_axis,
    start_of,
    whole_ticks,
)
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, least, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHOLE = "all"  # in plain data: the full state
BUCKETS = 1000  # of a band, whose outline no file needs more finely
STEEPEST = 600  # nats: the exponential of more overflows


def columns(plain: Plain) -> Columns:
    """List every norm by state and lag, with what the full state's may be."""
    lags, norms = plain["lags"], plain["norms"]
    band, unknown = plain.get("band"), [None] * len(lags)
    found: Columns = {name: [] for name in ("part", "state", "lag", "norm", "lower", "upper")}
    for state in (WHOLE, *(name for name in norms if name != WHOLE)):
        banded = band if state == WHOLE and band else {"lower": unknown, "upper": unknown}
        found["part"] += [plain["part"]] * len(lags)
        found["state"] += ["full state" if state == WHOLE else state] * len(lags)
        found["lag"] += lags
        found["norm"] += norms[state]
        found["lower"] += banded["lower"]
        found["upper"] += banded["upper"]
    return found


def draw(axes: Axes, plain: Plain) -> None:
    """Draw the norms of the full state and of each state; mark the reach, and the need where it is known."""
    lags, norms = numbers(plain["lags"]), {name: numbers(values) for name, values in plain["norms"].items()}
    whole = norms.pop(WHOLE)
    start, need = start_of(whole), plain.get("need")
    _band(axes, plain, lags)
    curve(axes, lags, whole, "full state", 1.6, color=BLACK)
    for at, (state, values) in enumerate(norms.items() if len(norms) > 1 else ()):
        color, dash, _ = series(at)
        curve(axes, lags, values, plain_text(state), 0.8, color=color, linestyle=dash)
    _fit(axes, plain, worth_seeing(lags, whole, need))
    frame(axes, lags, [whole, *norms.values()], need, start)
    marks = [reach_mark(axes, lags, whole, plain["reach"], plain["censored"])]
    mark(axes, [*marks, *need_marks(need)])
    legend(axes)


def frame(
    axes: Axes, lags: Sequence[float], curves: Sequence[Sequence[float]], need: float | None, start: float = 1.0
) -> None:
    """Make the axes of profiles, with the line under which a gradient counts as lost."""
    share_axis(axes, [value for values in curves for value in values], start)
    axes.set_xlim(0, max(worth_seeing(lags, values, need) for values in curves))
    whole_ticks(axes)
    axes.set_xlabel("lag $k$ (steps)")
    axes.set_ylabel("gradient norm $g(k)$")
    across(axes, [Level("one per cent", LOST * start, "1 %")])


def worth_seeing(lags: Sequence[float], norms: Sequence[float], need: float | None) -> float:
    """Leave out the far lags where nothing is left on the picture, but for the needed one."""
    lowest = start_of(norms) * 10.0**LOWEST
    seen = [lag for lag, norm in zip(lags, norms, strict=True) if norm >= lowest]
    furthest = max([1.0, *lags])
    return max(min(furthest, max(10.0, 1.1 * max(seen, default=0.0))), 1.1 * min(need or 0.0, furthest))


def reach_mark(
    axes: Axes, lags: Sequence[float], norms: Sequence[float], reach: int, censored: bool, color: str = BLACK
) -> Mark:
    """Put a dot where the curve is at its reach, an arrowhead where the true reach lies further back.

    The limits of the axes have to stand.
    """
    shape = ">" if censored else "o"
    at = [(lag, norm) for lag, norm in zip(lags, norms, strict=True) if lag == reach]
    low, high = axes.get_ylim()
    for lag, norm in at:
        axes.plot(lag, norm, shape, color=color, clip_on=not low <= norm <= high, gid="at the reach")
    return Mark("reach", reach, f"reach {least(reach, censored)}")


def need_marks(need: float | None, censored: bool = False) -> list[Mark]:
    """Mark the needed lag, where one is known."""
    return [] if need is None else [Mark("need", need, f"needed {least(need, censored)}", VERMILION, (0, (5, 2)))]


def _band(axes: Axes, plain: Plain, lags: Sequence[float]) -> None:
    band: Mapping[str, Sequence[float]] | None = plain.get("band")
    if band is None or band["lower"] == band["upper"]:
        return
    wide = math.ceil(len(lags) / BUCKETS)
    starts = range(0, len(lags), wide)
    low = [min(numbers(band["lower"][at : at + wide])) for at in starts]
    high = [max(numbers(band["upper"][at : at + wide])) for at in starts]
    axes.fill_between(lags[::wide], low, high, color=BLACK, alpha=0.15, linewidth=0, gid="band")


def _fit(axes: Axes, plain: Plain, last: float) -> None:
    """Draw log g(k) = level + rate · k over the lags that are seen."""
    rate, level = plain["rate"], plain["level"]
    if rate is None or level is None or not abs(rate * last) + abs(level) < STEEPEST:
        return
    values = [math.exp(level), math.exp(level + rate * last)]
    told = f"fit: {short(rate, sign=True)} nats/step"
    curve(axes, [0.0, last], values, told, 0.5, color=GREY, linestyle=(0, (2, 2)), zorder=1.5)


def table(plain: Plain) -> list[Table]:
    """Tell what was found in one row."""
    header = ("part", "lags", "rate, nats per step", "reach, steps")
    reach = least(plain["reach"], plain["censored"])
    return [Table(header, [(plain["part"], f"{len(plain['lags']):,}", short(plain["rate"], sign=True), reach)])]


NORMS = View(columns, draw)
PROFILE = Kind({"norms": NORMS}, table)
