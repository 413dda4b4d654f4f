"""Tables are read as they were written, whatever their form; what is damaged is refused with row and column.

Shapes: N steps, B series.
"""

from __future__ import annotations

import codecs
import csv
import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unvanish.data.sequences import Sequences
from unvanish.data.table import TableOptions, read_table
from unvanish.errors import DataError, OptionError

HOURS = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(48)]
WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=("Cs",)), max_size=6)


def written(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(*columns: Any, head: str) -> str:
    return "\n".join([head, *(",".join(str(one) for one in row) for row in zip(*columns, strict=True))]) + "\n"


def number(value: float | None, decimal: str) -> str:
    return "" if value is None else repr(value).replace(".", decimal)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)),
            st.floats(-1e6, 1e6, width=32),
            st.one_of(WORD.map(lambda word: f"w{word}"), st.just("")),
        ),
        min_size=3,
        max_size=12,
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([".", ","]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[float | None, float, str]],
    separator: str,
    decimal: str,
    end: str,
    mark: bool,
    shuffled: Any,
) -> None:
    """Numbers, missing ones, words with separators, quotes and line ends, rows in any order."""
    table = [(x, float(np.float32(y + 0.5)), word.strip()) for x, y, word in table]  # as a network has them
    lines = [(HOURS[at], number(x, decimal), number(y, decimal), word) for at, (x, y, word) in enumerate(table)]
    shuffled.shuffle(lines)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerows([("ds", "x", "y", "word"), *lines])
    content = codecs.BOM_UTF8 * mark + text.getvalue().encode()
    path = written(tmp_path_factory.mktemp("table"), content)
    found = read_table(path, TableOptions(horizon=1, decimal=decimal, words=("word",)))
    numbers = {name: found.numbers_NF[:, column] for column, name in enumerate(found.names)}
    for name, wanted in (("x", [x for x, _, _ in table]), ("y", [y for _, y, _ in table])):
        values = np.array([np.nan if one is None else one for one in wanted], dtype=np.float32)
        if name in numbers:
            np.testing.assert_array_equal(numbers[name], values)
        else:
            assert any(f"column {name}" in line for line in found.told)
    words = [word.strip() for _, _, word in table]
    for column in found.categories:
        read = [column.levels[code] if code >= 0 else "" for code in column.codes_N]
        assert read == [word if word else "" for word in words]
    assert found.step == "1 hour"


def series(found: Sequences) -> list[list[float]]:
    return [found.numbers_NF[place, 0].tolist() for place in found.places()]


def test_series_are_told_apart_put_in_order_and_laid_on_even_steps(tmp_path: Path) -> None:
    times = ["2024-03-03", "2024-03-01", "2024-03-02", "2024-03-01", "2024-03-05", "2024-03-02"]
    path = written(tmp_path, rows("aaabbb", times, [3, 1, 2, 10, 50, 20], head="unique_id,ds,y"))
    found = read_table(path, TableOptions(horizon=2))
    assert found.keys == ("a", "b")
    assert found.lengths_B.tolist() == [3, 5]
    assert found.step == "1 day"
    np.testing.assert_array_equal(series(found)[0], [1, 2, 3])
    np.testing.assert_array_equal(series(found)[1], [10, 20, np.nan, np.nan, 50])
    assert "2 steps of 8 have no row: they count as missing" in found.told


@pytest.mark.parametrize(
    ("times", "step", "count"),
    [
        (["2024-01-31", "2024-02-29", "2024-03-31", "2024-05-31"], "1 month", 5),
        (["2024-01-01", "2024-04-01", "2024-07-01"], "1 quarter", 3),
        (["2021-01-01", "2022-01-01", "2024-01-01"], "1 year", 4),
        (["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-11"], "1 working day", 6),
        (["2024-01-01 00:00", "2024-01-01 00:15", "2024-01-01 00:45"], "15 minutes", 4),
        (["01.02.2024", "02.02.2024", "13.02.2024"], "1 day", 13),
        (["02/01/2024", "02/02/2024", "02/13/2024"], "1 day", 13),
        (["2024-01-01T00:00:00Z", "2024-01-01T02:00:00+01:00", "2024-01-01T02:00:00Z"], "1 hour", 3),
        (["20240101", "20240102"], "1 day", 2),
        (["1", "2", "4"], "1", 4),
        (["0.5", "0.75", "1.25"], "0.25", 4),
        (["2024-01-01 00:00:00", "2024-01-01 00:00:01", "2024-01-09 00:00:07"], "", 3),
    ],
)
def test_distance_of_the_steps(tmp_path: Path, times: list[str], step: str, count: int) -> None:
    values = list(range(len(times)))
    found = read_table(written(tmp_path, rows(times, values, head="ds,y")), TableOptions(horizon=1))
    assert (found.step, int(found.lengths_B[0])) == (step, count)


