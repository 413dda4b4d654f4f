"""Figures without pyplot, colours that stand in for those of the page, and SVG. Nothing global stays changed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from unvanish.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT = 12  # pixels
COLOURS = (
    *("--ink", "--muted", "--hairline", "--grid", "--paper", "--accent", "--warn", "--faint"),
    *("--series-1", "--series-2", "--series-3", "--series-4", "--band", "--band-wide"),
)
# matplotlib wants colours, and the page has names for them: each name is drawn in a colour that nobody else uses.
STAND_INS = {name: f"#a1b2{at:02x}" for at, name in enumerate(COLOURS, 0x10)}
NAMES = {colour: name for name, colour in STAND_INS.items()}
STYLE = {
    "font.size": FONT,
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "unvanish",
    "text.usetex": False,
    "text.parse_math": False,
    "path.simplify": True,
    "text.color": STAND_INS["--muted"],
}


def colour(name: str) -> str:
    """Return the colour that stands for one of the page; any other is itself."""
    return STAND_INS.get(name, name)


def library() -> ModuleType:
    """Import matplotlib.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as fault:
        raise MissingExtraError('the report draws with matplotlib: pip install "unvanish[app]"') from fault
    return matplotlib


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Make a figure of so many pixels, in the style of the page."""
    drawing = library()
    from matplotlib.figure import Figure

    # a name in a script that matplotlib's own font lacks is set by the browser
    with warnings.catch_warnings(), drawing.rc_context(STYLE):
        warnings.simplefilter("ignore")
        yield Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")


def encoded(made: Figure) -> str:
    """Write a figure as SVG: the same figure gives the same text."""
    written = io.BytesIO()
    made.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue().decode()
