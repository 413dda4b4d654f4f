"""The record of a run: loss and reach as training goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unvanish.figures.answers import CONFUSION, FORECAST
from unvanish.figures.axes import (
    BLACK,
    GREY,
    VERMILION,
    Level,
    Style,
    across,
    curve,
    legend,
    plain_text,
    series,
    whole_ticks,
)
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, least, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALARS = (str, int, float, bool, type(None))


def lines_of(kind: str) -> View:
    """Return the table of one kind of line: a row for each, its plain values as columns."""

    def columns(plain: Plain) -> Columns:
        lines = plain["lines"].get(kind, [])
        flat = [name for line in lines for name, value in line.items() if isinstance(value, SCALARS)]
        names = dict.fromkeys(["step", *flat])
        return {name: [line.get(name) for line in lines] for name in names if name != "kind"}

    return View(columns)


def losses(plain: Plain) -> Columns:
    """List the losses in training and in validation, by step."""
    found: Columns = {"step": [], "phase": [], "loss": []}
    for phase, kind in (("training", "step"), ("validation", "valid")):
        lines = plain["lines"].get(kind, [])
        found["step"] += [line["step"] for line in lines]
        found["phase"] += [phase] * len(lines)
        found["loss"] += [line.get("loss") for line in lines]
    return found


def reaches(plain: Plain) -> Columns:
    """List how far back the gradient of each part reached, by step."""
    found = [(line["step"], part, one) for line, part, one in _nested(plain, "valid", "reach")]
    return {
        "step": [step for step, _, _ in found],
        "part": [part for _, part, _ in found],
        "reach": [one.get("steps") for _, _, one in found],
        "censored": [bool(one.get("censored")) for _, _, one in found],
        "rate": [one.get("rate") for _, _, one in found],
    }


def profiles(plain: Plain) -> Columns:
    """List the norms of all profiles, by step."""
    found: Columns = {name: [] for name in ("step", "part", "state", "lag", "norm")}
    for line, part, one in _nested(plain, "flow", "profiles"):
        for state, norms in one.get("norms", {}).items():
            count = min(len(norms), len(one.get("lags", [])))
            found["step"] += [line["step"]] * count
            found["part"] += [part] * count
            found["state"] += ["full state" if state == "all" else state] * count
            found["lag"] += one["lags"][:count]
            found["norm"] += norms[:count]
    return found


def _nested(plain: Plain, kind: str, field: str) -> Iterator[tuple[Plain, str, Plain]]:
    for line in plain["lines"].get(kind, []):
        for part, one in (line.get(field) or {}).items():
            yield line, part, one


def draw_loss(axes: Axes, plain: Plain) -> None:
    """Draw the loss in training and in validation."""
    found, known = losses(plain), list[float]()
    styles: dict[str, Style] = {
        "training": {"color": GREY, "thin": 0.6},
        "validation": {"color": BLACK, "marker": "o"},
    }
    for name, style in styles.items():
        at = [row for row, phase in enumerate(found["phase"]) if phase == name]
        if at:
            values = numbers([found["loss"][row] for row in at])
            curve(axes, [found["step"][row] for row in at], values, name, **style)
            known += [loss for loss in values if math.isfinite(loss)]
    if known:
        low, high = min(known), max(known)
        spare = 0.06 * (high - low) or 0.5
        axes.set_ylim(low - spare, high + spare)
    _steps(axes, plain)
    in_nats = any(line.get("bits") is not None for line in plain["lines"].get("valid", []))
    axes.set_ylabel("loss (nats)" if in_nats else "loss")
    legend(axes)


def draw_reach(axes: Axes, plain: Plain) -> None:
    """Draw the reach of every part, with an arrowhead where it is a lower bound, beside window and need."""
    found, furthest = reaches(plain), [1.0]
    for at, part in enumerate(dict.fromkeys(found["part"])):
        color, dash, shape = series(at)
        rows = [row for row, one in enumerate(found["part"]) if one == part]
        steps, values = [found["step"][row] for row in rows], numbers([found["reach"][row] for row in rows])
        curve(axes, steps, values, plain_text(part), color=color, linestyle=dash, marker=shape)
        bounds = [place for place, row in enumerate(rows) if found["censored"][row]]
        if bounds:
            at_least = [steps[place] for place in bounds], [values[place] for place in bounds]
            style: Style = {"color": color, "marker": "^", "markerfacecolor": "white", "linestyle": "none"}
            drawn = curve(axes, *at_least, f"{plain_text(part)}, at least", zorder=3, markersize=7, **style)
            drawn.set_label("_")  # told once for all parts
        furthest += [value for value in values if math.isfinite(value)]
    if any(found["censored"]):
        axes.plot([], [], "^", color=BLACK, markerfacecolor="white", markersize=7, label="at least")
    levels = list(_levels(plain))
    axes.set_ylim(0, 1.12 * max([*furthest, *(level.at for level in levels)]))
    across(axes, levels)
    _steps(axes, plain)
    whole_ticks(axes, "y")
    axes.set_ylabel("reach (steps)")
    legend(axes)


def _levels(plain: Plain) -> Iterator[Level]:
    if plain["window"] is not None:
        yield Level("window", plain["window"], f"window {least(plain['window'])}")
    need = next((line for line in plain["lines"].get("need", []) if line.get("lag") is not None), None)
    if need is not None:
        text = f"needed {least(need['lag'], bool(need.get('censored')))}"
        yield Level("needed", need["lag"], text, VERMILION, (0, (5, 2)))


def _steps(axes: Axes, plain: Plain) -> None:
    last = max((line["step"] for lines in plain["lines"].values() for line in lines), default=1)
    axes.set_xlim(0, 1.02 * max(last, 1))
    whole_ticks(axes)
    axes.set_xlabel("training step")


def table(plain: Plain) -> list[Table]:
    """Tell where the run stands."""
    valid = plain["lines"].get("valid", [])
    last = valid[-1] if valid else {}
    reached = ", ".join(
        f"{part} {least(one.get('steps'), bool(one.get('censored')))}"
        for part, one in (last.get("reach") or {}).items()
    )
    steps = max((line["step"] for lines in plain["lines"].values() for line in lines), default=0)
    need = next(iter(_need(plain)), "–")
    row = (plain["name"], f"{steps:,}", short(last.get("loss")), reached or "–", least(plain["window"]), need)
    return [Table(("run", "steps", "validation loss", "reach, steps", "window, steps", "needed, steps"), [row])]


def _need(plain: Plain) -> list[str]:
    return [
        least(one["lag"], bool(one.get("censored"))) for one in plain["lines"].get("need", []) if one.get("lag")
    ]


KINDS = ("step", "valid", "event", "need", "sample")
RUN = Kind(
    {
        "loss": View(losses, draw_loss, lambda plain: bool(losses(plain)["step"])),
        "reach": View(reaches, draw_reach, lambda plain: bool(reaches(plain)["part"])),
        "forecast": FORECAST,
        "confusion": CONFUSION,
        "profiles": View(profiles),
        **{kind: lines_of(kind) for kind in KINDS},
    },
    table,
)
