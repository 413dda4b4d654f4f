"""A diagnosis: the profiles of its parts against the need, and what each remedy does to the reach."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unvanish.figures.axes import (
    BLACK,
    BLUE,
    curve,
    legend,
    mark,
    named_rows,
    plain_text,
    series,
    whole_ticks,
)
from unvanish.figures.axes import MOST as MOST_NAMES
from unvanish.figures.kinds import PANEL, Columns, Kind, Plain, Table, View, least, numbers, share, short
from unvanish.figures.profile import NORMS, WHOLE, frame, need_marks, reach_mark
from unvanish.figures.profile import columns as norms_of
from unvanish.figures.saturation import ACTIVATIONS, MEMORIES
from unvanish.figures.saturation import table as saturated
from unvanish.figures.spectrum import EIGENVALUES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.2  # inches
FEW = 4  # parts
LONG = 14  # characters of a name
MOST = 10  # remedies in a picture, rows in a notebook


def reach(part: Plain) -> tuple[int, bool]:
    """How far back the gradient of a part comes, and whether it may be further: a window cuts it."""
    steps, window = part["profile"]["reach"], part["window"]
    return (window, False) if window < steps else (steps, part["profile"]["censored"])


def _profile(part: Plain) -> Plain:
    return {**part["profile"], "part": part["name"]}


def profiles(plain: Plain) -> Columns:
    """List the norms of all parts."""
    found = [norms_of(_profile(part)) for part in plain["parts"]]
    names = ("part", "state", "lag", "norm", "lower", "upper")
    return {name: [one for columns in found for one in columns[name]] for name in names}


def parts(plain: Plain) -> Columns:
    """List the parts with what was found of each."""
    names = ("module", "kind", "verdict", "because", "window")
    found: Columns = {"part": [part["name"] for part in plain["parts"]]}
    found |= {name: [part[name] for part in plain["parts"]] for name in names}
    found["rate"] = [part["profile"]["rate"] for part in plain["parts"]]
    found["reach"] = [reach(part)[0] for part in plain["parts"]]
    found["censored"] = [reach(part)[1] for part in plain["parts"]]
    found["share_at_need"] = [part["survives"] for part in plain["parts"]]
    return found


def causes(plain: Plain) -> Columns:
    """List the causes, the one that explains the verdict best first."""
    names = {
        "cause": "kind",
        "where": "where",
        "number": "number",
        "unit": "unit",
        "text": "text",
        "advice": "advice",
    }
    return {word: [cause[name] for cause in plain["causes"]] for word, name in names.items()}


def prescriptions(plain: Plain) -> Columns:
    """List the remedies that were tried, what helps most first."""
    names = ("name", "part", "reach_before", "reach", "censored", "verdict", "cost", "text", "code", "seed")
    return {name: [remedy[name] for remedy in plain["prescriptions"]] for name in names}


def draw_profiles(axes: Axes, plain: Plain) -> None:
    """Draw the profile of every part against the needed lag; beyond a window it is dotted."""
    lags = [numbers(part["profile"]["lags"]) for part in plain["parts"]]
    norms = [numbers(part["profile"]["norms"][WHOLE]) for part in plain["parts"]]
    names, over = _short_names([part["name"] for part in plain["parts"]]), _rows_above(plain)
    for at, part in enumerate(plain["parts"]):
        color, dash, _ = series(at)
        cut, told = part["window"] + 1, plain_text(names[at], 20)
        told = told if over else f"{told}, reach {least(*reach(part))}"
        curve(axes, lags[at][:cut], norms[at][:cut], told, color=color, linestyle=dash).set_gid(part["name"])
        if cut < len(norms[at]):
            far = lags[at][cut - 1 :], norms[at][cut - 1 :]
            axes.plot(*far, color=color, linestyle=":", linewidth=0.7, gid=f"{part['name']} beyond the window")
    longest = max(lags, key=len, default=[0.0, 1.0])
    padded = [values + [0.0] * (len(longest) - len(values)) for values in norms]
    frame(axes, longest, padded or [[1.0, 1.0]], plain["need"])
    for at, part in enumerate(plain["parts"]):
        reach_mark(axes, lags[at], norms[at], *reach(part), color=series(at)[0])
    mark(axes, need_marks(plain["need"], _need_is_least(plain)), over=over)
    legend(axes, above=2 if over else 0)


def _rows_above(plain: Plain) -> int:
    """How many rows the legend has above the axes: of more parts than a few it would hide the curves."""
    count = min(len(plain["parts"]), MOST_NAMES)
    return 0 if count <= FEW else math.ceil(count / 2)


def _short_names(names: list[str]) -> list[str]:
    """Leave out what long names begin with in common.

    >>> _short_names(["encoder.layers.0.rnn.l0", "encoder.layers.1.rnn.l0"]), _short_names(["rnn.l0", "rnn.l1"])
    (['0.rnn.l0', '1.rnn.l0'], ['rnn.l0', 'rnn.l1'])
    """
    if len(names) < 2 or max(map(len, names)) <= LONG:
        return names
    pieces = [name.split(".") for name in names]
    shared = next((at for at, same in enumerate(zip(*pieces, strict=False)) if len({*same}) > 1), 0)
    return [".".join(one[min(shared, len(one) - 1) :]) for one in pieces]


def _need_is_least(plain: Plain) -> bool:
    found = plain.get("dependency")
    return bool(found and found["censored"] and plain["need_from"].startswith("the data"))


def draw_prescriptions(axes: Axes, plain: Plain) -> None:
    """Draw the reach before and after each remedy; an arrowhead where it lies further than was measured."""
    found = plain["prescriptions"][:MOST]
    several = len({remedy["part"] for remedy in found}) > 1
    for at, remedy in enumerate(found):
        before, after = remedy["reach_before"], remedy["reach"]
        axes.plot([before, after], [at, at], color=BLUE, linewidth=1.0, zorder=1, gid="reach gained")
        ends = (("before", before, "o", "white"), ("after", after, ">" if remedy["censored"] else "o", BLACK))
        for name, steps, shape, face in ends:
            axes.plot(steps, at, shape, color=BLACK, markerfacecolor=face, clip_on=False, gid=name)
    named_rows(axes, [f"{one['name']}, {one['part']}" if several else one["name"] for one in found])
    need = plain.get("need")
    furthest = max([one["reach"] for one in found] + [one["reach_before"] for one in found] + [need or 0, 1])
    axes.set_xlim(0, 1.06 * furthest)
    whole_ticks(axes)
    axes.set_xlabel("reach (steps)")
    for told, shape, face in (("before", "o", "white"), ("after", "o", BLACK), ("after, at least", ">", BLACK)):
        axes.plot([], [], shape, color=BLACK, markerfacecolor=face, label=told)
    legend(axes, above=3)
    mark(axes, need_marks(need, _need_is_least(plain)), over=1)


def _tall(plain: Plain) -> float:
    return 0.75 + ROW * min(len(plain["prescriptions"]), MOST)


# -- tables ------------------------------------------------------------------------------------------------------


def tables(plain: Plain) -> list[Table]:
    """Tell parts, causes and remedies."""
    found = [_parts(plain["parts"])]
    causes = [(cause["kind"], cause["where"] or "–", cause["text"]) for cause in plain["causes"][:MOST]]
    if causes:
        found.append(Table(("cause", "where", "what was measured"), causes))
    return [*found, *prescribed(plain)]


def _parts(some: list[Plain]) -> Table:
    header = ("part", "kind", "verdict", "reach, steps", "rate, nats per step", "left at the need")
    return Table(header, [_part_row(part) for part in some])


def _part_row(part: Plain) -> tuple[str, ...]:
    rate, left = short(part["profile"]["rate"], sign=True), share(part["survives"])
    return part["name"], part["kind"], part["verdict"], least(*reach(part)), rate, left


def prescribed(plain: Plain) -> list[Table]:
    """Tell the remedies that were tried."""
    header = ("remedy", "part", "reach before, steps", "after", "verdict after", "cost")
    rows = [
        (
            remedy["text"],
            remedy["part"],
            least(remedy["reach_before"]),
            least(remedy["reach"], remedy["censored"]),
            remedy["verdict"],
            "" if remedy["cost"] is None else f"{remedy['cost']:.2g} ×",
        )
        for remedy in plain["prescriptions"][:MOST]
    ]
    return [Table(header, rows)] if rows else []


def tables_of_part(plain: Plain) -> list[Table]:
    """Tell what was found of one part."""
    return [_parts([plain]), *saturated(_named(plain))]


# -- kinds -------------------------------------------------------------------------------------------------------


def _named(part: Plain) -> Plain:
    return {**part, "part": part["name"]}


def _one(remedy: Plain) -> Plain:
    return {"prescriptions": [remedy]}


def _spectrum(part: Plain) -> Plain:
    sizes = [math.hypot(*value) for value in part["eigenvalues"]]
    return {
        **_named(part),
        "eigenvalues": [part["eigenvalues"]] if sizes else [],
        "radius": max(sizes, default=None),
    }


PRESCRIPTIONS = View(prescriptions, draw_prescriptions, lambda plain: bool(plain["prescriptions"]), _tall)
DIAGNOSIS = Kind(
    {
        "profiles": View(profiles, draw_profiles, height=lambda plain: PANEL + 0.13 * _rows_above(plain)),
        "prescriptions": PRESCRIPTIONS,
        "parts": View(parts),
        "causes": View(causes),
    },
    tables,
)
PART = Kind(
    {
        "norms": NORMS.within(_profile),
        "eigenvalues": EIGENVALUES.within(_spectrum),
        "activations": ACTIVATIONS.within(_named),
        "memories": MEMORIES.within(_named),
    },
    tables_of_part,
)
PRESCRIPTION = Kind({"prescriptions": PRESCRIPTIONS.within(_one)}, lambda plain: prescribed(_one(plain)))
