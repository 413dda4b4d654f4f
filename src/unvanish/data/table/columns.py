"""What a column holds: numbers, words, or times; told by all of its values, and refused where one does not fit.

A column is read by what most of its values are: another value among them is a mistake to be mended, and is named
with row and column. A caller can take any column as words.
"""

from __future__ import annotations

import polars as pl

from unvanish.errors import DataError, printable

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "--", "?", "nil", "#n/a", "<na>", "missing")
FLAGS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
MOST = 0.5  # of the values
PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?inf(inity)?$"
COMMA = r"^[+-]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][+-]?\d+)?$"  # 1.234,5
GROUPED = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"  # 1,234.5
POINTS = r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"  # 1.234, a thousand where commas stand before decimals
HEAD_ROWS = 2  # the head is row 1, and rows are counted from 1


def _at(where: str, column: pl.Series, row: int) -> str:
    return f"{where}, row {row + HEAD_ROWS}, column {printable(column.name)}"


def cleaned(column: pl.Series) -> pl.Series:
    """A column of text without spaces at the ends, with what stands for a missing value as null."""
    if column.dtype != pl.String:
        return column
    stripped = column.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(list(MISSING)), None)


def as_numbers(column: pl.Series, where: str, decimal: str | None, usual: str | None = None) -> pl.Series | None:
    """A column as numbers (null where missing), or None where it holds words.

    Args:
        column: cleaned.
        where: what the table is called, for what is refused.
        decimal: the decimal mark, `.` or `,`; by default told by the values.
        usual: the mark where they can be read either way.

    Raises:
        DataError: most are numbers, and one is not; or whether 1,234 is a thousand cannot be told.
    """
    if column.dtype != pl.String:
        numeric = column.dtype.is_numeric() or column.dtype == pl.Boolean
        return column.cast(pl.Float64) if numeric else None
    values = column.drop_nulls()
    if not len(values):
        return column.cast(pl.Float64)
    lowered = values.str.to_lowercase()
    if lowered.is_in(list(FLAGS)).all():
        return column.str.to_lowercase().replace_strict(FLAGS, default=None, return_dtype=pl.Float64)
    written = _with_points(column, where, decimal or mark_of(column) or _fitting(column, usual))
    fits = written.str.contains(PLAIN)
    share = int(fits.sum()) / max(len(values), 1)
    if share <= MOST:
        return None
    wrong = (~fits).fill_null(value=False).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{_at(where, column, row)}: {printable(repr(column[row]))} is not a number, and {share:.1%} of "
            "the column are: mend it, leave the field empty, or take the column as "
            "words (--words)"
        )
    return written.cast(pl.Float64)


def mark_of(column: pl.Series) -> str | None:
    """Which mark stands before decimals, where a value with a comma tells it.

    >>> [mark_of(pl.Series(column)) for column in (["1,5", "1.234"], ["1,234,567"], ["1,234", "0.5"])]
    [',', '.', None]
    """
    if column.dtype != pl.String:
        return None
    if bool((column.str.contains(COMMA) & ~column.str.contains(GROUPED)).any()):
        return ","
    return "." if bool(column.str.contains(r",\d{3},|,\d{3}\.").any()) else None


def has_commas(column: pl.Series) -> bool:
    """Whether a value of a column of text holds a comma."""
    return column.dtype == pl.String and bool(column.str.contains(",", literal=True).any())


def _fitting(column: pl.Series, usual: str | None) -> str | None:
    """The usual mark, unless a point stands before decimals after all."""
    pointed = column.str.contains(".", literal=True) & ~column.str.contains(POINTS)
    return None if usual == "," and bool(pointed.any()) else usual


