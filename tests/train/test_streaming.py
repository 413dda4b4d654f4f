"""Rows that come one at a time are answered as `predict` answers the whole file up to them, and each at once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.runs import forecast, labelled, small, straight
from unvanish.cli import main
from unvanish.errors import DataError, OptionError
from unvanish.train import Loaded, TrainSettings, fit, load_run, predict
from unvanish.train.streaming import predict_lines

QUICK: dict[str, Any] = {"hidden": 8, "layers": 2, "epochs": 1, "device": "cpu", "probes": 1}
ROUNDING: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def readings(steps: int = 90, count: int = 1) -> pl.DataFrame:
    """Hourly series with a word beside the number, some values missing, some hours without a row."""
    rng, rows = np.random.default_rng(2), []
    for step in range(steps):
        for series in range(count):
            moment = str(np.datetime64("2024-02-27T00:00:00") + np.timedelta64(step + 3 * series, "h"))
            y = None if rng.random() < 0.1 else round(float(np.sin(step / 3) + series + 0.1 * rng.normal()), 4)
            if rng.random() > 0.05 or step < 3:
                rows.append((f"s{series}", moment.replace("T", " "), y, "ab"[rng.integers(2)], float(rng.normal())))
    return pl.DataFrame(rows, schema=["unique_id", "ds", "y", "word", "beside"], orient="row")


def lines_of(frame: pl.DataFrame) -> list[str]:
    return frame.write_csv().splitlines(keepends=True)


def assert_same(found: pl.DataFrame, whole: pl.DataFrame) -> None:
    """Two tables have the same keys, and the same numbers to rounding."""
    assert found.columns == whole.columns
    for name in whole.columns:
        if whole[name].dtype.is_float():
            np.testing.assert_allclose(found[name], whole[name], **ROUNDING)
        else:
            assert found[name].to_list() == whole[name].to_list()


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"cell": "clockwork_rnn"},
        {"cell": "delayed_rnn", "engine": "reference"},
        {"skips": [4], "connect": "residual"},
        {"likelihood": "gaussian", "proj_size": 4},
    ],
    ids=["lstm", "clockwork", "delayed", "skips", "gaussian"],
)
def test_forecasts_after_each_row_are_those_of_the_file_so_far_past_the_window_too(
    network: dict[str, Any],
) -> None:
    data = readings().drop("unique_id")
    run = fit(data, horizon=4, length=10, **{**QUICK, **network})
    answered = iter(predict_lines(run, lines_of(data)))
    compared = 0
    for rows in range(1, data.height + 1):
        if data["y"][rows - 1] is None:
            continue
        found = next(answered)
        if rows < 8 or (rows % 13 and rows != data.height):
            continue
        assert_same(found, run.predict(data[:rows]))
        compared += 1
    assert next(answered, None) is None
    assert compared > 5


def test_series_that_take_turns_are_answered_each_by_itself() -> None:
    data = readings(40, 3)
    run = fit(data, horizon=3, length=16, scale="standard", **QUICK)
    last = {frame["unique_id"][0]: frame for frame in predict_lines(run, lines_of(data))}
    assert_same(pl.concat([last[key] for key in sorted(last)]), run.predict(data))


def test_an_hour_without_a_row_counts_as_missing_and_a_time_that_goes_back_is_refused() -> None:
    data = readings(60).drop("unique_id")
    run = fit(data, horizon=2, length=12, **QUICK)
    later = data.with_columns(
        pl.when(pl.int_range(pl.len()) >= 30)
        .then(pl.col("ds").str.replace("2024-02-2", "2025-02-2"))
        .otherwise(pl.col("ds"))
    )[:31]
    assert len(list(predict_lines(run, lines_of(later)))) > 20
    back = pl.concat([data[:10], data[5:6]])
    with pytest.raises(DataError, match=r"line 12: its time is not after that of the row before"):
        list(predict_lines(run, lines_of(back)))
    with pytest.raises(DataError, match=r"line 3: its time is 0.5 steps of 1 hour after the last"):
        list(predict_lines(run, ["ds,y,word,beside\n", "2024-01-01 00:00,1,a,1\n", "2024-01-01 00:30,1,a,1\n"]))


def rows_with_labels(per: str) -> pl.DataFrame:
    rng, rows = np.random.default_rng(3), []
    for series in range(24):
        total = 0.0
        for step in range(int(rng.integers(6, 14))):
            value = float(rng.normal())
            total += value
            label = "up" if (total if per == "step" else series % 2) > 0 else "down"
            rows.append((f"n{series:02}", step, value, "xyz"[rng.integers(3)], label))
    return pl.DataFrame(rows, schema=["series", "t", "value", "word", "label"], orient="row")


def test_each_row_of_a_run_per_step_gets_its_answer() -> None:
    data = rows_with_labels("step")
    run = fit(data, target=["label"], **QUICK)
    whole = run.predict(data.drop("label"))
    assert_same(pl.concat(list(predict_lines(run, lines_of(data.drop("label"))))), whole)
    turns = data.drop("label").sort("t", maintain_order=True)
    assert_same(pl.concat(list(predict_lines(run, lines_of(turns)))).sort("series", "t"), whole)


def with_gaps(per: str) -> pl.DataFrame:
    """The same by the hour, where some hours have no row."""
    rng, start = np.random.default_rng(8), np.datetime64("2024-02-27T22:00:00")
    data = rows_with_labels(per)
    hours = (data["t"].to_numpy() * np.timedelta64(1, "h") + start).astype(str)
    kept = (rng.random(data.height) > 0.25) | (data["t"] < 2).to_numpy()
    whole = data.with_columns(t=pl.Series([hour.replace("T", " ") for hour in hours]))
    return whole.filter(pl.Series(kept))


def test_hours_without_a_row_are_read_as_missing_and_each_row_has_its_answer() -> None:
    data = with_gaps("step")
    run = fit(data, target=["label"], **{**QUICK, "hidden": 7})
    unlabelled = data.drop("label")
    whole = run.predict(unlabelled)
    assert whole.height == unlabelled.height
    assert whole["t"].null_count() == 0
    assert_same(pl.concat(list(predict_lines(run, lines_of(unlabelled)))), whole)
    # The gaps count: hours in a row have other answers.
    close = unlabelled.with_columns(t=pl.Series(rows_with_labels("step")["t"][: data.height]))
    together = close.with_columns(t=pl.int_range(pl.len()).over("series"))
    assert not run.predict(together).drop("t").equals(whole.drop("t"))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_few_rows_are_read_by_the_step_of_the_run_not_by_their_own(rows: int) -> None:
    times = [f"2024-03-01 0{3 * row}:00" for row in range(rows)]
    data = readings().drop("unique_id", "y")
    label = pl.when(pl.col("beside") > 0).then(pl.lit("up")).otherwise(pl.lit("down"))
    steps = fit(data.with_columns(label=label), target=["label"], **QUICK)
    few = pl.DataFrame({"ds": times, "word": ["a"] * rows, "beside": [0.5] * rows})
    found = pl.concat(list(predict_lines(steps, lines_of(few))))
    assert_same(found, steps.predict(few))
    tight = few.with_columns(ds=pl.Series([f"2024-03-01 0{row}:00" for row in range(rows)]))
    assert found.drop("ds").equals(steps.predict(tight).drop("ds")) == (rows == 1)
    ahead = fit(readings(60).drop("unique_id", "word", "beside"), horizon=2, length=6, **QUICK)
    few = pl.DataFrame({"ds": times, "y": [0.5] * rows})
    assert_same(list(predict_lines(ahead, lines_of(few)))[-1], ahead.predict(few))


def test_a_whole_sequence_has_its_missing_steps_too() -> None:
    data = with_gaps("sequence")
    run = fit(data, target=["label"], length=9, pool="mean", **QUICK)
    unlabelled = data.drop("label")
    assert_same(pl.concat(list(predict_lines(run, lines_of(unlabelled)))), run.predict(unlabelled))
    back = pl.concat([unlabelled[:3], unlabelled[1:2]])
    with pytest.raises(DataError, match="line 5: its time is not after that of the row before"):
        list(predict_lines(run, lines_of(back)))


def test_an_empty_line_begins_sequences_anew(tmp_path: Path) -> None:
    run = load_run(straight(labelled(tmp_path, per="step", asked="number"), tmp_path / "run"))
    line = ["column 1,column 2\n"]
    rows = ["0.5,1\n", "2,-1\n"]
    both = list(predict_lines(run, line + rows + ["\n"] + rows))
    assert len(both) == 4
    assert_same(both[1], both[3])
    assert not both[1].drop("step").equals(next(predict_lines(run, line + rows[1:])).drop("step"))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_a_sequence_is_answered_where_it_ends(pool: str, bidirectional: bool) -> None:
    data = rows_with_labels("sequence")
    run = fit(data, target=["label"], pool=pool, bidirectional=bidirectional, length=9, **QUICK)
    unlabelled = data.drop("label")
    whole = run.predict(unlabelled)
    assert_same(pl.concat(list(predict_lines(run, lines_of(unlabelled)))), whole)
    parts = [part.drop("series") for part in unlabelled.partition_by("series", maintain_order=True)]
    pieces = [part.write_csv(include_header=not place) + "\n" for place, part in enumerate(parts)]
    found = pl.concat(list(predict_lines(run, "".join(pieces).splitlines(keepends=True))))
    assert found["sequence"].to_list() == [str(place + 1) for place in range(len(parts))]
    assert_same(found.drop("sequence"), whole.drop("series"))
    objects = pl.concat(list(predict_lines(run, unlabelled.write_ndjson().splitlines(keepends=True))))
    assert_same(objects, whole)


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table with decimal commas, a point between thousands, and a column of points alone."""
    folder, rng = tmp_path_factory.mktemp("german"), np.random.default_rng(7)
    rows = [
        "t;y;share",
        *(f"{t};1.{int(200 + 90 * np.sin(t / 3))},{t % 7}5;0.{rng.integers(125, 999)}" for t in range(80)),
    ]
    (folder / "series.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = {"source": str(folder / "series.csv"), "target": ["y"], "horizon": 2, "length": 9, **QUICK}
    return straight(TrainSettings(**asked), folder / "run")


@pytest.mark.parametrize("y", ["1,5", "1,234", "1.234", "1.234,5", "12"])
def test_a_row_that_does_not_tell_the_decimal_mark_is_read_as_in_training(
    german: Path, y: str, tmp_path: Path
) -> None:
    run = load_run(german)
    assert run.question.kept()["marks"] == {"y": ","}
    told = {"1,5": 1.5, "1,234": 1.234, "1.234": 1234.0, "1.234,5": 1234.5, "12": 12.0}[y]
    lines = ["t;y;share\n", f"0;{y};0.250\n"]
    (tmp_path / "one.csv").write_text("".join(lines), encoding="utf-8")
    said: list[str] = []
    found = list(predict_lines(run, lines, say=said.append))[-1]
    assert said == (["line 2: a comma stands before the decimals of y"] if "," in y else [])
    assert_same(found, run.predict(tmp_path / "one.csv"))
    assert_same(found, run.predict(pl.DataFrame({"t": [0.0], "y": [told], "share": [0.25]})))


def test_a_point_before_decimals_where_commas_were_is_told_in_a_file_and_refused_in_a_stream(
    german: Path, tmp_path: Path
) -> None:
    run, lines = load_run(german), ["t;y;share\n", "0;1234.5678;0.250\n"]
    with pytest.raises(DataError, match=r"line 2, column y: '1234\.5678' has a point before its decimals"):
        list(predict_lines(run, lines))
    (tmp_path / "one.csv").write_text("".join(lines), encoding="utf-8")
    assert_same(
        run.predict(tmp_path / "one.csv"),
        run.predict(pl.DataFrame({"t": [0.0], "y": [1234.5678], "share": [0.25]})),
    )


def test_what_cannot_be_equal_is_refused_in_one_line(tmp_path: Path) -> None:
    data = readings(60, 2)
    lines = lines_of(data)

    def run_of(**asked: Any) -> Loaded:
        return fit(data, **{"horizon": 3, "length": 12, **QUICK, **asked})

    with pytest.raises(OptionError, match="train with --scale standard"):
        next(predict_lines(run_of(scale="window"), lines))
    with pytest.raises(OptionError, match="knows beside beforehand"):
        next(predict_lines(run_of(scale="standard", known=["beside"]), lines))
    steps = fit(rows_with_labels("step"), target=["label"], bidirectional=True, **QUICK)
    with pytest.raises(OptionError, match="reads each sequence backwards too"):
        next(predict_lines(steps, []))
    text = load_run(straight(small(tmp_path, 900), tmp_path / "text"))
    with pytest.raises(OptionError, match="unvanish generate"):
        next(predict_lines(text, []))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["t,z\n"], "has no column y, which the run was trained with: it has t, z"),
        (["t,y\n", "0,1\n", "1\n"], "line 3: 1 fields, and the header has 2"),
        (["t,y\n", "0,one\n"], "line 2, column y: 'one' is not a number"),
        (["t,y\n", ",1\n"], "line 2, column t: the time is missing"),
        (["t,y\n", '0,"1\n'], "line 2: unexpected end of data"),
        (['{"t": 0, "y": 1}\n', "nonsense\n"], "line 2 is not JSON"),
        (['{"t": 0, "y": 1}\n', "[1]\n"], "line 2 is not an object"),
        (["1,2\n"], "has no head"),
    ],
)
def test_a_line_that_does_not_fit_is_named(series_run: Path, lines: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(predict_lines(load_run(series_run), lines))


@pytest.fixture(scope="module")
def series_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    return straight(forecast(folder, epochs=1, length=20), folder / "run")


def test_every_third_row_is_answered_where_that_is_asked_for(series_run: Path) -> None:
    run = load_run(series_run)
    lines = (series_run.parent / "series.csv").read_text(encoding="utf-8").splitlines(keepends=True)[:40]
    all_of_them, some = list(predict_lines(run, lines)), list(predict_lines(run, lines, every=3))
    assert len(some) == 13
    for found, expected in zip(some, all_of_them[2::3], strict=True):
        assert found.equals(expected)
    with pytest.raises(OptionError, match="--every is 0"):
        next(predict_lines(run, lines, every=0))


def test_the_command_answers_a_row_before_the_next_one_is_written(series_run: Path) -> None:
    command = [sys.executable, "-m", "unvanish", "predict", str(series_run), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for row, line in enumerate(["t,y\n0,1.5\n", "1,0.5\n", "2,1.0\n"]):
            process.stdin.write(line)
            process.stdin.flush()
            if not row:
                assert process.stdout.readline() == "t,y,y-lo-80,y-hi-80,y-lo-95,y-hi-95\n"
            times = [float(process.stdout.readline().split(",")[0]) for _ in range(5)]
            assert times == [row + 1.0 + ahead for ahead in range(5)]
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_the_command_answers_json_with_json_and_refuses_what_is_for_files(
    series_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def given(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    given(b'\xef\xbb\xbf{"t": 0, "y": 1.5}\n{"t": 1, "y": "2,5"}\n')
    assert main(["predict", str(series_run), "-"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["t"] for one in answers] == [*range(1, 6), *range(2, 7)]
    given(b"t,y\n0,1\xff\n")
    assert main(["predict", str(series_run), "-"]) == 2
    assert "line 2 is not UTF-8" in capsys.readouterr().err
    assert main(["predict", str(series_run), "-", "--out", "a.csv"]) == 2
    assert main(["predict", str(series_run), "series.csv", "--every", "2"]) == 2


def test_the_file_on_standard_input_ends_with_what_predict_says_of_it(series_run: Path) -> None:
    path = series_run.parent / "series.csv"
    last = list(predict_lines(load_run(series_run), path.read_text(encoding="utf-8").splitlines(keepends=True)))[-1]
    assert_same(last, predict(load_run(series_run), path))


def test_series_with_units_of_their_own_are_answered_in_these_and_a_new_one_is_refused() -> None:
    data = readings(40, 3).with_columns(y=pl.col("y") * (1 + pl.col("unique_id").str.len_bytes()))
    run = fit(data, horizon=3, length=16, **QUICK)
    assert run.question.how == "series"
    assert run.question.own
    last = {frame["unique_id"][0]: frame for frame in predict_lines(run, lines_of(data))}
    assert_same(pl.concat([last[key] for key in sorted(last)]), run.predict(data))
    new = data.with_columns(unique_id=pl.lit("new"))
    with pytest.raises(DataError, match=r"line 2: the series new was not there in training"):
        list(predict_lines(run, lines_of(new)))
