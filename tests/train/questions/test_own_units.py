"""A series that was trained on is told in the units of its training, whatever part of it is given later."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from unvanish.cli import main
from unvanish.errors import RunError
from unvanish.record.run import SERIES
from unvanish.train import TrainSettings, load_run, predict, train
from unvanish.train.evaluating import evaluate
from unvanish.train.load import Loaded
from unvanish.train.predicting import read_like
from unvanish.train.questions.series import SeriesMaterial

H, STEPS = 3, 60


def table(drift: float = 0.5) -> pl.DataFrame:
    """Two shops that sell ever more: the spread of the last weeks is not that of the whole."""
    rng = np.random.default_rng(0)
    parts = []
    for number, shop in enumerate(("007", "east")):
        y = 50 * (number + 1) + drift * np.arange(STEPS) + rng.normal(size=STEPS)
        parts.append(pl.DataFrame({"shop": [shop] * STEPS, "day": range(STEPS), "y": y}))
    return pl.concat(parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    table().write_csv(folder / "all.csv")
    given = {
        "target": ["y"],
        "group": "shop",
        "time": "day",
        "horizon": H,
        "length": 10,
        "hidden": 4,
        "layers": 1,
    }
    train(
        TrainSettings(source=str(folder / "all.csv"), epochs=1, device="cpu", probes=1, **given),
        folder / "run",
        say=lambda _: None,
    )
    return folder / "run"


def last(source: Path, steps: int, *shops: str) -> Path:
    """The last rows of some shops, in a file of their own."""
    path = source.parent / f"last {steps} {' '.join(shops)}.csv"
    kept = pl.col("shop").is_in(shops or ("007", "east")) & (pl.col("day") >= STEPS - steps)
    table().filter(kept).write_csv(path)
    return path


@pytest.fixture
def loaded(run: Path) -> Loaded:
    return load_run(run)


def test_a_forecast_from_the_last_window_is_that_from_the_whole(run: Path, loaded: Loaded) -> None:
    whole = predict(loaded, run.parent / "all.csv")
    for steps in (10, 25):
        short = predict(loaded, last(run, steps))
        np.testing.assert_allclose(short["y"], whole["y"], rtol=1e-5)
        np.testing.assert_allclose(short["y-lo-80"], whole["y-lo-80"], rtol=1e-5)
    one = predict(loaded, last(run, 10, "east"))
    np.testing.assert_allclose(one["y"], whole.filter(pl.col("shop") == "east")["y"], rtol=1e-5)


def test_the_units_are_those_of_the_part_to_train_on(run: Path, loaded: Loaded) -> None:
    data = read_like(loaded, run.parent / "all.csv", labelled=True)
    material = SeriesMaterial.of(data, loaded.settings, "", loaded.question)  # type: ignore[arg-type]
    for place, start in enumerate(data.starts_B):
        trained = material.values_NG[start : start + material.borders.train_S[place]]
        np.testing.assert_allclose(material.centre_SG[place], trained.mean(), rtol=1e-5)
        np.testing.assert_allclose(material.scale_SG[place], trained.std(), rtol=1e-5)


def test_what_evaluate_says_is_the_error_of_what_predict_says(run: Path, loaded: Loaded, tmp_path: Path) -> None:
    found = evaluate(loaded, run.parent / "all.csv")
    table().filter(pl.col("day") < STEPS - H).write_csv(tmp_path / "before.csv")
    answers = predict(loaded, tmp_path / "before.csv")
    came = table().filter(pl.col("day") >= STEPS - H)
    error = np.abs(answers["y"].to_numpy() - came["y"].to_numpy())
    assert found.metrics["mae"] == pytest.approx(error.mean(), rel=1e-5)


def test_a_series_that_is_new_is_told_and_scaled_by_what_is_given(run: Path, loaded: Loaded) -> None:
    path = run.parent / "new.csv"
    table().with_columns(pl.col("shop").replace("east", "west")).write_csv(path)
    told: list[str] = []
    predict(loaded, path, say=told.append)
    assert told == [
        "1 series (west): not there in training, so scaled by the values that are given here; give enough"
    ]
    told.clear()
    predict(loaded, run.parent / "all.csv", say=told.append)
    assert not told


def test_a_forecast_that_begins_before_the_last_row_is_told(run: Path, loaded: Loaded, tmp_path: Path) -> None:
    whole, told = table(), []
    lost = (pl.col("shop") == "east") & (pl.col("day") >= STEPS - 2)
    path, short = tmp_path / "lost.csv", tmp_path / "short.csv"
    whole.with_columns(pl.when(lost).then(None).otherwise("y").alias("y")).write_csv(path)
    whole.filter(~lost).write_csv(short)
    assert predict(loaded, path, say=told.append).equals(predict(loaded, short))
    assert told == ["1 series (east): 2 rows at the end without y, taken to end before them"]
    told.clear()
    whole.with_columns(pl.when(pl.col("shop") == "007").then(None).otherwise("y").alias("y")).write_csv(path)
    assert set(predict(loaded, path, say=told.append)["shop"]) == {"east"}
    assert told == ["1 series (007): no value of y at all, so no forecast"]


def test_an_export_says_the_units_of_each_series(run: Path, loaded: Loaded, tmp_path: Path) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "new" / "net.c")]) == 0
    assert "#include" in (tmp_path / "new" / "net.c").read_text(encoding="utf-8"), "its ending says the format"
    told = json.loads((tmp_path / "new" / "net.c.json").read_text(encoding="utf-8"))
    question = loaded.question
    assert told["question"]["series"] == {
        key: {"centre_G": list(one.centre_G), "scale_G": list(one.scale_G)}
        for key, one in question.own.items()  # type: ignore[attr-defined]
    }
    assert list(told["question"]["series"]) == ["007", "east"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_text(path.read_text().replace("007", "008")), "has changed since the run began"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
)
def test_a_run_whose_units_are_not_its_own_is_refused(run: Path, change: object, said: str) -> None:
    path = run / SERIES
    before = path.read_bytes()
    try:
        change(path)  # type: ignore[operator]
        with pytest.raises(RunError, match=said):
            load_run(run)
    finally:
        path.write_bytes(before)


def test_a_run_that_kept_none_measures_them_again(run: Path, loaded: Loaded) -> None:
    """As all did until 0.2."""
    question = loaded.question
    old = type(question).of_kept(question.kept())  # type: ignore[attr-defined]
    short = predict(dataclasses.replace(loaded, question=old), last(run, 10))
    assert len(short) == 2 * H
    assert np.abs(short["y"].to_numpy() - predict(loaded, last(run, 10))["y"].to_numpy()).max() > 1e-3
