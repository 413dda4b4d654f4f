"""Data that a program gives: arrays, data frames, data sets, made the one type that readers give."""

from __future__ import annotations

from typing import Any

from unvanish.data.arrays import of_arrays, of_dataset
from unvanish.data.sequences import Sequences
from unvanish.errors import DataError, MissingExtraError


def sequences_of(data: Any, y: Any = None, lengths: Any = None, options: dict[str, Any] | None = None) -> Sequences:
    """Make sequences of whatever a program has.

    Raises:
        DataError: it is nothing that is understood.
    """
    if isinstance(data, Sequences):
        return data
    frame = frame_of(data)
    if frame is not None:
        from unvanish.data.table import TableOptions, of_frame

        return of_frame(frame, TableOptions.of(options or {}))
    if y is None and not hasattr(data, "__array__"):
        return of_dataset(data)
    return of_arrays(data, y, lengths)


def frame_of(data: Any) -> Any:
    """A data frame of polars, made of one of pandas where it is one; None of anything else.

    An index of pandas that has names, or times, becomes columns; a series of pandas is one column beside its times.

    Raises:
        DataError: polars cannot read it, or an index of several levels has no names.
    """
    kind = type(data).__module__.partition(".")[0]
    if kind == "polars" and hasattr(data, "lazy"):  # a series of polars is an array
        return data.lazy().collect()
    if kind == "pandas" and (hasattr(data, "columns") or _is_of_times(data.index)):
        return _of_pandas(data)
    return None


def _is_of_times(index: Any) -> bool:
    return type(index).__name__ in ("DatetimeIndex", "PeriodIndex")


def _of_pandas(data: Any) -> Any:
    import polars as pl

    from unvanish.data.table.roles import TARGETS, TIMES

    frame = data if hasattr(data, "columns") else data.to_frame(TARGETS[0])
    index = frame.index
    if index.nlevels > 1 and None in index.names:
        raise DataError(
            f"the index of the data frame has {index.nlevels} levels, and not all have a name: name them with "
            "frame.index.names = […], or make them columns with frame.reset_index()"
        )
    if _is_of_times(index):
        if hasattr(index, "to_timestamp"):  # periods
            frame = frame.set_axis(index.to_timestamp())
        if index.name is None and not {*map(str, frame.columns)} & {*TIMES}:
            frame = frame.rename_axis(TIMES[0])
    named = frame.index.nlevels > 1 or frame.index.name is not None
    frame = (frame.reset_index() if named else frame).rename(columns=str)
    try:
        return pl.from_pandas(frame)
    except ImportError as fault:
        raise MissingExtraError(f"a data frame of pandas is read with {fault.name}: install it") from fault
    except (ValueError, TypeError, NotImplementedError) as fault:
        why = str(fault).partition("\n")[0]
        raise DataError(
            f"the data frame cannot be read: {why}; give columns of one kind each, with names of their own"
        ) from fault
