"""The steps of series: at even distances, where a time without a row becomes a step without numbers.

Shapes: N rows, in the order of their series and of time; B series.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROOM = 3.0  # times as many steps as rows: with more gaps than that the rows have no common distance
MOST = 0.6  # of the working days have a row
FEW = 64  # steps, which are no matter
MOST_STEPS = 10_000_000  # that rows are laid on where a run says how far two lie apart
OFF = 1e-3  # of a step, that a time may lie beside it
SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
UNITS = (
    ("week", 7 * DAY),
    ("day", DAY),
    ("hour", 3_600 * SECOND),
    ("minute", 60 * SECOND),
    ("second", SECOND),
    ("millisecond", SECOND // 1000),
)
MONTHS = {"month": 1, "quarter": 3, "year": 12}

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Where each row lies among the steps of all series.

    Attributes:
        place_N: the step of each row.
        lengths_B: how many steps each series has.
        step: how far two steps lie apart, in words; empty where they are not even.
        gaps: how many steps have no row.
    """

    place_N: Whole
    lengths_B: Whole
    step: str
    gaps: int


def each_row(series_N: Whole) -> Grid:
    """Take each row as a step."""
    return Grid(np.arange(len(series_N)), np.bincount(series_N), "", 0)


def even_steps(
    times_N: Whole | NDArray[np.float64], series_N: Whole, *, calendar: bool, step: str | None = None
) -> Grid:
    """Lay rows on even steps, each series from its first row to its last.

    Args:
        times_N: microseconds since 1970 where `calendar`, else any numbers; ascending within a series, each once.
        series_N: the number of the series of each row, from 0 on, ascending.
        step: how far two steps lie apart, as another grid has it; empty where there each row is a step. None: the
            rows tell it, as they do where they do not fit.
    """
    if step == "":
        return each_row(series_N)
    if step is not None and len(times_N):
        found = _by_step(times_N, series_N, step, calendar=calendar)
        if found is not None:
            return found
    rows_B = np.bincount(series_N)
    first_B = np.cumsum(rows_B) - rows_B
    for counted_N, words in _countings(times_N, series_N, calendar=calendar):
        from_N = counted_N - counted_N[first_B][series_N]
        last_B = from_N[first_B + rows_B - 1]
        lengths_B = np.maximum(last_B + 1, 1)
        fresh = np.flatnonzero(np.diff(from_N) <= 0) + 1
        if not np.isin(fresh, first_B).all() or lengths_B.sum() > max(ROOM * len(times_N), FEW):
            continue
        start_B = np.cumsum(lengths_B) - lengths_B
        gaps = int(lengths_B.sum() - len(times_N))
        return Grid(start_B[series_N] + from_N, lengths_B, words, gaps)
    return each_row(series_N)


def _by_step(times_N: Whole | NDArray[np.float64], series_N: Whole, step: str, *, calendar: bool) -> Grid | None:
    """Lay rows on steps of a known size; None where they lie beside these."""
    if calendar != (" " in step):
        return None
    within_N = np.append(False, np.diff(series_N) == 0)
    apart_N = np.where(within_N, np.append(0.0, np.diff(counted(times_N, step))), 0.0)
    whole_N = np.round(apart_N)
    steps = whole_N.sum() + (~within_N).sum()
    if (np.abs(apart_N - whole_N) > OFF).any() or (whole_N[within_N] < 1).any() or steps > MOST_STEPS:
        return None
    place_N = np.cumsum(np.where(within_N, whole_N, 1.0)).astype(np.int64) - 1
    last_N = np.append(~within_N[1:], True)
    lengths_B = np.diff(place_N[last_N], prepend=-1)
    return Grid(place_N, lengths_B, step, int(steps) - len(times_N))