def test_label_that_never_changes_within_a_series_belongs_to_it(tmp_path: Path) -> None:
    path = written(tmp_path, rows("aabbcc", ["up", "up", "down", "down", "up", "up"], range(6), head="id,label,x"))
    found = read_table(path, TableOptions(group="id"))
    assert found.target is not None
    assert (found.target.kind, found.target.per, found.target.levels) == ("class", "sequence", ("down", "up"))
    assert found.target.values[:, 0].tolist() == [1, 0, 1]
    per_step = read_table(path, TableOptions(target=("x",), group="id"))
    assert per_step.target is not None
    assert (per_step.target.kind, per_step.target.per) == ("number", "step")


def test_one_file_in_every_form(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": HOURS[:5], "y": [1.5, None, 3.0, 4.0, 9.0], "shop": ["a", "b", None, "a", "a"]})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.jsonl")
    (tmp_path / "u.csv").write_bytes((tmp_path / "t.csv").read_text().encode("utf-16"))
    for name in ("t.csv", "t.tsv", "t.parquet", "t.jsonl", "u.csv"):
        found = read_table(tmp_path / name, TableOptions(horizon=1))
        np.testing.assert_array_equal(found.numbers_NF[:, 0], [1.5, np.nan, 3, 4, 9])
        assert found.categories[0].codes_N.tolist() == [0, 1, -1, 0, 0]
        assert found.step == "1 hour"


