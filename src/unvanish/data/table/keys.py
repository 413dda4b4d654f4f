"""The keys of rows, which series each is of and when it was, with the types that the source gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from unvanish.data.table.columns import ZONE

WHOLE = r"^(0|-?[1-9]\d*)$"  # 007 is a name, and is written so again
CLOCK = ":"


def group_keys(column: pl.Series, *, typed: bool) -> pl.Series:
    """Which series rows are of: as the source has it, and where it has text alone, whole numbers as such.

    Args:
        typed: whether the source has types, so that its text is meant as text.

    >>> [group_keys(pl.Series(names), typed=False).dtype for names in (["2", "10"], ["007", "10"])]
    [Int64, String]
    """
    if typed or column.dtype != pl.String or not bool(column.str.contains(WHOLE).all()):
        return column
    whole = column.cast(pl.Int64, strict=False)
    return column if whole.null_count() > column.null_count() else whole


def time_keys(column: pl.Series, times_N: Any) -> pl.Series:
    """When rows were: as the source has it; text as what it says, days as dates, and times of a zone in UTC.

    Args:
        times_N: the times that were read of the column.
    """
    return column if column.dtype != pl.String else times_as(times_N, time_type(column, times_N))


def time_type(column: pl.Series, times_N: Any) -> Any:
    """Return of which type of polars times like those of a column are."""
    if column.dtype != pl.String:
        return column.dtype
    if times_N.dtype.kind != "i":
        return pl.Float64 if bool(column.str.contains(".", literal=True).any()) else pl.Int64
    if not bool(column.str.contains(CLOCK).any()):
        return pl.Date
    return pl.Datetime("us", "UTC" if bool(column.str.contains(ZONE).any()) else None)


def times_as(times: Any, kind: Any) -> pl.Series:
    """Give times, in microseconds of UTC or moments where they are of the calendar, a type that can hold them.

    >>> times_as(np.array([0, 86_400_000_000]), pl.Date).to_list()
    [datetime.date(1970, 1, 1), datetime.date(1970, 1, 2)]
    >>> times_as(np.array([3_600_000_000]), pl.Datetime("us", "Europe/Berlin"))[0].isoformat()
    '1970-01-01T02:00:00+01:00'
    >>> times_as(np.array([1.0, 2.5]), pl.Int32).to_list(), times_as(np.array([1.0]), pl.Int32).dtype
    ([1.0, 2.5], Int32)
    """
    found = pl.Series(times)
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        moments = found.cast(pl.Datetime("us"))
        if kind == pl.Date:
            days = moments.cast(pl.Date)
            return days if bool((days.cast(pl.Datetime("us")) == moments).all()) else moments
        zone = kind.time_zone
        placed = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else moments
        return placed.cast(kind)
    if kind.is_integer() and not bool((found == found.round()).all()):
        return found
    fits = found.cast(kind, strict=False)
    return found if fits.null_count() else fits


def rows_of_steps(place_N: Any, order_N: Any, steps: int) -> Any:
    """Return which row of the source each step was; -1 where it has none.

    >>> rows_of_steps(np.array([0, 2]), np.array([1, 0]), 3).tolist()
    [1, -1, 0]
    """
    found = np.full(steps, -1, np.int64)
    found[place_N] = order_N
    return found
