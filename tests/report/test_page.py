"""The page says what the record says, in order, and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from unvanish.errors import MissingExtraError, RunError
from unvanish.record import RunRecord
from unvanish.report import write_report
from unvanish.report.page.document import document

from .reading import SECTIONS, Page

Start = Callable[..., RunRecord]
Fill = Callable[[RunRecord], None]
PROFILE = "picture-3"  # of the full state of the first layer, after the picture of need and reach, loss and map


@pytest.fixture
def record(start: Start, fill: Fill) -> RunRecord:
    record = start()
    fill(record)
    return record


@pytest.fixture
def page(record: RunRecord) -> Page:
    return Page(write_report(record.folder))


def test_writes_one_file_and_returns_its_path(record: RunRecord) -> None:
    before = {path.name for path in record.folder.iterdir()}
    assert write_report(record.folder) == record.folder / "report.html"
    assert {path.name for path in record.folder.iterdir()} == before | {"report.html"}


def test_the_reach_on_the_page_is_the_reach_in_the_record(record: RunRecord, page: Page) -> None:
    profiles = list(record.read("flow"))[-1]["profiles"]
    assert page.reaches() == {
        part: (str(profile["reach"]), str(profile["censored"]).lower()) for part, profile in profiles.items()
    }
    assert page.reaches()["l1"] == ("199", "true"), "the record of this test must hold a censored reach"


def test_a_censored_reach_is_shown_and_explained_as_a_lower_bound(record: RunRecord, page: Page) -> None:
    shown = "".join(page.texts("header")).replace("\N{NO-BREAK SPACE}", " ")
    assert "≥ 199" in shown
    assert "at least 199" in shown
    assert "still above 1 % at the far end of the probe" in shown
    (censored,) = [one for one in page.having("data-part") if one["data-part"] == "l1"]
    assert "far end of the probe" in str(censored["title"])


def test_the_newest_reach_wins_wherever_it_stands(record: RunRecord) -> None:
    reach = {"l0": {"steps": 12, "censored": False, "rate": -0.4}}
    record.append("valid", 1300, 240.0, loss=1.5, reach=reach)
    page = Page(write_report(record.folder))
    assert page.reaches() == {"l0": ("12", "false"), "l1": ("199", "true")}


def test_summary_for_machines(record: RunRecord, page: Page) -> None:
    summary, valid = page.data("record-summary"), list(record.read("valid"))[-1]
    assert summary["valid"] == {key: valid[key] for key in ("step", "loss", "bits", "perplexity")}
    assert summary["status"] == "finished"
    assert summary["missing"] == []
    assert summary["reach"]["l1"]["steps"] == 199
    lines = list(record.read("step"))
    assert summary["clipped_share"] == sum(line["clipped"] for line in lines) / sum(line["steps"] for line in lines)


def test_header_names_loss_bits_and_perplexity(record: RunRecord, page: Page) -> None:
    valid = list(record.read("valid"))[-1]
    shown = "".join(page.texts("header"))
    for value in (valid["loss"], valid["bits"], valid["perplexity"]):
        assert f"{value:.2f}" in shown


def test_sections_stand_in_order_and_headings_skip_no_level(page: Page) -> None:
    assert page.texts("h2") == SECTIONS
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_picture_is_named_and_explained(page: Page) -> None:
    pictures = [one for one in page.having("role") if one["role"] == "img"]
    assert {one["id"] for one in pictures} == set(page.data("pictures"))
    assert all(len(one["aria-label"] or "") > 20 for one in pictures)
    captions = page.texts("figcaption")
    assert len(captions) == len(pictures)
    assert all(caption.endswith(".") for caption in captions)


def test_every_axis_is_named_and_every_norm_has_its_formula(page: Page) -> None:
    drawn = [view["layout"] for views in page.data("pictures").values() for view in views]
    assert all(layout["xaxis"]["title"]["text"] for layout in drawn)
    titles = {layout["yaxis"]["title"]["text"] for layout in drawn}
    assert {
        "gradient left, g(k) / g(0)",
        "norm of the gradient, ‖∂L/∂θ‖",
        "loss −ln p, in nats per character",
    } <= titles


def test_each_layer_shows_every_state(page: Page) -> None:
    pictures = page.data("pictures")
    kinds = {name: [view["data"][0]["type"] for view in views] for name, views in pictures.items()}
    assert [kind for kind in kinds.values() if kind == ["heatmap"] * 3] == [["heatmap"] * 3] * 2


def test_profile_draws_moments_fit_one_per_cent_and_reach(page: Page) -> None:
    (views,) = [views for name, views in page.data("pictures").items() if name == PROFILE]
    names = [trace["name"] for trace in views[0]["data"]]
    assert names == [*["between"] * 5, "training step 100", "training step 1,200", "fitted rate"]
    lines = [(shape["x0"], shape["y0"]) for shape in views[0]["layout"]["shapes"]]
    assert lines == [(0, 0.01), (118, 0)]


def test_fitted_rate_has_the_slope_of_the_record(page: Page) -> None:
    fit = page.data("pictures")[PROFILE][0]["data"][-1]
    slope = (math.log(fit["y"][1]) - math.log(fit["y"][0])) / (fit["x"][1] - fit["x"][0])
    assert slope == pytest.approx(page.data("record-summary")["reach"]["l0"]["rate"], rel=1e-3)


def test_fitted_line_meets_the_far_end_of_the_curve(page: Page) -> None:
    *_, curve, fit = page.data("pictures")[PROFILE][0]["data"]
    assert fit["y"][1] == pytest.approx(curve["y"][curve["x"].index(fit["x"][1])], rel=0.02)


def test_nothing_is_fetched(page: Page) -> None:
    assert not page.having("src")
    links = [one["href"] or "" for one in page.having("href")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    script = Path(inspect.getfile(document)).with_name("page.js").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"]*", script)) == {"http://www.w3.org/2000/svg"}, "a name, not an address"
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\b", script)
    assert "url(" not in "".join(page.texts("style"))


def test_the_same_record_gives_the_same_page(record: RunRecord) -> None:
    assert write_report(record.folder).read_bytes() == write_report(record.folder).read_bytes()


def test_the_contents_lead_to_every_section(page: Page) -> None:
    links = [(texts, attributes["href"]) for tag, attributes, texts in page.elements if tag == "a"]
    assert ["".join(texts) for texts, _ in links] == page.texts("h2") == SECTIONS
    anchors = [attributes.get("id") for tag, attributes, _ in page.elements if tag == "section"]
    assert {f"#{anchor}" for anchor in anchors if anchor} == {link for _, link in links}


def test_policy_allows_exactly_the_scripts_of_the_page(page: Page) -> None:
    (policy,) = [one["content"] or "" for one in page.having("http-equiv")]
    scripts = [texts for tag, attributes, texts in page.elements if tag == "script" and "type" not in attributes]
    digests = [base64.b64encode(hashlib.sha256("".join(one).encode()).digest()).decode() for one in scripts]
    assert re.search(r"script-src ([^;]*);", policy)[1] == " ".join(f"'sha256-{one}'" for one in digests)  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_equations_are_mathml_and_fall_back_to_their_text(start: Start, configured: dict[str, Any]) -> None:
    folder = start().folder
    assert len(Page(write_report(folder)).texts("math")) == 6
    configured["cell"]["latex"][2] = r"\frac{"
    (folder / "config.yaml").write_text(json.dumps(configured))
    page = Page(write_report(folder))
    assert not page.texts("math")
    assert any("c[t] = f * c[t-1] + i * g" in text for text in page.texts("pre"))


@pytest.mark.parametrize("module", ["matplotlib", "latex2mathml.converter"])
def test_a_missing_extra_is_named_and_the_old_report_stays(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    path = record.folder / "report.html"
    path.write_text("old")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "unvanish\[app\]"'):
        write_report(record.folder)
    assert path.read_text() == "old"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        write_report(tmp_path)
