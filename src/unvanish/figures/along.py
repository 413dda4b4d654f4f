"""The gradient at the steps of one window: its norms as they were recorded, and the terms that it is the sum of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unvanish.figures.axes import BLACK, GREY, curve, legend, plain_text, series_style, share_axis, whole_ticks
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN = 7  # curves: a legend has room for no more
LOWEST = -6  # decades


# -- a recording -------------------------------------------------------------------------------------------------


def norms(plain: Plain) -> Columns:
    """List the norms by part, state and step."""
    found: Columns = {name: [] for name in ("part", "state", "step", "norm")}
    for part, state, values in _tracks(plain):
        found["part"] += [part] * len(values)
        found["state"] += [state] * len(values)
        found["step"] += range(len(values))
        found["norm"] += values
    return found


def _tracks(plain: Plain) -> Iterator[tuple[str, str, list[float]]]:
    for part, states in plain["norms"].items():
        for state, values in states.items():
            yield part, state, values


def draw_norms(axes: Axes, plain: Plain) -> None:
    """Draw the norm of the gradient of the loss at every step, of every part and state."""
    drawn = list(_tracks(plain))[:DRAWN]
    for at, (part, state, values) in enumerate(drawn):
        style = series_style(at, len(values))
        curve(axes, list(map(float, range(len(values)))), numbers(values), _name(part, state), **style)
    known = [value for _, _, values in drawn for value in numbers(values) if math.isfinite(value) and value > 0]
    share_axis(axes, known, max(known, default=1.0))
    axes.set_xlim(0, max([1, *(len(values) - 1 for _, _, values in drawn)]))
    whole_ticks(axes)
    axes.set_xlabel("time step $t$")
    axes.set_ylabel(r"$\|\partial L/\partial s_t\|$")
    legend(axes)


def _name(part: str, state: str) -> str:
    return plain_text(f"{part}, {state}")


def table_of_norms(plain: Plain) -> list[Table]:
    """Tell the norms at both ends."""
    rows = [
        (
            part,
            state,
            f"{len(values):,}",
            short(values[0] if values else None),
            short(values[-1] if values else None),
        )
        for part, state, values in _tracks(plain)
    ]
    return [Table(("part", "state", "steps", "norm at the first", "at the last"), rows)]


# -- a decomposition ---------------------------------------------------------------------------------------------


def lags(plain: Plain) -> Columns:
    """List the mean norm of the terms of each lag, by parameter."""
    found: Columns = {"parameter": [], "lag": [], "norm": []}
    for name, values in _by_lag(plain):
        found["parameter"] += [name] * len(values)
        found["lag"] += range(len(values))
        found["norm"] += values
    return found


def _by_lag(plain: Plain) -> Iterator[tuple[str, list[float]]]:
    for name, rows in plain["norms"].items():
        square = [numbers(row) for row in rows]
        steps = range(len(square))
        yield name, [sum(square[t][t - lag] for t in steps[lag:]) / (len(steps) - lag) for lag in steps]


def draw_lags(axes: Axes, plain: Plain) -> None:
    """Draw the mean norm of the terms of each lag."""
    found, known = list(_by_lag(plain))[:DRAWN], list[float]()
    for at, (name, values) in enumerate(found):
        style = series_style(at, len(values))
        curve(axes, list(map(float, range(len(values)))), values, plain_text(name), **style)
        known += [value for value in values if math.isfinite(value) and value > 0]
    share_axis(axes, known, max(known, default=1.0))
    axes.set_xlim(0, max([1, *(len(values) - 1 for _, values in found)]))
    whole_ticks(axes)
    axes.set_xlabel("lag $t - k$ (steps)")
    axes.set_ylabel("mean norm of the terms")
    legend(axes)


def terms(plain: Plain) -> Columns:
    """List the norm of every term: the loss of a step, by way of the parameter's use at an earlier one."""
    found: Columns = {"parameter": [], "loss_step": [], "step": [], "norm": []}
    for name, rows in plain["norms"].items():
        for t, row in enumerate(rows):
            found["parameter"] += [name] * (t + 1)
            found["loss_step"] += [t] * (t + 1)
            found["step"] += range(t + 1)
            found["norm"] += row[: t + 1]
    return found


def draw_terms(axes: Axes, plain: Plain) -> None:
    """Draw the norms of the terms of all parameters together, as shares of the largest, in decades."""
    squares = [[numbers(row) for row in rows] for rows in plain["norms"].values()]
    count = max(map(len, squares), default=0)
    whole = [[math.sqrt(sum(one[t][k] ** 2 for one in squares)) for k in range(count)] for t in range(count)]
    largest = max((value for row in whole for value in row if math.isfinite(value)), default=0.0) or 1.0
    shown = [[math.log10(value / largest) if 0 < value < math.inf else math.nan for value in row] for row in whole]
    if count:
        image = axes.imshow(shown, cmap="cividis", vmin=LOWEST, vmax=0, aspect="auto", gid="terms")
        scale = axes.inset_axes((1.03, 0, 0.03, 1))
        axes.figure.colorbar(image, cax=scale, label=r"$\log_{10}$ of the largest")
    axes.plot([0, max(count - 1, 1)], [0, max(count - 1, 1)], color=GREY if count else BLACK, linewidth=0.5)
    whole_ticks(axes)
    whole_ticks(axes, "y")
    axes.set_xlabel("step $k$ of the parameter's use")
    axes.set_ylabel("step $t$ of the loss")


def table_of_terms(plain: Plain) -> list[Table]:
    """Tell the norms at lag 0 and at the farthest, and how well the sum agrees with autograd."""
    rows = [(name, short(values[0]), short(values[-1])) for name, values in _by_lag(plain) if values]
    audit = Table(("steps", "audit"), [(f"{len(plain['losses']):,}", short(plain["audit"]))])
    return [Table(("parameter", "mean norm at lag 0", "at the farthest"), rows), audit]


RECORDING = Kind({"norms": View(norms, draw_norms, lambda plain: bool(plain["norms"]))}, table_of_norms)
DECOMPOSITION = Kind(
    {"lags": View(lags, draw_lags), "terms": View(terms, draw_terms, height=lambda _: 2.8)}, table_of_terms
)
