"""Reports of runs of every question open in a browser, and lead with their answer beside a naive one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import forecast, labelled, silent, small, straight
from tests.train.questions.test_runs import MADE
from unvanish.record import RunRecord
from unvanish.report import write_report
from unvanish.train import ending, train

from .browsing import assert_no_overflow, assert_pictures_fill_their_places, needs_chromium, opened

LEADS = {
    "class per sequence": ("% right of the sequences", "always the commonest class"),
    "number per step": ("(root mean square) on steps", "always the mean"),
    "forecast": ("forecasts are", "the last value"),
    "words": ("equally likely words", "frequencies after the last symbol"),
}
SECTIONS = {"class per sequence": "What it takes for what", "forecast": "What it forecasts"}


@needs_chromium
@pytest.mark.parametrize("name", LEADS)
def test_it_opens_cleanly_and_leads_with_its_answer(
    name: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "SAMPLE_LENGTH", 5)
    run = straight(MADE[name](tmp_path), tmp_path / "run")
    last = list(RunRecord(run).read("valid"))[-1]["metrics"]
    with opened(browser, write_report(run), width=400) as page:
        assert_no_overflow(page)
        assert_pictures_fill_their_places(page)
        shown = page.locator("header").inner_text().replace("\N{NO-BREAK SPACE}", " ")
        for words in LEADS[name]:
            assert words in shown
        summary = json.loads(page.locator("#record-summary").text_content())
        shown = page.locator("h2").all_inner_texts()
        assert shown[0] == SECTIONS.get(name, "Loss"), "what the network answers comes first"
    assert {key: summary["valid"][key] for key in last} == pytest.approx(last)
    assert summary["worth"]


def test_what_would_help_is_told_where_the_gradient_is_lost(tmp_path: Path) -> None:
    told: list[str] = []
    settings = forecast(tmp_path, steps=900, period=60, cell="rnn", length=90, epochs=2)
    train(settings, tmp_path / "run", say=told.append)
    assert any(line.startswith("need     about") and "windows of 90 steps reach that" in line for line in told)
    (line,) = [line for line in told if line.startswith("would reach further")]
    (kept,) = RunRecord(tmp_path / "run").read("advice")
    reaches = [one["reach"] for one in kept["options"]]
    assert reaches == sorted(reaches, reverse=True)
    assert all(one["flag"] in line for one in kept["options"])
    short = train(
        forecast(tmp_path, steps=2000, period=60, noise=0.7, length=30, epochs=1),
        tmp_path / "short",
        say=told.append,
    )
    assert short.interrupted == 0
    assert any("windows of 30 steps cut that off: --length" in line for line in told)


def test_settings_that_fit_the_data_are_kept(tmp_path: Path) -> None:
    for settings, wanted in (
        (
            small(tmp_path, length=0, batch_size=0, epochs=1, hidden=4),
            {"length": 50, "batch_size": 50, "schedule": "constant"},
        ),
        (labelled(tmp_path, batch_size=0, epochs=1), {"length": 12, "batch_size": 8, "schedule": "cosine"}),
    ):
        if settings.length == 0 and settings.source.endswith(".txt"):
            path = Path(settings.source)
            path.write_text(path.read_text(encoding="utf-8") * 9, encoding="utf-8")
        train(settings, tmp_path / f"run-{wanted['schedule']}", say=silent)
        kept = RunRecord(tmp_path / f"run-{wanted['schedule']}").config["settings"]
        assert {name: kept[name] for name in wanted} == wanted
