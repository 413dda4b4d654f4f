"""Numbers as a network computes with them, in single precision: what that cannot hold, or tell apart, is refused.

Shapes: N numbers in groups, one after the other; S groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unvanish.errors import DataError

LOST = 0.1  # of how far numbers differ: more must not be lost in rounding
CONSTANT = 1e-13  # of the largest number: what differs by less is one number with the rounding of double precision


def to_single(values: NDArray[Any], what: str, *, apart: bool = True) -> NDArray[np.float32]:
    """Round numbers, of columns along the last axis, to single precision.

    Args:
        what: what the numbers are, for a message.
        apart: whether those of a column are to stay apart.

    Raises:
        DataError: one is too large for that, or they differ too little from each other.

    >>> to_single(np.array([1.0, 1e300]), "x")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    unvanish.errors.DataError: x contains infinity or a value too large for single precision, ...
    """
    if np.can_cast(values.dtype, np.float32):
        return values.astype(np.float32)
    doubles = values.astype(np.float64)
    columns_NF = doubles.reshape(-1, doubles.shape[-1]) if doubles.ndim > 1 else doubles.reshape(-1, 1)
    for values_N in columns_NF.T:
        check_single(values_N, what, apart=apart)
    return doubles.astype(np.float32)


def check_single(values_N: NDArray[np.float64], what: str, starts_S: Any = (0,), *, apart: bool = True) -> None:
    """Refuse numbers that single precision cannot hold, or, `apart`, cannot tell apart within a group.

    Args:
        what: what the numbers are, for a message.
        starts_S: where each group begins.

    Raises:
        DataError: one is too large, or those of a group differ too little.
    """
    known_N = np.isfinite(values_N)
    large = known_N & (np.abs(values_N, where=known_N, out=np.zeros(len(values_N))) > np.finfo(np.float32).max)
    if large.any():
        raise DataError(
            f"{what} contains infinity or a value too large for single precision, {values_N[large][0]:g}: take "
            "another unit"
        )
    found = _indistinct(np.where(known_N, values_N, 0.0), known_N, np.asarray(starts_S)) if apart else None
    if found is not None:
        near, spread = found
        raise DataError(
            f"{what} holds numbers near {near:.4g} that differ by about {spread:.2g}: single precision, in which a "
            "network computes, does not tell them apart; subtract an offset, or take another unit"
        )


def _indistinct(
    values_N: NDArray[np.float64], known_N: NDArray[np.bool_], starts_S: NDArray[Any]
) -> tuple[float, float] | None:
    """The largest number and the deviation of a group that rounding changes too much."""
    if not len(values_N):
        return None
    peak_S = np.maximum.reduceat(np.abs(values_N), starts_S)
    divisor_S, lengths_S = np.where(peak_S > 0, peak_S, 1.0), np.diff(starts_S, append=len(values_N))
    divisor_N = np.repeat(divisor_S, lengths_S)  # squares of tiny numbers would be 0
    count_S = np.maximum(np.add.reduceat(known_N.astype(np.float64), starts_S), 1)
    scaled_N = values_N / divisor_N
    mean_S = np.add.reduceat(scaled_N, starts_S) / count_S
    off_N = np.where(known_N, scaled_N - np.repeat(mean_S, lengths_S), 0.0)
    wrong_N = (values_N.astype(np.float32).astype(np.float64) - values_N) / divisor_N
    apart_S, wrong_S = (np.sqrt(np.add.reduceat(one**2, starts_S) / count_S) for one in (off_N, wrong_N))
    lost = np.flatnonzero((apart_S > CONSTANT) & (wrong_S > LOST * apart_S))
    return (float(peak_S[lost[0]]), float((apart_S * peak_S)[lost[0]])) if len(lost) else None
