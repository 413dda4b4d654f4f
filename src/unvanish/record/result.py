"""What results have in common: they are drawn, kept in a file, taken as a table, shown by a notebook.

All of it comes from the plain data of `to_dict`; what draws is imported when it is first asked to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Result:
    """Something that was measured.

    Attributes:
        shown_as: which kind of `unvanish.figures` it is.
    """

    shown_as: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        raise NotImplementedError

    def plot(self, ax: Axes | None = None, *, view: str | None = None) -> Axes | Figure:
        """Draw it with matplotlib, as wide as a column of a paper unless `ax` says where.

        Args:
            ax: draws one view into these axes, with the sizes that are set for them.
            view: which; the main one into `ax`, all of them into a figure of its own if None.

        Returns:
            The Axes, or the Figure where there are several; `.figure` is the Figure of either.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from unvanish import figures

        return figures.plot(self.shown_as, self.to_dict(), ax, view)

    def save(self, path: str | os.PathLike[str], *, view: str | None = None) -> None:
        """Write it into a file: the picture as .svg, .pdf or .png, a view's table as .csv, all of it as .json.

        Raises:
            OptionError: another ending.
            RunError: the file cannot be written.
            MissingExtraError: matplotlib is not installed, and a picture was asked for.
        """
        from unvanish import figures

        figures.save(self.shown_as, self.to_dict(), Path(path), view)

    def to_frame(self, view: str | None = None) -> polars.DataFrame:
        """Return a view as a polars DataFrame, one row per observation.

        Raises:
            MissingExtraError: polars is not installed.
        """
        from unvanish import figures

        return figures.frame(self.shown_as, self.to_dict(), view)

    def _repr_html_(self) -> str:
        from unvanish import figures

        return figures.html(self.shown_as, self.to_dict(), repr(self))
