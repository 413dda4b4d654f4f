"""What scikit-learn calls X, as sequences.

Shapes: n sequences, T steps, F numbers of a step.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_array, validate_data

from unvanish.errors import DataError, OptionError

Number = TypeVar("Number", np.float32, np.float64)
Rows = list[NDArray[np.float32]]  # (T, F) each
CHECKS = {"dtype": np.float32, "ensure_all_finite": "allow-nan"}  # a gap is marked for the network


def read_rows(estimator: Any, X: Any, lengths: Any, *, fitting: bool) -> Rows:
    """Read sequences, and in fitting keep how wide they are.

    Args:
        X: (n, T), a number a step; (n, T, F); or a list, or an array of objects, of sequences (T,) or (T, F).
        lengths: (n,), how many steps of each row are steps, where X is an array that is filled up.

    Raises:
        ValueError: there are none, they are not numbers, or others than in fitting.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what single precision cannot hold is refused as infinite
        rows, whole = _checked(estimator, X, lengths, fitting)
    widths = sorted({row.shape[1] for row in rows})
    if len(widths) > 1:
        raise DataError(f"the sequences have different numbers of columns, {widths}")
    if fitting:
        estimator.n_steps_in_ = len(rows[0]) if whole else None
        if not whole:
            estimator.n_features_in_ = widths[0]
        estimator._width = widths[0]
    elif widths[0] != estimator._width:
        raise DataError(f"a step has {widths[0]} numbers, and in fitting it had {estimator._width}")
    return rows if lengths is None else _cut(rows, lengths)


def _checked(estimator: Any, X: Any, lengths: Any, fitting: bool) -> tuple[Rows, bool]:
    """The sequences, and whether they are rows of features as scikit-learn means them."""
    listed = _listed(X)
    if listed is not None:
        if lengths is not None:
            raise OptionError("lengths= is for arrays that are filled up: sequences in a list have their own")
        _check_count(len(listed), fitting)
        return [_row(one, place) for place, one in enumerate(listed)], False
    if _dimensions(X) == 3:
        return list(check_array(X, allow_nd=True, ensure_min_samples=1 + fitting, input_name="X", **CHECKS)), False
    return _flat(estimator, X, fitting, lengths is None), lengths is None


def _flat(estimator: Any, X: Any, fitting: bool, whole: bool) -> Rows:
    """Sequences of a number a step, in rows of equal length: what scikit-learn calls features."""
    more: dict[str, Any] = {"ensure_min_samples": 1 + fitting, **CHECKS}
    if whole and (fitting or estimator.n_steps_in_ is not None):
        found = validate_data(estimator, X, reset=fitting, **more)
    else:
        found = check_array(X, input_name="X", estimator=estimator, **more)
    return list(found[..., None])


def _dimensions(X: Any) -> int | None:
    """How many axes it has; None of what does not say it."""
    if isinstance(X, list | tuple):
        return np.ndim(X)
    found: int | None = getattr(X, "ndim", None)
    return found


def _listed(X: Any) -> list[Any] | None:
    """Sequences one by one; None of an array, or of a list of lists that is one."""
    if isinstance(X, np.ndarray):
        return list(X) if X.dtype == object and X.ndim == 1 else None
    if not isinstance(X, list | tuple):
        return None
    if any(getattr(one, "ndim", 0) for one in X):
        return list(X)
    try:
        np.asarray(X)
    except ValueError:  # lists of different lengths
        return list(X)
    return None


def numbers_of(one: Any, what: str, kind: type[Number], columns: str) -> NDArray[Number]:
    """Take steps of a number, (T,), or of several, which a message calls `columns`.

    Raises:
        DataError: they are not that.
    """
    try:
        found = np.asarray(one, kind)
    except (ValueError, TypeError) as fault:
        raise DataError(f"{what} is not made of numbers: {fault}") from fault
    if found.ndim not in (1, 2) or not found.size:
        raise DataError(f"{what} has the shape {found.shape}: give (T,) or (T, {columns}), with a step or more")
    return found


def _row(one: Any, place: int) -> NDArray[np.float32]:
    row = numbers_of(one, f"sequence {place}", np.float32, "F")
    assert_all_finite(row, allow_nan=True, input_name=f"sequence {place}")
    return row.reshape(len(row), -1)


def _check_count(count: int, fitting: bool) -> None:
    if count < 1 + fitting:
        found = "1 sample" if count == 1 else f"{count} samples"
        raise DataError(f"found {found}, and a minimum of {1 + fitting} is required")


def _cut(rows: Rows, lengths: Any) -> Rows:
    lengths_n = check_array(lengths, ensure_2d=False, dtype=np.int64, input_name="lengths").ravel()
    longest = len(rows[0])
    if len(lengths_n) != len(rows) or lengths_n.min() < 1 or lengths_n.max() > longest:
        raise DataError(f"lengths are {len(rows)} whole numbers from 1 to {longest}, one for each sequence")
    return [row[:steps] for row, steps in zip(rows, lengths_n.tolist(), strict=True)]
