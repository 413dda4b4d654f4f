"""Rows of several series that nobody has told apart: seen by times that come again and again, and refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from unvanish.errors import DataError, printable

MOST = 0.25  # of the rows may have a time that comes again: more are rows of several series
OWN = 0.5  # levels to rows: a column with more than that is a measurement, and no name of a series


def check_apart(frame: pl.DataFrame, times_N: Any, names: Sequence[str], source: str) -> None:
    """Refuse rows whose times come again where a column would tell them apart as series.

    Args:
        frame: the rows. times_N: when each was. names: the columns that may name series.

    Raises:
        DataError: there is such a column; the one with the fewest series is named.
    """
    rows = len(times_N)
    again = rows - len(np.unique(times_N))
    if again <= MOST * rows:
        return
    times = pl.Series(times_N)
    counts = {name: frame[name].n_unique() for name in names}
    likely = sorted((count, name) for name, count in counts.items() if 1 < count <= OWN * rows)
    for count, name in likely:
        if pl.DataFrame([frame[name].rename("of"), times.rename("at")]).is_unique().all():
            raise DataError(
                f"{source}: {again:,} of {rows:,} rows have the time of another row, and {printable(name)} tells "
                f"them apart as {count:,} series: add --group {printable(name)}, or --ignore {printable(name)}"
            )
