"""What a run answers of new data is what its network answers, in the units and under the keys of these data."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests.support.runs import forecast, labelled, make_text, small, straight
from unvanish.cli import main
from unvanish.errors import DataError, OptionError
from unvanish.record import RunRecord
from unvanish.train import TrainSettings, evaluate, fit, load_run, per_token, predict
from unvanish.train.streaming import predict_lines

RNG = np.random.default_rng(0)
QUICK: dict[str, Any] = {"hidden": 8, "layers": 1, "epochs": 2, "device": "cpu", "probes": 1}


def test_classes_come_with_their_probabilities_whatever_the_rows_beside(tmp_path: Path) -> None:
    run = load_run(straight(labelled(tmp_path), tmp_path / "run"))
    with np.load(tmp_path / "arrays.npz") as arrays:
        x, lengths = arrays["x"], arrays["lengths"]
    whole = predict(run, tmp_path / "arrays.npz")
    share = whole.select("p(0)", "p(1)").to_numpy()
    assert whole.height == len(lengths)
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-9)
    assert whole["target 1"].to_list() == [str(place) for place in share.argmax(1)]
    ends = np.cumsum(lengths)
    for row in (0, 7, 31):
        alone = x[ends[row] - lengths[row] : ends[row]]
        scaled = [(alone[:, c] - one.centre) / one.scale for c, one in enumerate(run.question.encoding.columns)]
        with torch.no_grad():
            output, _ = run.model.recurrent(torch.tensor(np.stack(scaled, 1)[:, None], dtype=torch.float32))
            expected = torch.softmax(run.model.head.linear(output[-1, 0]).double(), 0)
        np.testing.assert_allclose(share[row], expected.numpy(), rtol=1e-4)


def test_numbers_come_back_in_their_own_units() -> None:
    x = RNG.normal(size=(200, 6, 1)).astype(np.float32)
    y = (1000 + 50 * x[:, -1, 0]).astype(np.float32)
    found = fit(x, y, **{**QUICK, "epochs": 60, "lr": 0.02})
    guess = found.predict(x)["target 1"].to_numpy()
    assert np.abs(guess - y).mean() < 10
    last = found.config["data"]["question"]
    assert last["scales"][0]["centre"] == pytest.approx(1000, rel=0.02)


def test_each_step_is_answered_under_its_own_place(tmp_path: Path) -> None:
    run = load_run(straight(labelled(tmp_path, per="step", rows=40), tmp_path / "run"))
    found = predict(run, tmp_path / "arrays.npz")
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert found.height == len(arrays["x"])
        assert found["step"].to_list() == [step for length in arrays["lengths"] for step in range(1, length + 1)]
    assert found.columns[:2] == ["sequence", "step"]


def sales(horizon: int = 7, count: int = 3, days: int = 120, ahead: int = 0) -> pl.DataFrame:
    """Series of different size with a weekly shape and a price that is known; rows ahead without the target."""
    rng, rows = np.random.default_rng(1), []
    shape = rng.normal(size=7)
    for series in range(count):
        for day in range(days + ahead):
            price = 1 + 0.2 * math.sin(day)
            y = 100 * (series + 1) * (3 + shape[day % 7] - price) + rng.normal()
            date = np.datetime64("2024-01-01") + day
            rows.append((f"s{series}", str(date), None if day >= days else round(float(y), 3), price))
    return pl.DataFrame(rows, schema=["unique_id", "ds", "y", "price"], orient="row")


def test_a_forecast_begins_after_the_last_known_step_in_the_units_of_each_series() -> None:
    found = fit(sales(), horizon=7, known=["price"], **{**QUICK, "epochs": 30, "lr": 0.01, "length": 28})
    told: list[str] = []
    answer = predict(found, sales(ahead=7), say=told.append)
    assert not told, "rows that hold what is known beforehand are asked for"
    assert answer.columns == ["unique_id", "ds", "y", "y-lo-80", "y-hi-80", "y-lo-95", "y-hi-95"]
    assert answer.height == 21
    assert answer["ds"].dt.date().to_list()[:7] == [
        (np.datetime64("2024-01-01") + 120 + day).astype(object) for day in range(7)
    ]
    means = answer.group_by("unique_id", maintain_order=True).agg(pl.col("y").mean())["y"].to_numpy()
    assert 1.5 < means[1] / means[0] < 2.5
    assert 2 < means[2] / means[0] < 4
    ordered = answer.select("y-lo-95", "y-lo-80", "y", "y-hi-80", "y-hi-95").to_numpy()
    assert (np.diff(ordered, axis=1) >= -1e-9).all()
    with pytest.raises(DataError, match="has fewer than 7 rows ahead"):
        found.predict(sales())


def test_later_rows_of_a_series_change_no_forecast_that_begins_before_them() -> None:
    found = fit(sales().drop("price"), horizon=7, scale="window", **{**QUICK, "length": 28})
    short = sales(days=60).drop("price")
    empty = short.with_columns(pl.when(pl.col("ds") < "2024-02-20").then(pl.col("y")))
    cut = short.filter(pl.col("ds") < "2024-02-20")
    assert found.predict(empty).equals(found.predict(cut))


def test_intervals_cover_what_they_say_on_what_they_are_calibrated_on(tmp_path: Path) -> None:
    settings = forecast(tmp_path, steps=700, length=40, epochs=3, valid=0.3)
    run = straight(settings, tmp_path / "run")
    (line,) = RunRecord(run).read("calibration")
    assert line["shares"] == [0.8, 0.95]
    assert np.shape(line["widths"]) == (2, 5, 1)
    from unvanish.train.questions import read_material
    from unvanish.train.questions.likelihoods import bounds
    from unvanish.train.settings import TrainSettings

    loaded = load_run(run)
    material = read_material(TrainSettings.from_dict(loaded.config["settings"]), loaded.question)
    inside = [[], []]
    with torch.no_grad():
        for x, y in material.valid():
            answer, _ = loaded.model(x)
            quantiles = loaded.question.likelihood.quantiles(answer, y.scale_BG[:, None].expand(y.values.shape))
            for place, share in enumerate(line["shares"]):
                low, high = bounds(quantiles, share)
                width = torch.tensor(line["widths"][place])
                inside[place].append((y.values >= low - width) & (y.values <= high + width))
    for found, share in zip(inside, line["shares"], strict=True):
        per_step = torch.cat(found).float().mean((0, 2))
        assert (per_step >= share).all()
        assert (per_step <= share + 0.02).all()


def test_evaluating_the_validation_text_gives_the_last_validation(tmp_path: Path) -> None:
    settings = dataclasses.replace(small(tmp_path, 1500), batch_size=1)
    run = load_run(straight(settings, tmp_path / "run"))
    text = (tmp_path / "text.txt").read_text(encoding="utf-8")
    part = tmp_path / "valid.txt"
    part.write_text(text[-150:], encoding="utf-8")
    found = evaluate(run, part)
    last = list(RunRecord(tmp_path / "run").read("valid"))[-1]
    assert found.count == 149
    assert found.metrics["loss"] == pytest.approx(last["loss"], rel=1e-5)
    tokens = list(per_token(run, part))
    assert "".join(symbol for symbol, _ in tokens) == text[-149:]
    assert sum(bits for _, bits in tokens) / 149 == pytest.approx(last["bits"], rel=1e-5)


def test_symbols_that_a_run_does_not_know_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = straight(small(tmp_path, 900), tmp_path / "run")
    part = tmp_path / "other.txt"
    part.write_text(make_text(50) + "####" + make_text(46), encoding="utf-8")
    assert main(["evaluate", str(run), str(part)]) == 0
    assert "4.00% of them" in capsys.readouterr().out


def test_what_is_found_in_new_data_is_told_beside_the_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day, last = pl.Series(range(60)), 60
    columns = {"ds": day, "y": (day / 3).sin(), "sky": ["blue", "red"] * 30}
    folder = fit(pl.DataFrame(columns), horizon=2, folder=tmp_path / "run", **QUICK).folder
    new = pl.DataFrame(columns).with_columns(sky=pl.when(pl.col("ds") == 9).then(pl.lit("grey")).otherwise("sky"))
    new = new.filter(pl.col("ds") != 30).vstack(new[-2:].with_columns(ds=pl.Series([last, last + 1]), y=None))
    new.write_csv(tmp_path / "new.csv")
    expected = [
        "1 step of 62 has no row: it counts as missing",
        "column y: 1 of 62 steps is missing",
        "column sky: 1 of 62 steps is missing",
        "column sky: 1 of 62 steps holds a word that is not known from training: grey",
        "the series: 2 rows at the end without y, taken to end before them",
    ]
    for command in ("predict", "evaluate"):
        assert main([command, str(folder), str(tmp_path / "new.csv")]) == 0
        told = capsys.readouterr().err.splitlines()
        assert told == [f"unvanish: {tmp_path / 'new.csv'}: {line}" for line in expected]
    lines = (tmp_path / "new.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    found: list[str] = []
    list(predict_lines(load_run(folder), lines, say=found.append))
    assert found == [
        "line 11: column sky: the word grey is not known from training",
        "line 32: 1 step before it has no row: it counts as missing (later gaps are not told)",
    ]


def test_what_is_said_to_lie_within_the_band_lies_within_the_intervals_that_predict_gives() -> None:
    frame = sales(count=4, days=90)
    found = fit(frame, horizon=7, **QUICK | {"epochs": 3, "scale": "standard", "windows": 1})
    ends = frame.group_by("unique_id", maintain_order=True)
    cut = pl.concat([series[:-7] for _, series in ends])
    came = pl.concat([series[-7:] for _, series in ends])["y"].to_numpy()
    answer = found.predict(cut)
    inside = (answer["y-lo-80"].to_numpy() <= came) & (came <= answer["y-hi-80"].to_numpy())
    assert found.evaluate(frame).metrics["coverage"] == pytest.approx(inside.mean(), abs=0.02)
    assert found.measured.metrics["coverage"] == pytest.approx(inside.mean(), abs=0.02)
    assert found.question.widened_HG is None  # judging asks a copy


def test_the_numbers_of_values_that_do_not_vary_have_no_share_explained() -> None:
    x = RNG.normal(size=(40, 5)).astype(np.float32)
    found = fit(x, x.sum(1).astype(np.float32), **QUICK)
    assert "r2" in found.evaluate(x, x.sum(1)).metrics
    assert "r2" not in found.evaluate(x[:6], np.full(6, 2.0, np.float32)).metrics


def test_a_run_answers_of_the_folder_it_was_trained_on(tmp_path: Path) -> None:
    head = "@timestamps false\n@univariate true\n@classlabel true a b\n@data\n"
    for part, rows in (("TRAIN", 24), ("TEST", 7)):
        lines = [",".join(f"{v:.3f}" for v in RNG.normal(size=6)) + f":{'ab'[row % 2]}" for row in range(rows)]
        (tmp_path / f"Toy_{part}.ts").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    found = fit(tmp_path, **QUICK)
    assert found.predict(tmp_path).equals(found.predict(tmp_path / "Toy_TEST.ts"))
    assert found.evaluate(tmp_path).count == 7


def test_the_command_writes_what_the_function_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = straight(labelled(tmp_path), tmp_path / "run")
    out = tmp_path / "new" / "answers.csv"
    assert main(["predict", str(run), str(tmp_path / "arrays.npz"), "--out", str(out)]) == 0
    assert main(["predict", str(run), str(tmp_path / "arrays.npz")]) == 0
    shown = capsys.readouterr().out
    assert shown == out.read_text(encoding="utf-8")
    expected = predict(load_run(run), tmp_path / "arrays.npz")
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["target 1"] for row in rows] == expected["target 1"].to_list()
    assert main(["predict", str(run), str(tmp_path / "arrays.npz"), "--out", "answers.xls"]) == 2
    text = straight(small(tmp_path, 900), tmp_path / "text")
    assert main(["predict", str(text), str(tmp_path / "text.txt")]) == 2
    assert main(["evaluate", str(run), str(tmp_path / "arrays.npz")]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_table_without_a_column_of_the_run_is_refused(tmp_path: Path) -> None:
    rows = [
        {"series": s, "t": t, "a": s * t * 0.1, "b": "xy"[t % 2], "label": "pq"[s % 2]}
        for s in range(20)
        for t in range(5)
    ]
    frame = pl.DataFrame(rows)
    found = fit(frame, target=["label"], **QUICK)
    assert found.predict(frame.drop("label")).height == 20
    with pytest.raises(DataError, match=r"has no column b, which the run was trained with: it has series, t, a"):
        found.predict(frame.drop("label", "b"))


def test_what_fit_does_not_know_is_refused_with_what_is_near() -> None:
    with pytest.raises(OptionError, match="hiden is not a setting: did you mean 'hidden'"):
        fit(np.zeros((30, 4, 1)), np.arange(30) % 2, hiden=3)
    with pytest.raises(OptionError, match="y is for arrays"):
        fit("a.csv", np.zeros(3))


def test_a_run_of_given_data_goes_on_with_these_and_no_others(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(40, 5, 2)), np.arange(40) % 2
    fit(x, y, folder=tmp_path / "run", **QUICK)
    more = fit(x, y, folder=tmp_path / "run", resume=True, epochs=4)
    once = fit(x, y, **{**QUICK, "epochs": 4, "schedule": "constant"})
    assert more.config["settings"]["epochs"] == 4
    assert once.predict(x).shape == more.predict(x).shape
    with pytest.raises(Exception, match="has changed since the run began"):
        fit(x + 1, y, folder=tmp_path / "run", resume=True, epochs=5)


def test_a_column_that_never_changes_in_new_data_keeps_its_value() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 300))
    frame = pl.DataFrame({"t": range(300), "a": a, "b": b, "label": [("q", "p")[int(x > 0)] for x in a + b]})
    found = fit(frame, target=["label"], **{**QUICK, "epochs": 20, "lr": 0.02})
    new = frame.drop("label").with_columns(pl.lit(4.0).alias("b"))
    constant = found.predict(new)
    rising = found.predict(new.with_columns((pl.lit(4.0) + 1e-6 * pl.int_range(300)).alias("b")))
    np.testing.assert_allclose(constant["p(p)"], rising["p(p)"], atol=1e-4)
    assert constant["p(p)"].mean() > 0.8


def test_a_class_that_was_not_there_in_training_is_refused(tmp_path: Path) -> None:
    x = RNG.normal(size=(60, 4, 1)).astype(np.float32)
    found = fit(x, np.arange(60) % 2, **QUICK)
    np.savez(tmp_path / "new.npz", x=x, y=np.arange(60) % 3)
    with pytest.raises(DataError, match="not there in training: 2"):
        evaluate(found, tmp_path / "new.npz")


def test_a_point_forecast_has_no_band_but_calibrated_intervals() -> None:
    found = fit(sales().drop("price"), horizon=7, likelihood="point", **{**QUICK, "length": 28})
    answer = found.predict(sales().drop("price"))
    assert (answer["y-hi-80"] > answer["y"]).any()
    assert "coverage" not in found.question.metrics(
        {name: torch.ones(()) for name in ("loss", "count", "absolute", "squared", "scaled", "within")}
    )


def test_the_one_series_of_a_file_keeps_its_name(tmp_path: Path) -> None:
    rows = [f"{shop},{step},{(step * 7 + place) % 5}.5\n" for place, shop in enumerate("ab") for step in range(60)]
    head = "shop,t,y\n"
    (tmp_path / "both.csv").write_text(head + "".join(rows), encoding="utf-8")
    (tmp_path / "one.csv").write_text(head + "".join(row for row in rows if row[0] == "b"), encoding="utf-8")
    options = {"target": ["y"], "time": "t", "group": "shop", "horizon": 3, "hidden": 4, "layers": 1, "epochs": 1}
    settings = TrainSettings(source=str(tmp_path / "both.csv"), device="cpu", **options)
    run = load_run(straight(settings, tmp_path / "run"))
    assert predict(run, tmp_path / "one.csv")["shop"].to_list() == ["b"] * 3
    assert predict(run, tmp_path / "both.csv")["shop"].to_list() == ["a"] * 3 + ["b"] * 3