def _with_points(column: pl.Series, where: str, decimal: str | None) -> pl.Series:
    """The values with a point before the decimals and nothing between thousands."""
    if decimal == ".":
        return column.str.replace_all(",", "")
    if decimal == ",":
        return column.str.replace_all(r"\.(\d{3})", "$1").str.replace(",", ".")
    grouped = column.str.contains(GROUPED)
    if bool(grouped.any()):
        row = int(grouped.fill_null(value=False).arg_true()[0])
        raise DataError(
            f"{_at(where, column, row)}: {column[row]} may be a thousand or a decimal: say "
            "which mark stands before decimals, --decimal . or --decimal ,"
        )
    return column


# -- times -------------------------------------------------------------------------------------------------------

ISO = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y%m%d",
)
DAY_FIRST = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y")
MONTH_FIRST = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y")
ZONE = r"(Z|[+-]\d{2}:?\d{2})$"


def as_times(column: pl.Series, where: str) -> tuple[pl.Series, str] | None:
    """A column as times of UTC, with a word on what was done; None where it holds none.

    Raises:
        DataError: most are times and one is not; some have a zone and some have none; or whether the day or the
            month comes first cannot be told.
    """
    if column.dtype in (pl.Date, pl.Datetime):
        zone = getattr(column.dtype, "time_zone", None)
        found = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else column
        return found.cast(pl.Datetime("us")), f"times of {zone} taken as UTC" if zone else ""
    if column.dtype != pl.String or not len(column.drop_nulls()):
        return None
    zoned = column.str.contains(ZONE) & column.str.contains(":")
    if bool(zoned.any()):
        return _zoned(column, zoned, where)
    first, second = _best(column, ISO), _best(column, DAY_FIRST)
    month = _best(column, MONTH_FIRST)
    told = ""
    if second.null_count() == month.null_count() < first.null_count() and not second.equals(month):
        raise DataError(
            f"{where}, column {printable(column.name)}: {column.drop_nulls()[0]} may have the day or the month "
            "first: write dates as 2024-12-31"
        )
    found = min((first, second, month), key=lambda one: one.null_count())
    return _all_read(column, found, where, told)


def _best(column: pl.Series, forms: tuple[str, ...]) -> pl.Series:
    """The values read by whichever form each of them has."""
    found = pl.Series(column.name, [None] * len(column), dtype=pl.Datetime("us"))
    for form in forms:
        left = found.is_null() & column.is_not_null()
        if not bool(left.any()):
            break
        found = found.zip_with(~left, _parsed(column, form))
    return found


def _parsed(column: pl.Series, form: str) -> pl.Series:
    if "%H" in form:
        return column.str.to_datetime(form, strict=False, time_unit="us")
    return column.str.to_date(form, strict=False).cast(pl.Datetime("us"))


def _zoned(column: pl.Series, zoned: pl.Series, where: str) -> tuple[pl.Series, str]:
    bare = (~zoned).fill_null(value=False).arg_true()
    if len(bare):
        row = int(bare[0])
        raise DataError(
            f"{_at(where, column, row)}: {printable(repr(column[row]))} has no time zone, and others "
            "have one: write all of them with a zone, or none"
        )
    even = column.str.replace(r"Z$", "+00:00").str.replace(r"([+-]\d{2})(\d{2})$", "$1:$2").str.replace(" ", "T")
    whole = even.str.replace(r"(T\d{2}:\d{2})([+-])", "$1:00$2")
    found = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_unit="us", time_zone="UTC")
    zones = column.str.extract(ZONE).n_unique()
    told = f"times of {zones} zones taken as UTC" if zones > 1 else ""
    found_told = _all_read(column, found.dt.replace_time_zone(None), where, told)
    assert found_told is not None
    return found_told


def _all_read(column: pl.Series, found: pl.Series, where: str, told: str) -> tuple[pl.Series, str] | None:
    wrong = found.is_null() & column.is_not_null()
    if float(wrong.sum()) >= (1 - MOST) * max(len(column.drop_nulls()), 1):
        return None
    if bool(wrong.any()):
        row = int(wrong.arg_true()[0])
        raise DataError(
            f"{_at(where, column, row)}: {printable(repr(column[row]))} is not a time, and others are: "
            "mend it, such as 2024-12-31 23:59:00"
        )
    return found, told
