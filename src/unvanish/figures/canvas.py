"""Figures of a column's width, and the bytes of their files. Nothing global is changed.

A figure is made without pyplot, which keeps every figure that it makes, unless pyplot is what shows it: in a
notebook, and in matplotlib's interactive mode. That pyplot was imported says nothing: Lightning does so.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unvanish.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0  # inches: one column of a paper, both
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.facecolor": "white",
    "text.usetex": False,
}
# Text stays text, in fonts that journals take; the same result gives the same bytes.
FILES = {"svg.fonttype": "none", "svg.hashsalt": "unvanish", "pdf.fonttype": 42, "savefig.dpi": 300}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def library() -> ModuleType:
    """Import matplotlib.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as fault:
        raise MissingExtraError("figures are drawn with matplotlib: pip install 'unvanish[figures]'") from fault
    return matplotlib


@contextmanager
def panels(heights: Sequence[float], *, seen: bool) -> Iterator[tuple[Figure, list[Axes]]]:
    """Make a figure with one panel of each height, up to two below each other, more side by side.

    Args:
        heights: in inches.
        seen: whether it is for whoever sits at a notebook, and not for a file.
    """
    drawing = library()
    across = 1 if len(heights) <= 2 else 2
    rows = [max(heights[at : at + across]) for at in range(0, len(heights), across)]
    # Outside the context: what a notebook sets when pyplot makes its first figure has to stay.
    size = PAGE if across == 2 else COLUMN, sum(rows)
    figure = _maker(seen)(figsize=size, dpi=200, facecolor="white", layout="constrained")
    with drawing.rc_context(STYLE):
        grid = figure.add_gridspec(math.ceil(len(heights) / across), across, height_ratios=rows)
        axes = [figure.add_subplot(grid[divmod(at, across)]) for at in range(len(heights))]
        for one in axes:  # ticks are made when they are drawn, by what holds then
            one.tick_params(labelsize=7, width=0.6, length=3)
            one.tick_params(which="minor", width=0.4, length=1.5)
        yield figure, axes


def _maker(seen: bool) -> Callable[..., Figure]:
    if seen and (in_notebook() or library().is_interactive()):
        from matplotlib import pyplot

        return pyplot.figure
    from matplotlib.figure import Figure

    return Figure


def in_notebook() -> bool:
    """Say whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def encoded(figure: Figure, form: str) -> bytes:
    """Write a figure as svg, pdf or png."""
    written = io.BytesIO()
    with library().rc_context(FILES):
        figure.savefig(written, format=form, metadata=UNDATED[form])
    return written.getvalue()
