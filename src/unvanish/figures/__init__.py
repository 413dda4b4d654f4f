"""Plain data in, a figure or a table out: what `plot`, `save`, `to_frame` of a result and a notebook show.

matplotlib and polars are imported when they are first needed; neither torch nor NumPy ever is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unvanish.errors import MissingExtraError, OptionError, RunError, nearest
from unvanish.figures.along import DECOMPOSITION, RECORDING
from unvanish.figures.canvas import encoded, library, panels
from unvanish.figures.dependency import DEPENDENCY
from unvanish.figures.depth import DEPTH
from unvanish.figures.diagnosis import DIAGNOSIS, PART, PRESCRIPTION
from unvanish.figures.kinds import Columns, Kind, Plain, View
from unvanish.figures.linear import COURSE, LINEAR
from unvanish.figures.markup import page
from unvanish.figures.profile import PROFILE
from unvanish.figures.run import RUN
from unvanish.figures.saturation import SATURATION
from unvanish.figures.spectrum import JACOBIAN, LYAPUNOV
from unvanish.figures.split import SPLIT
from unvanish.record.files import finite, write_atomically

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS: Mapping[str, Kind] = {
    "course": COURSE,
    "decomposition": DECOMPOSITION,
    "dependency": DEPENDENCY,
    "depth": DEPTH,
    "diagnosis": DIAGNOSIS,
    "jacobian": JACOBIAN,
    "linear": LINEAR,
    "lyapunov": LYAPUNOV,
    "part": PART,
    "prescription": PRESCRIPTION,
    "profile": PROFILE,
    "recording": RECORDING,
    "run": RUN,
    "saturation": SATURATION,
    "split": SPLIT,
}
PICTURES, DATA = ("svg", "pdf", "png"), ("csv", "json")


def plot(kind: str, plain: Plain, ax: Axes | None = None, view: str | None = None) -> Axes | Figure:
    """Draw a result: into `ax` one view, the main one unless named; else all views into a figure of its own.

    Returns:
        The Axes, or the Figure where it has several.
    """
    if ax is not None:
        library()
        from matplotlib.axes import Axes

        if not isinstance(ax, Axes):
            raise OptionError(f"ax is a {type(ax).__name__}: give Axes of matplotlib, such as figure.subplots()")
        with library().rc_context({"text.usetex": False}):  # to LaTeX our "1 %" is a comment
            _draw(kind, view)(ax, plain)
        return ax
    figure, drawn = _figure(kind, plain, view, seen=True)
    return drawn[0] if len(drawn) == 1 else figure


def save(kind: str, plain: Plain, path: Path, view: str | None = None) -> None:
    """Write a result into a file, as the ending of its name says.

    Raises:
        OptionError: another ending.
        RunError: the file cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    if form in PICTURES:
        content = encoded(_figure(kind, plain, view, seen=False)[0], form)
    elif form == "csv":
        content = _csv(_view(kind, view).columns(plain)).encode()
    elif form == "json":
        content = json.dumps(finite(plain), allow_nan=False, ensure_ascii=False).encode()
    else:
        told = ", ".join(f".{one}" for one in (*PICTURES, *DATA))
        raise OptionError(f"{path.name!r} does not say what to write: give a name that ends in one of {told}")
    try:
        write_atomically(path, content)
    except OSError as fault:
        raise RunError(f"{path} cannot be written ({fault.strerror}): name a file in a folder of yours") from fault


def frame(kind: str, plain: Plain, view: str | None = None) -> polars.DataFrame:
    """Return a view of a result as a tidy table, one row per observation."""
    try:
        import polars
    except ImportError as fault:
        raise MissingExtraError("tables are made with polars: pip install 'unvanish[figures]'") from fault
    return polars.DataFrame(_view(kind, view).columns(plain), strict=False)


def html(kind: str, plain: Plain, line: str) -> str:
    """Write what a notebook shows; without matplotlib the tables alone."""
    try:
        figure, _ = _figure(kind, plain, None, seen=False)
    except MissingExtraError:
        return page(line, KINDS[kind].tables(plain), None)
    return page(line, KINDS[kind].tables(plain), encoded(figure, "svg"), figure.get_figwidth())


def _view(kind: str, name: str | None) -> View:
    views = KINDS[kind].views
    if name is None:
        return next(iter(views.values()))
    if name not in views:
        raise OptionError(f"there is no view {name!r}: {nearest(name, views)}")
    return views[name]


def _draw(kind: str, name: str | None) -> Callable[[Axes, Plain], None]:
    chosen = _view(kind, name)
    if chosen.draw is None:
        pictures = [one for one, view in KINDS[kind].views.items() if view.draw is not None]
        raise OptionError(f"{name!r} has no picture, only a table: {nearest(str(name), pictures)}")
    return chosen.draw


def _figure(kind: str, plain: Plain, name: str | None, *, seen: bool) -> tuple[Figure, list[Axes]]:
    """Draw the named view, or all that have anything to show: the main one if none has."""
    _draw(kind, name)
    views = KINDS[kind].views if name is None else {name: _view(kind, name)}
    there = [one for one, view in views.items() if view.draw is not None and view.there(plain)]
    chosen: Sequence[str | None] = there or [name]
    heights = [_view(kind, one).height(plain) for one in chosen]
    with panels(heights, seen=seen) as (figure, axes):
        for one, each in zip(chosen, axes, strict=True):
            _draw(kind, one)(each, plain)
    return figure, axes


def _csv(columns: Columns) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return written.getvalue()
