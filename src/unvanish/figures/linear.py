"""A linear recurrence: the powers of its matrix, its eigenvalues, and the way of one vector through them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unvanish.figures.axes import BLACK, GREY, Level, Mark, across, curve, legend, mark, series_style, whole_ticks
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, numbers, short
from unvanish.figures.spectrum import EIGENVALUES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPONENTS = 3  # that are drawn
DECADE = math.log(10)
DECADES = 12  # that are worth seeing


def powers(plain: Plain) -> Columns:
    """List the norms of the powers, as logarithms: they may grow past any number."""
    logs = plain["log_powers"]
    return {"step": list(range(len(logs))), "log_norm": logs}


def draw_powers(axes: Axes, plain: Plain) -> None:
    """Draw the norm of W^k beside what its spectral radius alone would make of it."""
    logs = numbers(plain["log_powers"])
    steps = [float(step) for step in range(len(logs))]
    rate = plain["rate"]
    _curve(axes, steps, logs, r"$\|W^k\|_2$", color=BLACK)
    if rate is not None:
        _curve(axes, steps, [rate * step for step in steps], r"$\rho(W)^k$", 0.8, color=GREY, linestyle=(0, (2, 2)))
    _frame(axes, logs, r"$\log_{10}\|W^k\|_2$")
    mark(axes, [Mark("peak", plain["peak"], f"largest at {plain['peak']:,}")])
    legend(axes)


def courses(plain: Plain) -> Columns:
    """List the norm of a vector, the same in closed form, and the size of each component, as logarithms."""
    found: Columns = {name: [] for name in ("step", "quantity", "component", "log_norm")}
    count = len(plain["log_norms"])
    curves: list[tuple[str, int | None, list[Any]]] = [
        ("norm", None, plain["log_norms"]),
        ("closed form", None, plain["log_closed"]),
    ]
    for at, part in enumerate(zip(*plain["log_components"], strict=True), 1):
        curves.append(("component", at, list(part)))
    for name, component, logs in curves:
        found["step"] += range(count)
        found["quantity"] += [name] * count
        found["component"] += [component] * count
        found["log_norm"] += logs
    return found


def draw_course(axes: Axes, plain: Plain) -> None:
    """Draw the norm of a vector and its largest components."""
    logs = numbers(plain["log_norms"])
    steps = [float(step) for step in range(len(logs))]
    _curve(axes, steps, logs, "norm", 1.4, color=BLACK)
    parts = [numbers(part) for part in zip(*plain["log_components"], strict=True)]
    known = [(max(part), at) for at, part in enumerate(parts) if not any(map(math.isnan, part))]
    for place, (_, at) in enumerate(sorted(known, reverse=True)[:COMPONENTS]):
        _curve(axes, steps, parts[at], f"component {at + 1}", 0.8, **series_style(place + 1, len(steps)))
    _frame(axes, logs, r"$\log_{10}$ norm")
    legend(axes)


def _curve(
    axes: Axes, steps: list[float], logs: list[float], name: str, thin: float = 1.0, **style: object
) -> None:
    curve(axes, steps, [log / DECADE for log in logs], name, thin, **style)


def _frame(axes: Axes, logs: list[float], label: str) -> None:
    """Make axes of decades, twelve of them below the highest."""
    known = [log / DECADE for log in logs if math.isfinite(log)] or [0.0]
    high, low = max(known), max(min(known), max(known) - DECADES)
    spare = 0.08 * (high - low) or 0.5
    axes.set_ylim(low - spare, high + spare)
    axes.set_xlim(0, max(len(logs) - 1, 1))
    whole_ticks(axes)
    axes.set_xlabel("step $k$")
    axes.set_ylabel(label)
    across(axes, [Level("one", 0.0, "norm 1")] if low <= 0 <= high else [])


def table(plain: Plain) -> list[Table]:
    """Tell what was found in one row."""
    header = ("units", "rate, nats per step", "largest singular value", "largest power", "eigenvectors")
    growth = f"{short(plain['growth'])} at step {plain['peak']:,}"
    row = (f"{len(plain['eigenvalues']):,}", short(plain["rate"], sign=True), short(plain["norm"]), growth)
    return [Table(header, [(*row, plain["word"])])]


def table_of_course(plain: Plain) -> list[Table]:
    """Tell the first and the last norm."""
    logs = numbers(plain["log_norms"])
    ends = [short(log / DECADE, sign=True) for log in (logs[0], logs[-1])]
    row = (f"{len(logs) - 1:,}", *ends, short(plain["error"]))
    return [Table(("steps", "log10 of the norm at first", "at last", "error of the closed form"), [row])]


EIGEN = EIGENVALUES.within(
    lambda plain: {"part": "W", "eigenvalues": [plain["eigenvalues"]], "radius": plain["radius"]}
)
LINEAR = Kind({"powers": View(powers, draw_powers), "eigenvalues": EIGEN}, table)
COURSE = Kind({"norms": View(courses, draw_course)}, table_of_course)
