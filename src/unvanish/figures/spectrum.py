"""The eigenvalues of a Jacobian in the complex plane; Lyapunov exponents in their order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unvanish.figures.axes import BLACK, BLUE, GREY, Style, curve, whole_ticks
from unvanish.figures.kinds import Columns, Kind, Plain, Table, View, numbers, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST = 10.0  # what lies beyond would leave the unit circle a dot


def eigenvalues(plain: Plain) -> Columns:
    """List the eigenvalues by row of the batch."""
    found = [
        (row, real, imaginary) for row, values in enumerate(plain["eigenvalues"]) for real, imaginary in values
    ]
    return {
        "part": [plain["part"]] * len(found),
        "row": [row for row, _, _ in found],
        "real": [real for _, real, _ in found],
        "imaginary": [imaginary for _, _, imaginary in found],
        "magnitude": [math.hypot(real, imaginary) for _, real, imaginary in found],
    }


def singular_values(plain: Plain) -> Columns:
    """List the singular values by row of the batch, the largest first."""
    found = [
        (row, at, one) for row, values in enumerate(plain["singular_values"]) for at, one in enumerate(values, 1)
    ]
    return {
        "part": [plain["part"]] * len(found),
        "row": [row for row, _, _ in found],
        "index": [at for _, at, _ in found],
        "singular_value": [one for _, _, one in found],
    }


def draw_eigenvalues(axes: Axes, plain: Plain) -> None:
    """Draw the eigenvalues of all rows, with the unit circle."""
    from matplotlib.patches import Circle

    found = eigenvalues(plain)
    style: Style = {"linestyle": "none", "marker": "o", "markersize": 3, "markeredgewidth": 0}
    alpha = 0.7 if len(found["row"]) < 200 else 0.35
    curve(axes, found["real"], found["imaginary"], "eigenvalues", color=BLUE, alpha=alpha, **style)
    axes.add_patch(Circle((0, 0), 1, fill=False, color=BLACK, linewidth=0.8, gid="unit circle"))
    sizes = [size for size in found["magnitude"] if math.isfinite(size)]
    edge = 1.12 * min(max([1.0, *sizes]), FARTHEST)
    for line in (axes.axhline, axes.axvline):
        line(0, color=GREY, linewidth=0.5, zorder=0)
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-edge, edge)
    axes.set_aspect("equal", adjustable="box")
    axes.locator_params(nbins=5)
    axes.set_xlabel(r"$\mathrm{Re}\,\lambda$")
    axes.set_ylabel(r"$\mathrm{Im}\,\lambda$")
    told = f"$\\rho$ = {short(plain['radius'])}"
    axes.annotate(told, (0.02, 0.98), xycoords="axes fraction", va="top", gid="radius")


def exponents(plain: Plain) -> Columns:
    """List the exponents, the largest first."""
    count = len(plain["exponents"])
    return {
        "part": [plain["part"]] * count,
        "index": list(range(1, count + 1)),
        "exponent": plain["exponents"],
        "standard_error": plain["errors"],
    }


def draw_exponents(axes: Axes, plain: Plain) -> None:
    """Draw the exponents with their standard errors, and how many are −∞."""
    values, errors = numbers(plain["exponents"]), numbers(plain["errors"])
    indices = list(map(float, range(1, len(values) + 1)))
    few: Style = {"marker": "o"} if len(values) <= 40 else {}
    curve(axes, indices, values, "exponents", color=BLACK, **few)
    spread = [
        (at, one, error)
        for at, one, error in zip(indices, values, errors, strict=True)
        if math.isfinite(one + error)
    ]
    for at, one, error in spread:
        axes.plot([at, at], [one - error, one + error], color=BLUE, linewidth=0.8, gid="standard error")
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_xlim(0.5, len(values) + 0.5)
    whole_ticks(axes)
    axes.set_xlabel("index $i$")
    axes.set_ylabel(r"exponent $\lambda_i$ (nats/step)")
    lost = sum(math.isinf(one) for one in values)
    if lost:
        axes.annotate(f"{lost:,} at −∞", (0.98, 0.02), xycoords="axes fraction", ha="right", gid="lost")


def table_of_jacobian(plain: Plain) -> list[Table]:
    """Tell the spectral radius and norm, in the mean over the batch."""
    size = len(plain["singular_values"][0]) if plain["singular_values"] else 0
    row = (plain["part"], f"{size:,}", f"{plain['span']:,}", short(plain["radius"]), short(plain["norm"]))
    return [Table(("part", "full state", "steps", "spectral radius", "spectral norm"), [row])]


def table_of_exponents(plain: Plain) -> list[Table]:
    """Tell the largest exponents."""
    shown = ", ".join(short(one, sign=True) for one in plain["exponents"][:3])
    row = (plain["part"], f"{len(plain['exponents']):,}", f"{plain['steps']:,}", shown)
    return [Table(("part", "exponents", "steps", "largest, nats per step"), [row])]


EIGENVALUES = View(eigenvalues, draw_eigenvalues, lambda plain: bool(plain["eigenvalues"]), lambda _: 3.2)
EXPONENTS = View(exponents, draw_exponents, lambda plain: bool(plain["exponents"]))
JACOBIAN = Kind({"eigenvalues": EIGENVALUES, "singular_values": View(singular_values)}, table_of_jacobian)
LYAPUNOV = Kind({"exponents": EXPONENTS}, table_of_exponents)