@pytest.mark.parametrize(
    ("text", "asked", "message"),
    [
        ("", {}, "is empty"),
        ("a,y\n", {}, "has no rows"),
        ("1,2\n3,4\n", {}, "has no head: its first row is 1, 2"),
        ("a,a\n1,2\n", {}, "two columns are called 'a'"),
        ("a,,y\n1,2,3\n", {}, "column 2 has no name"),
        ("a,y\n1,2\n3\n", {}, "row 3: 1 fields, and the head has 2"),
        ("a,y\n1,2\n3,4,5\n", {}, "row 3: 3 fields, and the head has 2"),
        ('a,y\n"1\n1",2\n3,4,5\n', {"words": ("a",)}, "row 4: 3 fields"),
        ("a,y\n1,2\n3,x\n5,6\n", {}, "row 3, column y: 'x' is not a number"),
        ("ds,y\n2024-01-01,2\n2024-01-02,3\nsoon,6\n", {}, "row 4, column ds: 'soon' is not a time"),
        ("ds,y\n2024-01-01,2\n,3\n", {}, "row 3, column ds: the time is missing"),
        ("ds,y\n01/02/2024,2\n03/04/2024,3\n", {}, "may have the day or the month first"),
        ("ds,y\n2024-01-01T00:00Z,2\n2024-01-01T01:00,3\n", {}, "row 3, column ds: .* has no time zone"),
        ('a,y\n"1,234",2\n"2,345",3\n', {}, "row 2, column a: 1,234 may be a thousand or a decimal"),
        ("a,b\n1,2\n3,4\n", {}, "does not say what to predict: name a column with --target, of a, b"),
        ("y\n1\n2\n", {}, "has no column to predict y from"),
        ("a,y\n3,1\n3,2\n", {}, "has no column to predict y from"),
        ("unique_id,y,a\nu,1,2\n,2,4\n", {}, "row 3, column unique_id: the series is missing"),
        ("a,y\n1,2\n\xe9,4\n".encode("latin-1"), {}, "is not UTF-8 in row 3"),
        (b"a,y\n1,2\n\0,4\n", {}, "holds a zero byte in row 3"),
        ("a,y\n1,u\n2,v\n", {"horizon": 2}, "holds words: --horizon is for numbers"),
        ("a,y,z\n1,u,3\n2,v,4\n", {"target": ("y", "z")}, "classes are predicted one column at a time"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, text: str | bytes, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, text), TableOptions(**asked))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": ("sails",)}, "--target sails: the table has no such column; did you mean 'sales'"),
        ({"time": "when", "target": ("sales",)}, "--time when: the table has no such column"),
        ({"target": ("ds",)}, "that column is the time"),
        ({"horizon": -1}, "--horizon is -1"),
        ({"decimal": ";"}, "--decimal is ';'"),
    ],
)
def test_columns_that_are_not_there_are_named(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    path = written(tmp_path, "ds,sales,a\n2024-01-01,2,1\n2024-01-02,3,4\n")
    with pytest.raises(OptionError, match=message):
        read_table(path, TableOptions(**asked))


def test_what_was_done_is_told(tmp_path: Path) -> None:
    times = ["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-03"]
    head = "ds,y,same,empty,name"
    text = rows(times, [1, 2, 3, 4], "7777", ["", "NA", "null", "-"], "pqrs", head=head) + ",,,,\n"
    found = read_table(written(tmp_path, text), TableOptions(horizon=1))
    assert "1 row is empty, and left out" in found.told
    assert "1 row has the time of a later row of their series: the last counts" in found.told
    assert "column same is 7 on every row: it is left out" in found.told
    assert "column empty has no values: it is left out" in found.told
    np.testing.assert_array_equal(found.numbers_NF[:, 0], [2, 3, 4])


def test_missing_words_decimal_commas_and_a_constant_with_gaps_are_told(tmp_path: Path) -> None:
    lines = ["ds;y;price;sky;same", "2024-01-01;1;1,5;x;7", "2024-01-02;2;2,5;;7", "2024-01-03;3;;y;7"]
    lines += ["2024-01-06;4;1,5;x;7", "2024-01-07;5;3;x;7"]
    path = written(tmp_path, "\n".join(lines) + "\n")
    told = read_table(path, TableOptions(horizon=1)).told
    assert told == (
        "2 steps of 7 have no row: they count as missing",
        "column y: 2 of 7 steps are missing",
        "column price: 3 of 7 steps are missing",
        "column sky: 3 of 7 steps are missing",
        "column same is 7 on every row: it is left out",
        "a comma stands before the decimals of price",
    )


def test_rows_of_series_that_nobody_tells_apart_are_refused_with_the_column_that_does(tmp_path: Path) -> None:
    keys, times, values = zip(*((key, t, t * 0.37 + key) for key in range(4) for t in range(9)), strict=True)
    path = written(tmp_path, rows(keys, times, values, head="machine,t,y"))
    with pytest.raises(DataError, match=r"27 of 36 rows .* and machine tells them apart as 4 series"):
        read_table(path, TableOptions(horizon=1))
    assert len(read_table(path, TableOptions(horizon=1, group="machine"))) == 4
    assert len(read_table(path, TableOptions(horizon=1, ignore=("machine",)))) == 1
    twice = written(tmp_path, rows([1, 1, 2, 2] * 3, [0, 0, 1, 1] * 3, range(12), head="a,t,y"), "twice.csv")
    assert len(read_table(twice, TableOptions(horizon=1))) == 1  # no column tells these apart


@pytest.mark.parametrize(
    ("fields", "decimal", "wanted"),
    [
        (["1,5", "-2,25", "3"], None, [1.5, -2.25, 3]),
        (["1.234,5", "2,5", "1.000,0"], None, [1234.5, 2.5, 1000]),
        (["1,234.5", "2,000.0", "3"], None, [1234.5, 2000, 3]),
        (["1,234", "2,345", "3"], ",", [1.234, 2.345, 3]),
        (["1,234", "2,345", "3"], ".", [1234, 2345, 3]),
        (["1e3", "+2", ".5"], None, [1000, 2, 0.5]),
        (["yes", "no", "yes"], None, [1, 0, 1]),
        (["1", "n/a", "NaN"], None, [1, np.nan, np.nan]),
    ],
)
def test_forms_of_numbers(tmp_path: Path, fields: list[str], decimal: str | None, wanted: list[float]) -> None:
    text = "".join(f"{field};{at}\n" for at, field in enumerate(fields))
    found = read_table(written(tmp_path, "a;y\n" + text), TableOptions(decimal=decimal))
    np.testing.assert_allclose(found.numbers_NF[:, 0], wanted, rtol=1e-6)


def test_a_hundred_thousand_series_are_read(tmp_path: Path) -> None:
    count = 100_000
    frame = pl.DataFrame(
        {"unique_id": np.repeat(np.arange(count), 2), "ds": [1, 2] * count, "y": np.arange(2 * count)}
    )
    frame.write_csv(tmp_path / "many.csv")
    found = read_table(tmp_path / "many.csv", TableOptions(horizon=1))
    assert len(found) == count
    assert (found.lengths_B == 2).all()
