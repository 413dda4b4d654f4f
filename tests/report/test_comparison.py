"""A comparison shows what its runs recorded, says which is best, and refuses in one line what it cannot compare."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unvanish.cli import main
from unvanish.record import RunRecord
from unvanish.report import compare, finding, rows, write_comparison

from .browsing import (
    BACKGROUNDS,
    assert_no_overflow,
    assert_pictures_fill_their_places,
    needs_chromium,
    opened,
)
from .conftest import configuration, fill_record
from .reading import JUNK, Page

Capture = pytest.CaptureFixture[str]


def made(folder: Path, change: float = 0.0, need: int | None = 60, digest: str = "one", **settings: Any) -> Path:
    """A run whose losses are all so much higher than usual."""
    config = configuration()
    config["settings"] |= {"seed": 7, **settings}
    config["data"]["digest"] = digest
    record = RunRecord.create(folder, config)
    fill_record(record)
    lines = list(record.read())
    for line in lines:
        if line["kind"] == "valid":
            line["loss"] += change
            line["bits"] = line["loss"] / math.log(2)
    if need is not None:
        lines.append({"kind": "need", "step": 0, "seconds": 1.0, "lag": need, "censored": False, "of": 1000})
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def last_loss(run: Path) -> float:
    return float(list(RunRecord(run).read("valid"))[-1]["loss"])


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [made(tmp_path / "lstm-3", 0.1), made(tmp_path / "gru-7", cell="gru", length=50)]


def page_of(runs: list[Path]) -> Page:
    return Page(write_comparison(runs, runs[0].parent / "compare.html"))


def cells(page: Page, name: str) -> list[str]:
    """The cells of a row of the table."""
    at = next(at for at, (tag, attributes, _) in enumerate(page.elements) if attributes.get("data-row") == name)
    row = []
    for tag, _, texts in page.elements[at + 1 :]:
        if tag == "tr":
            break
        row += ["".join(texts)] if tag == "td" else []
    return row


def test_both_losses_stand_side_by_side_and_the_lower_one_leads(pair: list[Path]) -> None:
    page = page_of(pair)
    worse, better = map(last_loss, pair)
    assert cells(page, "validation loss, nats per character") == [f"{worse:.2f}", f"{better:.2f}"]
    (summary,) = [page.data("comparison-summary")]
    assert summary["best"] == "gru-7"
    assert [group["runs"][0]["valid"]["loss"] for group in summary["groups"]] == [worse, better]
    told = "".join(page.texts("header"))
    assert f"gru-7 is best: {better:.2f} nats against {worse:.2f}. Its gradient reaches at least 199 steps" in told
    assert "The data need 60 steps of context." in told


def test_only_settings_that_differ_are_listed_and_windows_beside_the_need(pair: list[Path]) -> None:
    found = {row.name: row for row in rows(compare(pair))}
    asked = [row.name for row in found.values() if row.asked]
    assert asked == []
    assert (found["window"].cells, found["need"].cells) == (["200", "50"], ["60", "60"])
    assert found["gradient"].cells == ["far enough", "cut by the window"]
    wider = made(pair[0].parent / "slow", lr=0.5, clip="norm:1")
    asked = [row.name for row in rows(compare([*pair, wider])) if row.asked]
    assert asked == ["lr", "clip"]


def test_runs_that_differ_only_in_the_seed_stand_together_with_mean_and_range(tmp_path: Path) -> None:
    seeds = [made(tmp_path / f"gru-{seed}", 0.1 * seed, seed=seed) for seed in (1, 2, 3)]
    other = made(tmp_path / "lstm", 0.15, hidden=64)
    found = compare([*seeds, other])
    assert [len(group.entries) for group in found.groups] == [3, 1]
    losses = list(map(last_loss, seeds))
    mean = sum(losses) / 3
    page = page_of([*seeds, other])
    (group, _) = page.data("comparison-summary")["groups"]
    assert group["loss"] == pytest.approx({"mean": mean, "least": losses[0], "greatest": losses[2]})
    told = cells(page, "validation loss, nats per character")[0]
    assert told == f"{mean:.2f} ({losses[0]:.2f} to {losses[2]:.2f})"
    assert {"mean", "least", "greatest", "gru-1", "gru-2", "gru-3"} <= {*page.texts("th")}
    assert "overlap" in finding(found)
    alone = finding(compare(seeds))
    assert alone.startswith("3 runs of Long short-term memory that differ only in the seed: a loss of")
    assert f"from {losses[0]:.2f} to {losses[2]:.2f} over 3 seeds" in alone


def test_runs_on_different_data_are_not_ranked_and_that_is_said(tmp_path: Path) -> None:
    runs = [made(tmp_path / "one"), made(tmp_path / "other", digest="other")]
    page = page_of(runs)
    summary = page.data("comparison-summary")
    assert (summary["best"], summary["same_data"]) == (None, False)
    assert "learned from different data (one and other)" in "".join(page.texts("header"))
    assert "is best" not in "".join(page.texts("header"))


def test_runs_that_are_judged_otherwise_are_not_ranked(tmp_path: Path) -> None:
    found = compare([made(tmp_path / "one", valid=0.1), made(tmp_path / "other", valid=0.2)])
    assert (found.same_data, found.same_loss, found.ranked) == (True, False, [])
    assert "not judged alike" in finding(found)


def test_a_run_with_patience_is_judged_by_its_best_validation(tmp_path: Path) -> None:
    run = made(tmp_path / "one", patience=2)
    RunRecord(run).append("valid", 1300, 300.0, loss=9.0, epoch=7)
    (entry, plain) = compare([run, made(tmp_path / "other")]).entries
    assert (entry.valid, plain.valid) == (entry.best, plain.run.valids[-1])
    assert entry.run.valids[-1].loss == 9.0


def test_every_picture_has_every_run_and_the_marks(pair: list[Path]) -> None:
    (loss,), (profiles,), (reach,) = list(page_of(pair).data("pictures").values())[-3:]
    for picture in (loss, profiles, reach):
        named = [trace["name"].partition(",")[0] for trace in picture["data"] if trace.get("showlegend", True)]
        assert named == ["lstm-3", "gru-7"]
    told = {one["text"] for one in profiles["layout"]["annotations"]}
    assert told == {"needed 60", "window 50", "window 200"}
    recorded = list(RunRecord(pair[0]).read("flow"))[-1]["profiles"]["l1"]
    drawn = profiles["data"][0]
    shares = {lag: norm / recorded["norms"]["all"][0] for lag, norm in enumerate(recorded["norms"]["all"])}
    assert drawn["y"] == [pytest.approx(shares[lag], rel=1e-4) for lag in drawn["x"]]
    measured = [line["profiles"]["l1"]["reach"] for line in RunRecord(pair[0]).read("flow")]
    assert reach["data"][0]["y"] == measured


def test_the_title_is_the_finding_and_the_first_picture_shows_it(pair: list[Path]) -> None:
    page = page_of(pair)
    low, high = last_loss(pair[1]), last_loss(pair[0])
    assert page.texts("h1") == [f"gru-7 is best: {low:.2f} nats against {high:.2f}"]
    assert page.texts("title")[0].startswith(page.texts("h1")[0])
    far, losses = list(page.data("pictures").values())[:2]
    told = {trace["name"]: trace["text"][0] for trace in far[0]["data"]}
    assert told == {"needed by the data": "60", "lstm-3": "≥ 199", "gru-7": "≥ 199"}
    assert {trace["name"]: trace["x"] for trace in losses[0]["data"]} == {"lstm-3": [high], "gru-7": [low]}


def test_a_title_of_runs_on_different_data_ranks_nothing(tmp_path: Path) -> None:
    page = page_of([made(tmp_path / "one"), made(tmp_path / "other", digest="other")])
    (title,) = page.texts("h1")
    assert title == "The gradient of one reaches at least 199 steps, that of other at least 199"
    first = [text for text in page.texts("figure") if text.startswith("How ")]
    assert len(first) == 1, "losses that cannot be held against each other are not drawn side by side"


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [made(tmp_path / one / "run", change) for one, change in (("a", 0.0), ("b", 0.1))]
    assert [entry.name for entry in compare(runs).entries] == ["a/run", "b/run"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["lstm-3"], "needs two runs or more, and 1 was named"),
        (["lstm-3", "lstm-3/../lstm-3"], "lstm-3/../lstm-3 is named twice"),
        (["lstm-3", "none"], "none is not a run"),
        (["lstm-3", "gru-7", "--out", "lstm-3/config.yaml/x.html"], "config.yaml is a file, not a folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    pair: list[Path], given: list[str], words: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair[0].parent)
    assert main(["compare", *given]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not Path("compare.html").exists()


def test_the_terminal_shows_the_table_and_ends_with_the_page(
    pair: list[Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair[0].parent)
    assert main(["compare", *(run.name for run in pair)]) == 0
    out = capsys.readouterr().out
    found = compare(pair)
    for row in rows(found):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{row.name}  ")]
        assert [cell for cell in row.cells if cell not in line] == []
    *_, told, last = out.splitlines()
    assert told == finding(found)
    assert last == "page    compare.html"
    assert Path("compare.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_comparing_loads_no_torch(pair: list[Path]) -> None:
    script = "import sys; from unvanish.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    page = pair[0].parent / "new" / "compare.html"
    given = ["compare", *map(str, pair), "-o", str(page)]
    subprocess.run([sys.executable, "-c", script, *given], check=True, stdout=subprocess.DEVNULL)
    assert page.exists(), "its folder is made"


@pytest.mark.parametrize("seed", range(4))
def test_junk_anywhere_never_stops_a_comparison(pair: list[Path], seed: int) -> None:
    generator = random.Random(seed)

    def spoilt(value: Any) -> Any:
        if generator.random() < 0.05:
            return generator.choice(JUNK)
        if isinstance(value, dict):
            return {key: spoilt(inner) for key, inner in value.items()}
        return [spoilt(inner) for inner in value[:20]] if isinstance(value, list) else value

    for run in pair:
        lines = [{k: v if k == "kind" else spoilt(v) for k, v in line.items()} for line in RunRecord(run).read()]
        (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        config = spoilt(RunRecord(run).config)
        (run / "config.yaml").write_text(json.dumps(config if isinstance(config, dict) else {}), encoding="utf-8")
    page = page_of(pair)
    assert page.texts("h2") == ["Side by side", "Loss", "The gradient along time", "Reach over training"]


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_it_opens_cleanly_at_every_width_and_scheme(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    runs = [made(tmp_path / f"run-{seed}", 0.05 * seed, seed=seed) for seed in range(2)]
    runs += [made(tmp_path / f"a-run-with-a-name-as-long-as-they-come-{at}", hidden=at + 1) for at in range(3)]
    with opened(browser, write_comparison(runs, tmp_path / "compare.html"), width=width, scheme=scheme) as page:
        assert_no_overflow(page)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
        assert_pictures_fill_their_places(page)


@needs_chromium
def test_hostile_text_runs_nowhere(
    browser: Any, tmp_path: Path, hostile: dict[str, Any], fill_hostile: Callable[[RunRecord], None]
) -> None:
    records = [RunRecord.create(tmp_path / name, {**hostile, "seed": name}) for name in ("<b>one", "other")]
    for record in records:
        fill_hostile(record)
    path = write_comparison([record.folder for record in records], tmp_path / "compare.html")
    with opened(browser, path, width=400) as page:
        assert_no_overflow(page)
        page.wait_for_timeout(200)
        assert page.evaluate("window.injected") is None
        assert page.locator("img, iframe, a:not([href^='#'])").count() == 0


# -- runs that are damaged, or others than they seem ---------------------------------------------------------------


def told(arguments: list[Any], capsys: Capture) -> tuple[int, str]:
    """The exit status of the command and the one line that it told on the way of errors."""
    status = main(["compare", *map(str, arguments)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 1
    return status, "".join(lines)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.yaml").unlink(), "has no config.yaml"),
        (lambda run: (run / "records.jsonl").unlink(), "has no records.jsonl"),
        (lambda run: (run / "config.yaml").write_text(""), "does not hold a run's configuration"),
        (lambda run: (run / "config.yaml").write_bytes(b"\xff\x00"), "cannot be read"),
        (lambda run: (run / "config.yaml").write_text("format: 99\n"), "is of a newer unvanish"),
    ],
)
def test_a_run_that_cannot_be_read_is_refused_in_one_line(
    pair: list[Path], capsys: Capture, damage: Callable[[Path], Any], message: str
) -> None:
    damage(pair[1])
    status, line = told([*pair, "-o", pair[0].parent / "page.html"], capsys)
    assert status == 2
    assert message in line
    assert not (pair[0].parent / "page.html").exists()


@pytest.mark.parametrize("left", [0.0, 0.3, 0.61])
def test_of_a_record_that_is_cut_short_the_rest_is_compared(pair: list[Path], capsys: Capture, left: float) -> None:
    records = pair[1] / "records.jsonl"
    content = records.read_bytes()
    records.write_bytes(content[: int(left * len(content))])
    assert told([*pair, "-o", pair[0].parent / "page.html"], capsys) == (0, "")
    found = {row.name: row.cells for row in rows(compare(pair))}
    assert found["status"] == ["finished", "unfinished"]
    known = list(RunRecord(pair[1]).read("valid"))
    assert compare(pair).entries[1].best is None if not known else found["best loss"][1] != "—"


def test_a_copy_of_a_run_is_no_other_seed(pair: list[Path], tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(pair[0], tmp_path / "copy")
    status, line = told([*pair, tmp_path / "copy", "-o", tmp_path / "page.html"], capsys)
    assert status == 2
    assert f"{tmp_path / 'copy'} is a copy of {pair[0]}: name each run once" in line


def test_a_folder_of_seeds_stands_for_its_runs(pair: list[Path], tmp_path: Path, capsys: Capture) -> None:
    for seed in (1, 2):
        made(tmp_path / "seeds" / f"seed-{seed}", 0.2 * seed, seed=seed)
    assert told([tmp_path / "seeds", "-o", tmp_path / "page.html"], capsys) == (0, "")
    assert "seed-1 (2 seeds)" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_files_of_a_run_are_not_written_over(pair: list[Path], capsys: Capture) -> None:
    config = (pair[0] / "config.yaml").read_bytes()
    status, line = told([*pair, "-o", pair[0] / "config.yaml"], capsys)
    assert (status, "is a file of the run lstm-3: name another" in line) == (2, True)
    assert (pair[0] / "config.yaml").read_bytes() == config
    status, line = told([*pair, "-o", pair[0]], capsys)
    assert (status, "is a folder: name a file in it" in line) == (2, True)
