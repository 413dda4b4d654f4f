"""Answers stand under the keys of the input: its series in its order, its rows in their order, with its types."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from unvanish.train import fit
from unvanish.train.load import Loaded
from unvanish.train.streaming import predict_lines

QUICK: dict[str, Any] = {"hidden": 4, "layers": 1, "epochs": 1, "device": "cpu", "probes": 1}
SHOPS = (10, 2, 0, 11, 1)  # in another order as text, and as numbers, with gaps
DAY = dt.date(2024, 1, 1)


def table(keys: list[Any], steps: int = 24) -> pl.DataFrame:
    """Rows day by day, of all series in turn, with a label for each row and one for each series."""
    rng = np.random.default_rng(0)
    rows = [
        (key, DAY + dt.timedelta(step), float(np.sin(step) + place), "ud"[rng.integers(2)], "ab"[place % 2])
        for step in range(steps)
        for place, key in enumerate(keys)
    ]
    return pl.DataFrame(rows, schema=["unique_id", "ds", "y", "row", "whole"], orient="row")


@pytest.fixture(scope="module")
def runs() -> dict[str, Loaded]:
    data = table([*SHOPS])
    return {
        "ahead": fit(data.select("unique_id", "ds", "y"), horizon=2, length=6, scale="standard", **QUICK),
        "row": fit(data.drop("whole"), target=["row"], **QUICK),
        "whole": fit(data.drop("row"), target=["whole"], **QUICK),
    }


def csv_of(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_csv(path)
    return path


def parquet_of(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_parquet(path)
    return path


def lines_of(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_ndjson(path.with_suffix(".jsonl"))
    return path.with_suffix(".jsonl")


WRITE = [csv_of, parquet_of, lines_of]


@pytest.mark.parametrize("write", WRITE)
@pytest.mark.parametrize("keys", [[*SHOPS], ["b", "a", "10", "9", "c"]])
def test_series_stand_in_the_order_of_the_file_with_its_type_of_key(
    runs: dict[str, Loaded], tmp_path: Path, write: Callable[..., Path], keys: list[Any]
) -> None:
    path = write(table(keys), tmp_path / "new")
    ahead, whole, each = (runs[name].predict(path) for name in ("ahead", "whole", "row"))
    assert ahead["unique_id"].to_list() == [key for key in keys for _ in range(2)]
    assert ahead["ds"].to_list() == [DAY + dt.timedelta(24), DAY + dt.timedelta(25)] * 5
    assert whole["unique_id"].to_list() == keys
    assert each.select("unique_id", "ds").equals(table(keys).select("unique_id", "ds"))


def test_answers_belong_to_the_keys_beside_them(runs: dict[str, Loaded]) -> None:
    """The same series under names in the order of text have the same answers."""
    other = table(["a", "b", "c", "d", "e"])
    for name, run in runs.items():
        mixed, ordered = run.predict(table([*SHOPS])), run.predict(other)
        answers = [column for column in ordered.columns if ordered[column].dtype.is_float()]
        np.testing.assert_allclose(mixed[answers], ordered[answers], rtol=1e-5, err_msg=name)


def test_rows_in_any_order_are_answered_in_theirs(runs: dict[str, Loaded]) -> None:
    data = table([*SHOPS])
    mixed = data.sample(fraction=1, shuffle=True, seed=3)
    found = runs["row"].predict(mixed)
    assert found.select("unique_id", "ds").equals(mixed.select("unique_id", "ds"))
    joined = mixed.select("unique_id", "ds").join(
        runs["row"].predict(data), on=["unique_id", "ds"], how="left", maintain_order="left"
    )
    np.testing.assert_allclose(found["p(u)"], joined["p(u)"], rtol=1e-5)


def test_leading_zeros_and_text_of_a_typed_table_stay_text(runs: dict[str, Loaded], tmp_path: Path) -> None:
    zeros = table(["007", "010", "2", "1", "0"])
    for write in WRITE:
        found = runs["whole"].predict(write(zeros, tmp_path / "zeros"))
        assert found["unique_id"].to_list() == ["007", "010", "2", "1", "0"]
    text = table([*map(str, SHOPS)])
    assert runs["whole"].predict(parquet_of(text, tmp_path / "text"))["unique_id"].dtype == pl.String


@pytest.mark.parametrize(
    "kind",
    [pl.Date, pl.Datetime("ns"), pl.Datetime("ms", "Europe/Berlin"), pl.Int32, pl.Float32],
    ids=str,
)
def test_times_keep_their_type(runs: dict[str, Loaded], tmp_path: Path, kind: Any) -> None:
    data = table([*SHOPS])
    number = kind.is_numeric()
    days = (data["ds"] - DAY).dt.total_days() if number else data["ds"]
    zone = None if number or kind == pl.Date else kind.time_zone
    data = data.with_columns(days.cast(pl.Datetime("us")).dt.replace_time_zone(zone) if zone else days)
    data = data.with_columns(pl.col("ds").cast(kind))
    run = runs["ahead"]
    if number:
        run = fit(data.select("unique_id", "ds", "y"), horizon=2, length=6, **QUICK)
    path = parquet_of(data, tmp_path / "times.parquet")
    assert run.predict(path)["ds"].dtype == kind
    after = data["ds"][-1] + (1 if number else dt.timedelta(1))
    assert run.predict(path)["ds"][0] == after
    assert runs["row"].predict(path)["ds"].equals(data["ds"])


def test_dates_are_keys_of_series(runs: dict[str, Loaded], tmp_path: Path) -> None:
    starts = [dt.date(2024, month, 1) for month in (11, 2, 7, 1, 12)]
    found = runs["whole"].predict(parquet_of(table(starts), tmp_path / "dates"))
    assert found["unique_id"].to_list() == starts


def test_times_of_a_zone_in_text_are_written_with_one(runs: dict[str, Loaded], tmp_path: Path) -> None:
    data = table([*SHOPS]).with_columns(pl.col("ds").dt.strftime("%Y-%m-%dT00:00:00+02:00"))
    found = runs["ahead"].predict(csv_of(data, tmp_path / "zoned.csv"))
    assert found["ds"][0] == dt.datetime(2024, 1, 24, 22, tzinfo=dt.UTC)


@pytest.mark.parametrize("name", ["ahead", "row", "whole"])
def test_lines_of_json_are_answered_with_their_types(runs: dict[str, Loaded], name: str) -> None:
    data = table([*SHOPS]).sort("unique_id", maintain_order=True)
    text = io.StringIO(data.write_ndjson())
    found = pl.concat(predict_lines(runs[name], text))
    assert found["unique_id"].dtype == pl.Int64
    last = found.group_by("unique_id", maintain_order=True).tail(2)
    whole = runs[name].predict(data).group_by("unique_id", maintain_order=True).tail(2)
    keys = [key for key in ("unique_id", "ds") if key in whole.columns]
    assert last.select(keys).equals(whole.select(keys))
