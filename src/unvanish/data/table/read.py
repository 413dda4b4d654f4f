"""A table -> sequences: a row is a step, of one series or of the series that a column tells apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unvanish.data.precision import check_single
from unvanish.data.sequences import Categories, Sequences, Target
from unvanish.data.table.apart import check_apart
from unvanish.data.table.columns import HEAD_ROWS, as_numbers, as_times, cleaned, has_commas, mark_of
from unvanish.data.table.file import kind_of, read_columns
from unvanish.data.table.keys import group_keys, rows_of_steps, time_keys
from unvanish.data.table.roles import Roles, TableOptions, roles
from unvanish.data.table.times import Grid, each_row, even_steps
from unvanish.errors import DataError, printable

ROW = "__row__"  # where a row stood in the file
LEVELS = 1000  # of a column of words: more of them, on nearly every row another one, are names or prose
OWN = 0.5  # levels to rows


def read_table(path: Path, asked: TableOptions | None = None) -> Sequences:
    """Read a table as sequences.

    Numbers stay as they are and what is missing is NaN; words become categories. Series are laid on even steps (see
    `times`). A target is a class where its column holds words, and a number where it holds numbers; it belongs to
    the sequence where it never changes within one, and else to the step. `told` says what was found and done.

    Raises:
        DataError: the file is no table, or a value cannot be what its column is; with row and column.
        OptionError: a column that was asked for is not there.
    """
    return of_frame(read_columns(path), asked, source=str(path), typed=kind_of(path) != "text")


def of_frame(
    frame: pl.DataFrame, asked: TableOptions | None = None, *, source: str = "a data frame", typed: bool = True
) -> Sequences:
    """Make sequences of a data frame, as `read_table` does of a file.

    Args:
        source: what it is called where it is refused.
        typed: whether its columns have types of their own, and are not all text because a file has no types.

    Raises:
        DataError: a value cannot be what its column is; with row and column.
        OptionError: a column that was asked for is not there.
    """
    asked = asked or TableOptions()
    _check_kept(asked, frame.columns, source)
    chosen = roles(frame.columns, asked, source)
    told: list[str] = []
    frame = _without_empty_rows(frame.with_columns([cleaned(frame[name]) for name in frame.columns]), told)
    columns = _Columns(frame, source, asked, told)
    times, calendar = columns.times(chosen.time)
    if times is not None and chosen.group is None:
        check_apart(frame, times, chosen.inputs, source)
    table = _sorted(frame.height, times, columns.groups(chosen.group), told)
    if times is None:
        grid = each_row(table.series_N)
    else:
        grid = even_steps(table.times_N, table.series_N, calendar=calendar, step=asked.step)
    if grid.gaps:
        told.append(gaps_told(grid.gaps, int(grid.lengths_B.sum())))
    if times is not None and not grid.step and len(table.times_N) > len(grid.lengths_B):
        told.append(f"the times in {printable(str(chosen.time))} are not evenly spaced: each row is a step")
    target = _target(columns, chosen, asked, table, grid) if chosen.target else None
    found = _built(source, columns, chosen, asked, table, grid, target, told)
    row_N = rows_of_steps(grid.place_N, table.order_N, len(found.numbers_NF))
    return dataclasses.replace(found, row_N=row_N, rows=_key_columns(frame, chosen, times, typed=typed))


def _key_columns(frame: pl.DataFrame, chosen: Roles, times_N: Any, *, typed: bool) -> pl.DataFrame:
    """The keys of the rows with the types of the source."""
    found = {}
    if chosen.group is not None:
        found[chosen.group] = group_keys(frame[chosen.group], typed=typed)
    if chosen.time is not None:
        found[chosen.time] = time_keys(frame[chosen.time], times_N)
    return pl.DataFrame(found)


def gaps_told(gaps: int, steps: int) -> str:
    """Say that steps have no row.

    >>> gaps_told(1, 900), gaps_told(4, 900)
    ('1 step of 900 has no row: it counts as missing', '4 steps of 900 have no row: they count as missing')
    """
    if gaps == 1:
        return f"1 step of {steps:,} has no row: it counts as missing"
    return f"{gaps:,} steps of {steps:,} have no row: they count as missing"


def commas_told(names: Iterable[str]) -> str:
    """Say where a comma is read as the mark before decimals."""
    return f"a comma stands before the decimals of {', '.join(map(printable, names))}"


def _check_kept(asked: TableOptions, names: Sequence[str], source: str) -> None:
    """Refuse a table without a column that a run reads; what else it has is of no matter to the run."""
    for name in asked.keep:
        if name not in names:
            there = ", ".join(map(printable, names))
            raise DataError(
                f"{source} has no column {printable(name)}, which the run was trained with: it has {there}"
            )


class _Columns:
    """The columns of a table as numbers, words or times, each read once."""

    def __init__(self, frame: pl.DataFrame, source: str, asked: TableOptions, told: list[str]) -> None:
        self.frame, self.source, self.asked, self.told = frame, source, asked, told
        self.marks: list[tuple[str, str]] = []
        self.commas: list[str] = []
        self._numbers: dict[str, np.ndarray[Any, Any] | None] = {}

    def numbers(self, name: str) -> np.ndarray[Any, Any] | None:
        """A column as numbers, or None where it holds words."""
        if name not in self._numbers:
            words = name in self.asked.words
            found = None if words else self._as_numbers(name)
            self._numbers[name] = None if found is None else found.fill_null(float("nan")).to_numpy()
        return self._numbers[name]

    def _as_numbers(self, name: str) -> pl.Series | None:
        column, decimal = self.frame[name], self.asked.decimal
        usual = dict(self.asked.marks).get(name)
        found = as_numbers(column, self.source, decimal, usual)
        if found is None or decimal:
            return found
        mark = mark_of(column)
        if mark:
            self.marks.append((name, mark))
        if (mark or usual) == "," and has_commas(column):
            self.commas.append(name)
        return found

    def words(self, name: str) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
        """A column as the levels that it has, in their order, and codes; -1 where it is missing."""
        column = self.frame[name].cast(pl.String)
        levels = column.drop_nulls().unique().sort()
        codes = pl.Series(range(len(levels)), dtype=pl.Int32)
        found = column.replace_strict(levels, codes, default=None, return_dtype=pl.Int32)
        return tuple(levels.to_list()), found.fill_null(-1).to_numpy().astype(np.int32)

    def times(self, name: str | None) -> tuple[np.ndarray[Any, Any] | None, bool]:
        """When each row was, and whether that is a time of the calendar rather than a number."""
        if name is None:
            return None, False
        column = self.frame[name]
        missing = column.is_null().arg_true()
        if len(missing):
            row = int(self.frame[ROW][int(missing[0])])
            raise DataError(f"{self.source}, row {row}, column {printable(name)}: the time is missing; fill it in")
        dates = as_times(column, self.source)
        if dates is not None:
            self.told += [dates[1]] if dates[1] else []
            return dates[0].to_physical().to_numpy().astype(np.int64), True
        numbers = as_numbers(column, self.source, self.asked.decimal)
        if numbers is None:
            raise DataError(
                f"{self.source}, row {self.frame[ROW][0]}, column {printable(name)}: "
                f"{printable(repr(column[0]))} is neither a time nor a number; write times as 2024-12-31 23:59:00"
            )
        return numbers.to_numpy().astype(np.float64), False

    def groups(self, name: str | None) -> tuple[tuple[str, ...], np.ndarray[Any, Any]] | None:
        """Which series each row is of."""
        if name is None:
            return None
        levels, codes_N = self.words(name)
        missing = np.flatnonzero(codes_N < 0)
        if len(missing):
            row = int(self.frame[ROW][int(missing[0])])
            raise DataError(
                f"{self.source}, row {row}, column {printable(name)}: the series is missing; fill it in"
            )
        return levels, codes_N


@dataclass(frozen=True, eq=False)
class _Table:
    """The rows that are kept, in the order of their series and of time."""

    order_N: Any
    times_N: Any
    series_N: Any
    keys: tuple[str, ...]


def _sorted(count: int, times: Any, groups: Any, told: list[str]) -> _Table:
    keys, series_N = groups if groups is not None else (("",), np.zeros(count, dtype=np.int64))
    series_N = series_N.astype(np.int64)
    if times is None:
        order_N = np.argsort(series_N, kind="stable")
        return _Table(order_N, None, series_N[order_N], keys)
    order_N = np.lexsort((np.arange(count), times, series_N))
    times_N, series_N = times[order_N], series_N[order_N]
    again_N = np.append((np.diff(times_N) == 0) & (np.diff(series_N) == 0), False)
    if again_N.any():
        told.append(f"{_rows(again_N.sum())} the time of a later row of their series: the last counts")
    kept_N = ~again_N
    return _Table(order_N[kept_N], times_N[kept_N], series_N[kept_N], keys)


def _without_empty_rows(frame: pl.DataFrame, told: list[str]) -> pl.DataFrame:
    names = frame.columns
    frame = frame.with_row_index(ROW, offset=HEAD_ROWS)
    kept = frame.filter(pl.any_horizontal(pl.col(names).is_not_null()))
    if kept.height < frame.height:
        empty = frame.height - kept.height
        told.append("1 row is empty, and left out" if empty == 1 else f"{empty:,} rows are empty, and left out")
    return kept


def _rows(count: int) -> str:
    return "1 row has" if count == 1 else f"{int(count):,} rows have"


def _laid(values_N: Any, table: _Table, grid: Grid, missing: float) -> Any:
    """The values of the rows on the steps."""
    found = np.full(int(grid.lengths_B.sum()), missing, dtype=np.float32 if missing != missing else np.int32)
    found[grid.place_N] = values_N[table.order_N]
    return found


def _target(columns: _Columns, chosen: Roles, asked: TableOptions, table: _Table, grid: Grid) -> Target:
    numbers = [columns.numbers(name) for name in chosen.target]
    if any(one is None for one in numbers):
        if len(chosen.target) > 1:
            worded = next(name for name, one in zip(chosen.target, numbers, strict=True) if one is None)
            raise DataError(
                f"{columns.source}: the target {printable(worded)} holds words, and there are several targets: "
                "classes are predicted one column at a time"
            )
        levels, codes_N = columns.words(chosen.target[0])
        if asked.horizon:
            raise DataError(
                f"{columns.source}: the target {printable(chosen.target[0])} holds words: --horizon is for numbers"
            )
        values_NG = _laid(codes_N, table, grid, -1)[:, None]
        return _of_sequence(Target("class", "step", chosen.target, values_NG, levels), grid, columns, chosen)
    for name, one in zip(chosen.target, numbers, strict=True):
        _check_precision(one, f"{columns.source}, column {printable(name)}", table, apart=not asked.keep)
    values_NG = np.stack([_laid(one, table, grid, np.nan) for one in numbers], 1)
    found = Target("number", "step", chosen.target, values_NG, ahead=asked.horizon)
    return found if asked.horizon else _of_sequence(found, grid, columns, chosen)


def _check_precision(values_N: Any, what: str, table: _Table, *, apart: bool) -> None:
    """Refuse numbers that a network would not see as they are, series by series."""
    ordered_N = values_N[table.order_N]
    starts_S = np.flatnonzero(np.diff(table.series_N, prepend=-1))
    if len(ordered_N):
        check_single(ordered_N, what, starts_S, apart=apart)


def _fits_single(values_N: Any, name: str, asked: TableOptions, told: list[str]) -> bool:
    """Whether a column beside the target can be read; that it cannot is told."""
    try:
        check_single(values_N, f"column {printable(name)}", apart=name not in asked.keep)
    except DataError as fault:
        if name in asked.keep:
            raise
        told.append(f"{fault}; it is left out")
        return False
    return True


def _of_sequence(target: Target, grid: Grid, columns: _Columns, chosen: Roles) -> Target:
    """A target that never changes within a series, of several series, belongs to the series; or as is asked for."""
    per = columns.asked.per
    if per == "step" or (per is None and (chosen.group is None or len(grid.lengths_B) < 2)):
        return target
    starts_B = np.cumsum(grid.lengths_B) - grid.lengths_B
    values = target.values.astype(np.float64)
    known = values >= 0 if target.kind == "class" else ~np.isnan(values)
    low = np.minimum.reduceat(np.where(known, values, np.inf), starts_B)
    high = np.maximum.reduceat(np.where(known, values, -np.inf), starts_B)
    if not (high <= low).all():
        if per is None or columns.asked.unlabelled:
            return target
        listed = ", ".join(map(printable, chosen.target))
        raise DataError(
            f"{columns.source}: {listed} changes within a sequence, and the run tells one answer of a whole one: "
            f"give the column that tells sequences apart as it was in training"
        )
    missing = -1.0 if target.kind == "class" else np.nan
    values_BG = np.where(np.isinf(low), missing, low).astype(target.values.dtype)
    return Target(target.kind, "sequence", target.names, values_BG, target.levels)


def _built(
    source: str,
    columns: _Columns,
    chosen: Roles,
    asked: TableOptions,
    table: _Table,
    grid: Grid,
    target: Target | None,
    told: list[str],
) -> Sequences:
    numbers: dict[str, Any] = {}
    categories: list[Categories] = []
    for name in _read(chosen, asked, target):
        found = columns.numbers(name)
        if found is not None:
            if name not in chosen.target and not _fits_single(found, name, asked, told):
                continue
            own_N, laid_N = found[table.order_N], _laid(found, table, grid, np.nan)
            _keep_numbers(name, own_N, laid_N, numbers, told, always=name in asked.keep)
            if name in numbers:
                ahead_N = _ahead(laid_N, grid) if name in chosen.target else False
                _tell_missing(name, np.isnan(laid_N) & ~np.asarray(ahead_N), told)
        else:
            levels, codes_N = columns.words(name)
            if len(levels) > LEVELS and len(levels) > OWN * len(codes_N) and name not in asked.keep:
                told.append(f"column {printable(name)} has a word of its own on most rows: it is left out")
            else:
                categories.append(Categories(name, levels, _laid(codes_N, table, grid, -1)))
                _tell_missing(name, categories[-1].codes_N < 0, told)
    if columns.commas:
        told.append(commas_told(columns.commas))
    if not numbers and not categories:
        if target is not None and target.ahead:
            why = "; ".join(told) or "it has no values"
            raise DataError(f"{source} holds nothing to forecast: {why}")
        raise DataError(f"{source} has no column to predict {', '.join(chosen.target)} from: keep one beside it")
    steps = int(grid.lengths_B.sum())
    numbers_NF = np.stack(list(numbers.values()), 1) if numbers else np.zeros((steps, 0), np.float32)
    times_N = None
    if table.times_N is not None:
        times_N = np.full(
            steps, np.iinfo(np.int64).min if table.times_N.dtype == np.int64 else np.nan, table.times_N.dtype
        )
        times_N[grid.place_N] = table.times_N
    return Sequences(
        source,
        grid.lengths_B.astype(np.int64),
        table.keys,
        numbers_NF,
        tuple(numbers),
        tuple(categories),
        target,
        times_N,
        grid.step,
        asked.known,
        tuple(told),
        (chosen.group or "sequence", chosen.time or "step"),
        tuple(columns.marks),
    )


def _read(chosen: Roles, asked: TableOptions, target: Target | None) -> tuple[str, ...]:
    """The columns that are read: of a run, those that it was trained with."""
    inputs = tuple(name for name in chosen.inputs if name in asked.keep) if asked.keep else chosen.inputs
    return (*chosen.target, *inputs) if target is not None and target.ahead else inputs


def _keep_numbers(
    name: str, own_N: Any, laid_N: Any, numbers: dict[str, Any], told: list[str], *, always: bool = False
) -> None:
    """Keep a column of numbers, as it is on its rows and laid on the steps, unless it says nothing."""
    known = own_N[~np.isnan(own_N)]
    if not always and not len(known):
        told.append(f"column {printable(name)} has no values: it is left out")
    elif not always and (known == known[0]).all() and len(known) == len(own_N):
        told.append(f"column {printable(name)} is {known[0]:g} on every row: it is left out")
    else:
        numbers[name] = laid_N


def _ahead(laid_N: Any, grid: Grid) -> Any:
    """Which steps come after the last known value of their series: what a run is to forecast is not missing."""
    starts_B = np.cumsum(grid.lengths_B) - grid.lengths_B
    place_N = np.arange(len(laid_N))
    last_B = np.maximum.reduceat(np.where(np.isnan(laid_N), -1, place_N), starts_B)
    return place_N > np.repeat(last_B, grid.lengths_B)


def _tell_missing(name: str, missing_N: Any, told: list[str]) -> None:
    missing = int(missing_N.sum())
    if missing:
        are = "is" if missing == 1 else "are"
        told.append(f"column {printable(name)}: {missing:,} of {len(missing_N):,} steps {are} missing")
