"""What scikit-learn calls X, as sequences.

Shapes: n sequences, T steps, F numbers of a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_array, validate_data

from unvanish.data.arrays import array_of, whole_lengths
from unvanish.errors import DataError, OptionError, printable

Rows = list[NDArray[Any]]  # (T, F) each, in single or double precision
CHECKS = {"dtype": (np.float64, np.float32), "ensure_all_finite": "allow-nan"}  # a gap is marked for the network
NUMBERS = "biufOSU"  # kinds of arrays that are numbers, or may hold or write them


def read_rows(estimator: Any, X: Any, lengths: Any, *, fitting: bool) -> Rows:
    """Read sequences, and in fitting keep how wide they are.

    Args:
        X: (n, T), a number a step; (n, T, F); or a list, or an array of objects, of sequences (T,) or (T, F).
        lengths: (n,), how many steps of each row are steps, where X is an array that is filled up.

    Raises:
        ValueError: there are none, they are not numbers, or others than in fitting.
    """
    rows, whole = _checked(estimator, opened(X, "X"), lengths, fitting)
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
        names = same_columns(listed)
        if fitting:
            estimator._columns = names
        elif names and getattr(estimator, "_columns", None) not in (None, names):
            raise DataError(
                f"the sequences have the columns {_told(names)}, and in fitting: {_told(estimator._columns)}"
            )
        return [_row(one, place) for place, one in enumerate(listed)], False
    with numbers_alone("X"):
        if _dimensions(X) == 3:
            if 0 in np.shape(X)[1:]:
                raise DataError(
                    f"X has the shape {np.shape(X)}: give sequences of a step or more, of a number or more"
                )
            return list(
                check_array(X, allow_nd=True, ensure_min_samples=1 + fitting, input_name="X", **CHECKS)
            ), False
        return _flat(estimator, X, fitting, lengths is None), lengths is None


def opened(X: Any, what: str) -> Any:
    """Take data out of what NumPy would read wrong: tensors, masks, lazy frames, columns of sequences.

    Raises:
        DataError: a column, or all of it, is not made of numbers.
    """
    if isinstance(X, Mapping) and not hasattr(X, "toarray"):  # a sparse matrix may be one
        raise DataError(
            f"{what} is not made of numbers: it is a {type(X).__name__}; give arrays, lists or a data frame"
        )
    if hasattr(X, "lazy") and hasattr(X, "collect_schema"):  # a data frame of polars
        X = X.lazy().collect()
    if hasattr(X, "columns"):
        _check_frame(X, what)
        return X
    if type(X).__module__.partition(".")[0] in ("pandas", "polars") and any(map(np.ndim, X)):
        return list(X)
    if hasattr(X, "__array__") and not hasattr(X, "toarray"):
        with numbers_alone(what):
            X = array_of(X)
        _check_kind(X, what)
    return X


def _check_frame(X: Any, what: str) -> None:
    """Refuse a data frame in which a column is not numbers, or two have the same name."""
    names = [str(name) for name in X.columns]
    if len({*names}) < len(names):
        raise DataError(f"{what} has several columns of the same name: give each a name of its own")
    for name, kind in zip(names, X.dtypes, strict=True):
        word = str(kind).lower()
        if word.startswith(("date", "time", "duration", "period", "interval", "complex", "list", "struct")):
            raise DataError(
                f"column {printable(name)} of {what} is of {printable(str(kind))}, not of numbers: leave it away, "
                "or make it numbers first"
            )


def _check_kind(found: NDArray[Any], what: str) -> None:
    if found.dtype.kind == "c":
        raise DataError(
            f"Complex data not supported: {what} is of {found.dtype}; give real and imaginary parts as columns"
        )
    if found.dtype.kind not in NUMBERS:
        raise DataError(f"{what} is of {found.dtype}, not of numbers: make it numbers first")


@contextmanager
def numbers_alone(what: str) -> Iterator[None]:
    """Refuse in one line what cannot be made numbers, and what only loses a part on the way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            yield
    except (TypeError, RuntimeError, np.exceptions.ComplexWarning) as fault:
        if "argument must be a string" in str(fault):  # scikit-learn wants what Python says of an object
            raise
        why = printable(str(fault).partition("\n")[0])
        raise DataError(f"{what} is not made of numbers: {why}") from fault
    except ValueError as fault:
        if "setting an array element" not in str(fault):
            raise
        raise DataError(
            f"{what} holds sequences inside of rows: give (n, T), (n, T, F), or a list of sequences"
        ) from fault


def same_columns(listed: Iterable[Any]) -> list[str] | None:
    """Return the names of the columns of data frames in a list; None where none of them is one.

    Raises:
        DataError: they have others, or in another order.
    """
    found: list[str] | None = None
    for place, one in enumerate(listed):
        if hasattr(one, "columns"):
            names = [str(name) for name in one.columns]
            if found not in (None, names):
                raise DataError(
                    f"sequence {place} has the columns {_told(names)}, and one before it {_told(found)}: give all "
                    "of them the same, in one order"
                )
            found = names
    return found


def _told(names: list[str] | None) -> str:
    return ", ".join(map(printable, names or []))


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
    if any(getattr(one, "ndim", 0) or hasattr(one, "columns") for one in X):
        return list(X)
    try:
        np.asarray(X)
    except ValueError:  # lists of different lengths
        return list(X)
    return None


def numbers_of(one: Any, what: str, columns: str) -> NDArray[Any]:
    """Take steps of a number, (T,), or of several, which a message calls `columns`.

    Raises:
        DataError: they are not that.
    """
    try:
        with numbers_alone(what):
            found = np.asarray(opened(one, what))
            _check_kind(found, what)
            if found.dtype != np.float32:
                found = found.astype(np.float64)
    except DataError:
        raise
    except ValueError as fault:
        raise DataError(f"{what} is not made of numbers: {printable(str(fault))}") from fault
    if found.ndim not in (1, 2) or not found.size:
        raise DataError(f"{what} has the shape {found.shape}: give (T,) or (T, {columns}), with a step or more")
    return found


def _row(one: Any, place: int) -> NDArray[Any]:
    row = numbers_of(one, f"sequence {place}", "F")
    assert_all_finite(row, allow_nan=True, input_name=f"sequence {place}")
    return row.reshape(len(row), -1)


def _check_count(count: int, fitting: bool) -> None:
    if count < 1 + fitting:
        found = "1 sample" if count == 1 else f"{count} samples"
        raise DataError(f"found {found}, and a minimum of {1 + fitting} is required")


def _cut(rows: Rows, lengths: Any) -> Rows:
    lengths_n = whole_lengths(lengths, "X")
    longest = len(rows[0])
    if len(lengths_n) != len(rows) or not len(rows) or lengths_n.min() < 1 or lengths_n.max() > longest:
        raise DataError(f"lengths are {len(rows)} whole numbers from 1 to {longest}, one for each sequence")
    return [row[:steps] for row, steps in zip(rows, lengths_n.tolist(), strict=True)]
