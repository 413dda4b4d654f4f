"""Data that a program gives: arrays, data frames, data sets, made the one type that readers give."""

from __future__ import annotations

from typing import Any

from unvanish.data.arrays import of_arrays, of_dataset
from unvanish.data.sequences import Sequences
from unvanish.errors import MissingExtraError


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
    """A data frame of polars, made of one of pandas where it is one; None of anything else."""
    kind = type(data).__module__.partition(".")[0]
    if kind == "polars":
        return data.collect() if hasattr(data, "collect") else data
    if kind == "pandas":
        import polars as pl

        try:
            return pl.from_pandas(data.reset_index() if data.index.name else data)
        except ImportError as fault:
            raise MissingExtraError(f"a data frame of pandas is read with {fault.name}: install it") from fault
    return None
