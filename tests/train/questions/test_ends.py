"""A series ends with its last value: rows without one change no figure, and where nothing is known none is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.runs import straight
from unvanish.errors import DataError
from unvanish.record import RunRecord
from unvanish.train import TrainSettings, evaluate, fit, load_run
from unvanish.train.questions import read_material
from unvanish.train.questions.series import SeriesMaterial

H, STEPS = 4, 70
GIVEN = {"target": ["y"], "group": "shop", "time": "day", "horizon": H, "length": 10, "hidden": 4, "layers": 1}


def table(ahead: dict[str, int]) -> pl.DataFrame:
    """Shops with a price that is known, and so many rows after their last value."""
    rng, parts = np.random.default_rng(0), []
    for number, (shop, more) in enumerate(ahead.items()):
        y = 50 * (number + 1) + rng.normal(size=STEPS)
        price = np.sin(np.arange(STEPS + more) + number)
        values = [*y.round(4), *[None] * more]
        parts.append(
            pl.DataFrame({"shop": [shop] * (STEPS + more), "day": range(STEPS + more), "y": values, "price": price})
        )
    return pl.concat(parts)


def settings(path: Path, frame: pl.DataFrame, **more: object) -> TrainSettings:
    frame.write_csv(path)
    return TrainSettings(source=str(path), epochs=1, device="cpu", probes=1, **GIVEN | more)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [H, 1, 2 * H + 1])
def test_rows_without_a_value_at_the_end_change_no_figure(tmp_path: Path, more: int) -> None:
    whole = straight(settings(tmp_path / "whole.csv", table({"a": 0, "b": 0})), tmp_path / "whole")
    ahead = straight(settings(tmp_path / "ahead.csv", table({"a": more, "b": 0})), tmp_path / "ahead")
    for kind in ("valid", "test", "baseline", "need", "calibration"):
        one, two = (list(RunRecord(folder).read(kind)) for folder in (whole, ahead))
        assert [_figures(line) for line in one] == [_figures(line) for line in two], kind
        assert one, kind
    assert next(RunRecord(ahead).read("test"))["metrics"]["mae"] > 0
    found = load_run(whole)
    assert evaluate(found, tmp_path / "ahead.csv") == evaluate(found, tmp_path / "whole.csv")


def _figures(line: dict[str, object]) -> dict[str, object]:
    return {
        name: value for name, value in line.items() if name not in ("time", "t", "seconds", "tokens_per_second")
    }


def told(frame: pl.DataFrame, path: Path, **more: object) -> list[str]:
    return list(read_material(settings(path, frame, **more)).told)


def test_what_is_taken_to_end_earlier_is_told_with_what_is_known_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert told(table({"a": 0, "b": 0}), path) == []
    hint = "taken to end before them; price has values there, which a run with --known reads"
    assert told(table({"a": 2, "b": 0}), path) == [f"1 series (a): 2 rows at the end without y, {hint}"]
    assert told(table({"a": 2, "b": 5}), path) == [f"2 series (a, b): 2 to 5 rows at the end without y, {hint}"]
    blank = table({"a": 2, "b": 0}).with_columns(pl.when(pl.col("day") < STEPS).then("price"))
    assert told(blank, path)[-1] == "1 series (a): 2 rows at the end without y, taken to end before them"
    assert told(table({"a": H, "b": H}), path, known=["price"]) == [], "these rows are asked for"
    assert told(table({"a": H + 1, "b": H}), path, known=["price"]) == [
        f"1 series (a): {H + 1} rows at the end without y, taken to end before them"
    ]
    none = table({"a": 0, "b": 0}).with_columns(pl.when(pl.col("shop") == "b").then("y"))
    assert told(none, path) == ["1 series (a): no value of y at all, so no forecast"]


def test_a_validation_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    frame = table({"a": 0})
    found = read_material(settings(tmp_path / "a.csv", frame))
    assert isinstance(found, SeriesMaterial)
    low, high = int(found.borders.train_S[0]), int(found.borders.valid_S[0])
    lost = frame.with_columns(pl.when((pl.col("day") < low) | (pl.col("day") >= high)).then("y"))
    with pytest.raises(DataError, match="held back to validate no value is known"):
        read_material(settings(tmp_path / "a.csv", lost))


def labels(rng: np.random.Generator) -> pl.DataFrame:
    """Sequences with a number for each step, z, and a class for each sequence, c."""
    rows = [
        {"id": row, "t": t, "x": rng.normal(), "z": rng.normal(), "c": "ab"[row % 2]}
        for row in range(40)
        for t in range(5)
    ]
    return pl.DataFrame(rows)


def labelled(path: Path, frame: pl.DataFrame, target: str) -> TrainSettings:
    frame.drop({"z": "c", "c": "z"}[target]).write_csv(path)
    options = {"group": "id", "time": "t", "hidden": 4, "layers": 1, "epochs": 1, "device": "cpu", "probes": 1}
    return TrainSettings(source=str(path), target=[target], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["z", "c"])
def test_labels_that_are_all_missing_are_refused_and_not_taken_for_answered(tmp_path: Path, target: str) -> None:
    frame = labels(np.random.default_rng(0))
    run = load_run(straight(labelled(tmp_path / "all.csv", frame, target), tmp_path / "run"))
    kept = frame.with_columns(pl.when(pl.col("id") < 0).then(target))
    labelled(tmp_path / "none.csv", kept, target)
    with pytest.raises(DataError, match="does not hold what is to be predicted"):
        evaluate(run, tmp_path / "none.csv")
    other = frame.with_columns(pl.lit("a").alias("z"), pl.lit(1.5).alias("c"))
    labelled(tmp_path / "other.csv", other, target)
    with pytest.raises(DataError, match=f"{target} holds .* and the run was trained on"):
        evaluate(run, tmp_path / "other.csv")


def test_a_validation_without_a_label_is_refused(tmp_path: Path) -> None:
    frame = labels(np.random.default_rng(0))
    one = frame.with_columns(pl.when(pl.col("id").is_in([0, 1])).then("c"))
    given = labelled(tmp_path / "one.csv", one, "c")

    def read_with_some_seed() -> None:
        for seed in range(20):
            read_material(dataclasses.replace(given, seed=seed))

    with pytest.raises(DataError, match="held back to validate has a label"):
        read_with_some_seed()


def test_a_file_is_evaluated_as_the_run_was_trained_by_step_or_by_sequence(tmp_path: Path) -> None:
    frame = labels(np.random.default_rng(0))
    by_step = load_run(straight(labelled(tmp_path / "z.csv", frame, "z"), tmp_path / "z"))
    constant = frame.with_columns(pl.col("id").cast(pl.Float64).alias("z"))
    labelled(tmp_path / "constant.csv", constant, "z")
    assert evaluate(by_step, tmp_path / "constant.csv").count == 200
    of_whole = load_run(straight(labelled(tmp_path / "c.csv", frame, "c"), tmp_path / "c"))
    labelled(tmp_path / "one.csv", frame.filter(pl.col("id") == 3), "c")
    assert evaluate(of_whole, tmp_path / "one.csv").count == 1
    changing = frame.with_columns(c=pl.Series(["a", "b"] * 100))
    labelled(tmp_path / "changing.csv", changing, "c")
    with pytest.raises(DataError, match="c changes within a sequence"):
        evaluate(of_whole, tmp_path / "changing.csv")
    assert of_whole.predict(tmp_path / "changing.csv").height == 40, "nobody asks for its labels"


def test_errors_are_those_of_the_targets_of_which_something_is_known() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5, 1)), rng.normal(size=(40, 2)) * [1, 100]
    found = fit(x, y, hidden=4, layers=1, epochs=1, device="cpu", probes=1)
    first = found.predict(x)["target 1"].to_numpy()
    y[:, 1] = np.nan
    metrics = evaluate(found, x, y).metrics
    assert metrics["rmse"] == pytest.approx(np.sqrt(((first - y[:, 0]) ** 2).mean()), rel=1e-5)
