"""Figures of the pages: `plt.show()` puts them where the code stands, as SVG."""

from __future__ import annotations

import io
import re
import sys
from html import escape

import matplotlib

STYLE = {
    "figure.figsize": (7.2, 3.2),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "unvanish",
}


def begin() -> None:
    """Let the code of pages show its figures on them."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update(STYLE)
    pyplot.show = _show  # type: ignore[assignment]


def _show() -> None:
    from matplotlib import pyplot

    figure, written = pyplot.gcf(), io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    axes = figure.axes[0]
    told = escape(f"{axes.get_ylabel() or axes.get_title()} against {axes.get_xlabel()}".strip())
    svg = re.sub(r"^.*?<svg", f'<svg role="img" aria-label="{told}"', written.getvalue(), count=1, flags=re.DOTALL)
    # What a page's code prints is caught by a `print` among its own names, not by the stream.
    sys._getframe(1).f_globals["print"](f'<div class="drawn">{svg}</div>')
    pyplot.close(figure)