def counted(times_N: Whole | NDArray[np.float64], step: str) -> NDArray[np.float64]:
    """Return how many steps each time lies after the first; microseconds where the step has a unit.

    >>> counted(np.array([0, 36, 72]) * 3_600_000_000, "1 day").tolist()
    [0.0, 1.5, 3.0]
    >>> counted(np.array([1.0, 2.0]), "0.5").tolist()
    [0.0, 2.0]
    """
    count, _, unit = step.replace(",", "").partition(" ")
    unit = unit.rstrip("s")
    found: NDArray[np.float64]
    if not unit:
        found = (times_N - times_N[0]) / float(count)
        return found
    days_N = np.asarray(times_N, np.int64).astype("datetime64[us]").astype("datetime64[D]")
    if unit == "working day":
        found = np.busday_count(days_N[0], days_N).astype(np.float64)
    elif unit in MONTHS:
        months_N = days_N.astype("datetime64[M]").astype(np.int64)
        found = (months_N - months_N[0]) / (int(count) * MONTHS[unit])
    else:
        found = (times_N - times_N[0]) / (float(count) * dict(UNITS)[unit])
    return found


def _countings(times_N: Whole | NDArray[np.float64], series_N: Whole, *, calendar: bool) -> list[tuple[Whole, str]]:
    """Ways to count the steps, the likeliest first: as months, as working days, by the commonest distance."""
    found = []
    if calendar:
        dates_N = times_N.astype("datetime64[us]")
        months, working = _months(dates_N, series_N), _working_days(dates_N, series_N)
        found += [one for one in (months, working) if one is not None]
    apart = np.diff(times_N)[np.diff(series_N) == 0]
    if len(apart):
        values, counts = np.unique(apart, return_counts=True)
        common = values[counts.argmax()]
        steps_N = (times_N - times_N.min()) / common
        if np.allclose(steps_N, np.round(steps_N), atol=1e-6):
            words = in_words(int(common)) if calendar else f"{common:g}"
            found.append((np.round(steps_N).astype(np.int64), words))
    return found


def _months(dates_N: NDArray[np.datetime64], series_N: Whole) -> tuple[Whole, str] | None:
    """Times that fall on the same day of their months, or on the last."""
    month_N = dates_N.astype("datetime64[M]")
    day_N = (dates_N.astype("datetime64[D]") - month_N).astype(np.int64)
    left_N = ((month_N + 1).astype("datetime64[D]") - dates_N.astype("datetime64[D]")).astype(np.int64)
    clock_N = dates_N - dates_N.astype("datetime64[D]")
    number_N = month_N.astype(np.int64)
    apart = np.diff(number_N)[np.diff(series_N) == 0]
    on_same_day = bool((day_N == day_N[0]).all() or (left_N == left_N[0]).all()) and bool(
        (clock_N == clock_N[0]).all()
    )
    if not on_same_day or not len(apart) or apart.min() < 1:
        return None
    common = int(np.gcd.reduce(apart))
    words = {1: "1 month", 3: "1 quarter", 12: "1 year"}.get(common, f"{common} months")
    return (number_N - number_N.min()) // common, words


def _working_days(dates_N: NDArray[np.datetime64], series_N: Whole) -> tuple[Whole, str] | None:
    """Days from Monday to Friday, some of them Mondays after a Friday."""
    day_N = dates_N.astype("datetime64[D]")
    apart = np.diff(day_N.astype(np.int64))[np.diff(series_N) == 0]
    if not np.is_busday(day_N).all() or not len(apart) or np.bincount(np.clip(apart, 0, 9)).argmax() != 1:
        return None
    number_N = np.busday_count(day_N.min(), day_N).astype(np.int64)
    steps = int(np.diff(number_N)[np.diff(series_N) == 0].sum())
    if apart.sum() == steps or len(apart) < MOST * steps:  # no week ends between, or too few days to tell
        return None
    if not bool((dates_N - day_N == dates_N[0] - day_N[0]).all()):
        return None
    return number_N, "1 working day"


def in_words(microseconds: int) -> str:
    """A distance of time.

    >>> in_words(3_600_000_000), in_words(900_000_000), in_words(14 * 86_400_000_000)
    ('1 hour', '15 minutes', '2 weeks')
    """
    for name, size in UNITS:
        if microseconds % size == 0:
            count = microseconds // size
            return f"{count} {name}" if count == 1 else f"{count:,} {name}s"
    return f"{microseconds / SECOND:g} seconds"
