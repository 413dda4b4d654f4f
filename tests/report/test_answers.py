"""What a report shows of answers is what the network answers: predicted again, scored again, counted again."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.runs import forecast, labelled, silent, straight
from unvanish.record import RunRecord
from unvanish.report import write_report
from unvanish.train import TrainSettings, evaluate, load_run, predict, resume, showing
from unvanish.train.questions import read_material

from .browsing import assert_no_overflow, needs_chromium, opened
from .conftest import MARKUP
from .reading import JUNK, Page

ENDS = {"low": {"80": [1.0, 2.0]}, "high": {"80": [3.0, 4.0]}}
WINDOW: dict[str, Any] = {"key": "a", "target": "y", "after": "", "history": [1.0], "came": [2.0, 3.0], **ENDS}
LINES: dict[str, dict[str, Any]] = {
    "forecast": {
        "on": "test",
        "apart": "1 day",
        "windows": [{**WINDOW, "middle": [2.0, 3.0]}],
        "series": [{"key": name, "windows": 1, "mase": 0.5, "mae": 0.1, "naive": 1.0} for name in "ab"],
        "of": 2,
    },
    "confusion": {"on": "valid", "names": ["a", "b"], "taken": [[3, 1], [0, 2]]},
}


def kept(run: Path, kind: str) -> dict[str, Any]:
    """The one line of a kind."""
    (line,) = RunRecord(run).read(kind)
    return line


def texts_of(page: Page) -> str:
    return "".join(page.texts("main")).replace("\N{NO-BREAK SPACE}", " ")


# -- classes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["sequence", "step"])
def test_the_confusion_counts_every_answer_of_the_network_once(per: str, tmp_path: Path) -> None:
    run = straight(labelled(tmp_path, per=per, rows=40), tmp_path / "run")
    line, loaded = kept(run, "confusion"), load_run(run)
    material = read_material(TrainSettings.from_dict(loaded.config["settings"]), loaded.question)
    wanted = np.zeros((2, 2), int)
    with torch.no_grad():
        for x, y in material.valid():
            answer, true = loaded.model(x)[0].argmax(-1).flatten(), y[..., 0].flatten()
            np.add.at(wanted, (true[true >= 0].numpy(), answer[true >= 0].numpy()), 1)
    assert (line["on"], line["names"]) == ("valid", ["0", "1"])
    assert line["taken"] == wanted.tolist()
    if per == "sequence":
        assert sum(map(sum, line["taken"])) == loaded.config["data"]["sizes"]["valid"]
    page = Page(write_report(run))
    summary = page.data("record-summary")
    assert summary["confusion"]["taken"] == wanted.tolist()
    scores = summary["confusion"]["classes"]
    assert sum(one["count"] for one in scores) == wanted.sum()
    occurring = [one["f1"] for one in scores if one["count"]]
    assert sum(occurring) / len(occurring) == pytest.approx(summary["valid"]["f1"])
    assert f"it gets {wanted.trace():,} right" in texts_of(page)


def test_precision_and_recall_are_shares_of_columns_and_of_rows(tmp_path: Path) -> None:
    run = straight(labelled(tmp_path, epochs=1), tmp_path / "run")
    names = ["cat", "dog", "cow"]
    RunRecord(run).append("confusion", 99, 9.0, on="test", names=names, taken=[[8, 2, 0], [4, 6, 0], [0, 0, 0]])
    page = Page(write_report(run))
    cat, dog, cow = page.data("record-summary")["confusion"]["classes"]
    assert (cat["precision"], cat["recall"]) == (8 / 12, 0.8)
    assert (dog["precision"], dog["recall"]) == (6 / 8, 0.6)
    assert cat["f1"] == pytest.approx(2 * 8 / (2 * 8 + 2 + 4))
    assert (cow["precision"], cow["recall"], cow["f1"]) == (None, None, None)
    assert "Most often it takes dog for cat (4 times) and cat for dog (2 times)." in texts_of(page)
    assert "Of 20 sequences of the test part it gets 14 right (70 %)" in texts_of(page), "the last line is shown"


def test_of_many_classes_the_commonest_keep_their_own_and_nothing_is_lost() -> None:
    taken = torch.randint(0, 5, (40, 40), generator=torch.Generator().manual_seed(0)).double()
    names, found = showing.gathered(tuple(f"c{code}" for code in range(40)), taken)
    assert len(names) == len(found) == showing.CLASSES + 1
    assert found.sum() == taken.sum()
    for place, name in enumerate(names[:-1]):
        code = int(name[1:])
        assert found[place, place] == taken[code, code]
        assert (found[place].sum(), found[:, place].sum()) == (taken[code].sum(), taken[:, code].sum())


# -- forecasts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["quantiles", "point"])
def test_a_forecast_that_is_shown_is_what_predict_gives_of_the_history_before_it(
    likelihood: str, tmp_path: Path
) -> None:
    settings = forecast(tmp_path, length=20, windows=2, likelihood=likelihood)
    run = straight(settings, tmp_path / "run")
    line, loaded = kept(run, "forecast"), load_run(run)
    rows = (tmp_path / "series.csv").read_text(encoding="utf-8").splitlines()
    values = [float(row.split(",")[1]) for row in rows[1:]]
    assert (line["on"], line["of"]) == ("test", 1)
    assert len(line["windows"]) == 2
    for window, origin in zip(line["windows"], (390, 395), strict=True):
        (tmp_path / "before.csv").write_text("\n".join(rows[: 1 + origin]) + "\n", encoding="utf-8")
        answer = predict(loaded, tmp_path / "before.csv")
        assert window["middle"] == pytest.approx(answer["y"].to_list(), rel=1e-4, abs=1e-5)
        for share in ("80", "95"):
            assert window["low"][share] == pytest.approx(answer[f"y-lo-{share}"].to_list(), rel=1e-4, abs=1e-5)
            assert window["high"][share] == pytest.approx(answer[f"y-hi-{share}"].to_list(), rel=1e-4, abs=1e-5)
        assert window["came"] == pytest.approx(values[origin : origin + 5], rel=1e-5)
        assert window["history"] == pytest.approx(values[origin - 20 : origin], rel=1e-5)
    (score,) = line["series"]
    metrics = evaluate(loaded, tmp_path / "series.csv").metrics
    assert (score["mase"], score["mae"]) == pytest.approx((metrics["mase"], metrics["mae"]), rel=1e-4)
    (naive,) = [one for one in RunRecord(run).read("baseline") if one["on"] == "test"]
    assert score["naive"] == pytest.approx(naive["metrics"]["mase"])


def many(folder: Path, count: int) -> Path:
    """Series of one season, each noisier than the one before; of days."""
    rng, rows = np.random.default_rng(2), ["unique_id,ds,y"]
    for series in range(count):
        for day in range(60):
            y = math.sin(2 * math.pi * day / 6) + 0.05 * (series + 1) * rng.normal()
            rows.append(f"s{series:02d},{np.datetime64('2024-01-01') + day},{y:.4f}")
    path = folder / "many.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_of_many_series_the_best_and_the_worst_are_listed_and_their_scores_add_up(tmp_path: Path) -> None:
    options: dict[str, Any] = {"hidden": 8, "layers": 1, "horizon": 3, "length": 12, "season": 6, "device": "cpu"}
    few = TrainSettings(source=str(many(tmp_path, 6)), epochs=1, probes=0, **options)
    run = straight(few, tmp_path / "few")
    line = kept(run, "forecast")
    assert len(line["windows"]) == showing.SHOWN
    assert line["windows"][0]["after"] == "2024-02-26"
    scores = [one["mase"] for one in line["series"]]
    assert scores == sorted(scores)
    whole = kept(run, "test")["metrics"]["mase"]
    assert sum(scores) / 6 == pytest.approx(whole, rel=1e-4)
    page = Page(write_report(run))
    assert "All series, the best first" in texts_of(page)
    for one in line["series"]:
        assert one["key"] in page.texts("th")
    drawn = [views[0] for views in page.data("pictures").values()]
    medians = [trace["y"] for view in drawn for trace in view["data"] if trace["name"] == "median"]
    assert medians == [pytest.approx(window["middle"], rel=1e-4) for window in line["windows"]]

    wide = straight(dataclasses.replace(few, source=str(many(tmp_path, 30))), tmp_path / "wide")
    line = kept(wide, "forecast")
    assert (len(line["series"]), line["of"], len(line["windows"])) == (2 * showing.SCORED, 30, showing.SHOWN)
    assert len(json.dumps(line)) < 20_000
    assert "The best and the worst of 30 series" in texts_of(Page(write_report(wide)))


# -- other records -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [labelled, forecast])
def test_a_run_of_an_earlier_version_has_a_report_without_answers(make: Any, tmp_path: Path) -> None:
    run = straight(make(tmp_path, epochs=1), tmp_path / "run")
    lines = [line for line in RunRecord(run).read() if line["kind"] not in ("forecast", "confusion")]
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert Page(write_report(run)).texts("h2")[0] == "Loss"


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("seed", [4, 7, 9, 11])
def test_junk_in_an_answer_never_stops_the_report_nor_the_figure(kind: str, seed: int, tmp_path: Path) -> None:
    generator = random.Random(seed)

    def spoilt(value: Any) -> Any:
        if generator.random() < 0.15:
            return generator.choice([one for one in JUNK if one != 10**400])
        if isinstance(value, dict):
            return {key: spoilt(inner) for key, inner in value.items()}
        return [spoilt(inner) for inner in value] if isinstance(value, list) else value

    record = RunRecord.create(tmp_path / "run", {})
    record.append(kind, 1, 1.0, **{name: spoilt(value) for name, value in LINES[kind].items()})
    write_report(record.folder)
    record.to_frame(kind)
    record.plot(view=kind).figure.draw_without_rendering()


@needs_chromium
@pytest.mark.parametrize("kind", LINES)
def test_names_that_try_to_be_markup_stay_text(kind: str, browser: Any, tmp_path: Path) -> None:
    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [named(inner) for inner in value]
        return MARKUP if isinstance(value, str) else value

    record = RunRecord.create(tmp_path / "run", {})
    record.append(kind, 1, 1.0, **named(LINES[kind]))
    with opened(browser, write_report(record.folder), width=400, scheme="dark") as page:
        assert_no_overflow(page)
        assert page.locator("h2").first.inner_text() in ("What it forecasts", "What it takes for what")
        page.wait_for_timeout(100)
        assert page.evaluate("window.injected") is None
        assert page.locator("img, iframe, a:not([href^='#'])").count() == 0


def test_a_run_that_goes_on_after_its_end_shows_its_last_answers_and_each_once(tmp_path: Path) -> None:
    run = straight(forecast(tmp_path, length=20, epochs=1), tmp_path / "run")
    resume(run, epochs=2, say=silent)
    first, last = RunRecord(run).read("forecast")
    assert first["windows"] != last["windows"]
    summary = Page(write_report(run)).data("record-summary")
    assert summary["forecast"]["windows"][0]["middle"] == pytest.approx(last["windows"][0]["middle"], rel=1e-4)
    answers = [(one["name"], one["on"]) for one in summary["worth"]]
    assert len(answers) == len({*answers})
