"""Where a step loses the gradient: activations that are flat, states that forget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unvanish.figures.axes import BLACK, BLUE, curve, lag_axis, legend, named_rows
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, numbers, share, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.2  # inches


def activations(plain: Plain) -> Columns:
    """List the activations."""
    names = {"activation": "name", "function": "function", "saturated": "saturated", "mean": "mean"}
    names |= {"slope": "slope", "dead": "dead"}
    return _listed(plain, "activations", names)


def memories(plain: Plain) -> Columns:
    """List what each state keeps of itself."""
    names = {"state": "state", "gate": "gate", "share_kept": "keep", "time_constant": "time_constant"}
    return _listed(plain, "memories", names | {"longest_time_constant": "longest"})


def _listed(plain: Plain, group: str, names: dict[str, str]) -> Columns:
    found: Columns = {"part": [plain["part"]] * len(plain[group])}
    return found | {word: [one[name] for one in plain[group]] for word, name in names.items()}


def draw_activations(axes: Axes, plain: Plain) -> None:
    """Draw the share of saturated values and the mean slope of each activation."""
    found = plain["activations"]
    rows = list(map(float, range(len(found))))
    _dots(axes, numbers([one["saturated"] for one in found]), rows, "saturated", marker="s", color=BLACK)
    slopes = numbers([one["slope"] for one in found])
    _dots(axes, slopes, rows, "mean slope / steepest", marker="o", color=BLUE, markerfacecolor="white")
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share")
    named_rows(axes, [one["name"] for one in found])
    legend(axes, above=2)


def draw_memories(axes: Axes, plain: Plain) -> None:
    """Draw the time constant of each state: of the mean share that is kept, and of the unit that keeps most."""
    found = plain["memories"]
    rows = list(map(float, range(len(found))))
    means, longest = (numbers([one[name] for one in found]) for name in ("time_constant", "longest"))
    _dots(axes, means, rows, "mean", marker="o", color=BLACK)
    _dots(axes, longest, rows, "longest unit", marker="D", color=BLUE, markerfacecolor="white")
    lag_axis(axes, [one for one in [*means, *longest] if math.isfinite(one)])
    axes.set_xlabel(r"time constant $1/(1-\bar{f})$ (steps)")
    named_rows(axes, [f"{one['state']} (gate {one['gate']})" if one["gate"] else one["state"] for one in found])
    legend(axes, above=2)


def _dots(axes: Axes, x: list[float], y: list[float], name: str, **style: Any) -> None:
    curve(axes, x, y, name, linestyle="none", clip_on=False, **style)


def table(plain: Plain) -> list[Table]:
    """Tell activations and memories."""
    one = [(found["name"], found["function"], *map(share, _shares(found))) for found in plain["activations"]]
    other = [
        (found["state"], found["gate"] or "–", share(found["keep"]), *map(short, _constants(found)))
        for found in plain["memories"]
    ]
    tables = [
        Table(("activation", "function", "saturated", "mean slope / steepest", "dead"), one),
        Table(("state", "gate", "kept in a step", "time constant, steps", "longest, steps"), other),
    ]
    return [shown for shown in tables if shown.rows]


def _shares(found: Plain) -> tuple[float, ...]:
    return found["saturated"], found["slope"], found["dead"]


def _constants(found: Plain) -> tuple[float, ...]:
    return found["time_constant"], found["longest"]


def _tall(group: str, plain: Plain) -> float:
    return 0.75 + ROW * len(plain[group])


ACTIVATIONS = View(
    activations,
    draw_activations,
    lambda plain: bool(plain["activations"]),
    lambda plain: _tall("activations", plain),
)
MEMORIES = View(
    memories, draw_memories, lambda plain: bool(plain["memories"]), lambda plain: _tall("memories", plain)
)
SATURATION = Kind({"activations": ACTIVATIONS, "memories": MEMORIES}, table)
