"""The page in a real browser: no error, no request, no overflow, and the reach that the record holds."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from unvanish.record import RunRecord
from unvanish.report import write_report

from .browsing import (
    BACKGROUNDS,
    assert_no_overflow,
    assert_pictures_fill_their_places,
    needs_chromium,
    opened,
    wait,
)

pytestmark = needs_chromium

Start = Callable[..., RunRecord]
Fill = Callable[[RunRecord], None]


@pytest.fixture
def path(start: Start, fill: Fill) -> Path:
    record = start()
    fill(record)
    return write_report(record.folder)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_opens_cleanly_at_every_width_and_scheme(browser: Any, path: Path, width: int, scheme: str) -> None:
    with opened(browser, path, width=width, scheme=scheme) as page:
        assert_no_overflow(page)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
        assert_pictures_fill_their_places(page)


def test_the_reach_on_the_page_is_the_reach_in_the_record(browser: Any, path: Path) -> None:
    profiles = list(RunRecord.open(path.parent).read("flow"))[-1]["profiles"]
    with opened(browser, path) as page:
        for part, profile in profiles.items():
            figure = page.locator(f"[data-part={part}]")
            assert int(figure.get_attribute("data-reach")) == profile["reach"]
            sign = "≥ " if profile["censored"] else ""
            assert figure.locator(".value").inner_text() == f"{sign}{profile['reach']}"
        summary = json.loads(page.locator("#record-summary").text_content())
        assert {part: one["steps"] for part, one in summary["reach"].items()} == {
            part: profile["reach"] for part, profile in profiles.items()
        }


def test_pictures_follow_the_colour_scheme_while_open(browser: Any, path: Path) -> None:
    colour = "getComputedStyle(document.querySelector('.plot.tall text')).fill"
    with opened(browser, path, scheme="light") as page:
        assert page.evaluate(colour) == "rgb(89, 98, 109)"
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(colour) == "rgb(163, 172, 183)"


def test_choosing_a_state_shows_both_pictures_of_its_layer_without_a_script(browser: Any, path: Path) -> None:
    with opened(browser, path, scripts=False) as page:
        assert page.locator(".plot").count() == page.locator(".plot svg:visible").count()
        layer, other = page.locator(".layer").first, page.locator(".layer").nth(1)
        assert "reach 118" in layer.locator(".plot").nth(1).inner_text()
        before = other.inner_text()
        layer.get_by_label("h", exact=True).check(force=True)
        for plot in layer.locator(".plot").all():
            assert [view.is_visible() for view in plot.locator(".view").all()] == [False, True, False]
        assert "reach 118" not in layer.locator(".plot").nth(1).inner_text()
        assert other.inner_text() == before


def test_a_narrow_page_shows_its_own_drawing(browser: Any, path: Path) -> None:
    loss = "[...document.querySelectorAll('.plot.tall svg')].filter((svg) => svg.getClientRects().length)"
    for width, drawn in ((1280, 1000), (400, 400)):
        with opened(browser, path, width=width) as page:
            assert page.evaluate(f"{loss}.map((svg) => svg.viewBox.baseVal.width)") == [drawn]
            assert_pictures_fill_their_places(page)


def downloaded(page: Any, plot: int, form: str) -> bytes:
    """What a button under a picture gives."""
    with page.expect_download() as waited:
        page.locator("figure").nth(plot).get_by_role("button", name=form).click()
    assert waited.value.suggested_filename == f"picture-{plot}.{form.lower()}"
    return Path(waited.value.path()).read_bytes()


@pytest.mark.parametrize(("scheme", "paper"), [("light", "#ffffff"), ("dark", "#121417")])
def test_a_picture_is_saved_as_it_looks_on_the_page(browser: Any, path: Path, scheme: str, paper: str) -> None:
    with opened(browser, path, scheme=scheme) as page:
        svg = downloaded(page, 1, "SVG").decode()
        png = downloaded(page, 1, "PNG")
    tree = ElementTree.fromstring(svg)
    assert tree.get("viewBox") == "0 0 1000 360"
    assert tree[0].get("fill") == paper
    assert "var(" not in svg, "outside the page there are no colours by name"
    assert "validation" in "".join(tree.itertext())
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (2000, 720)


def test_the_data_of_a_picture_are_saved_as_a_table(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        loss = list(csv.reader(downloaded(page, 1, "CSV").decode().splitlines()))
        heat = list(csv.reader(downloaded(page, 2, "CSV").decode().splitlines()))
    assert loss[0] == ["series", "training step", "loss −ln p, in nats per character"]
    valid = {int(line["step"]): line["loss"] for line in RunRecord.open(path.parent).read("valid")}
    saved = {int(step): float(value) for series, step, value in loss[1:] if series == "validation"}
    assert saved == pytest.approx(valid, rel=1e-4)
    assert heat[0] == ["steps back k", "training step", "log10 of the gradient left"]
    record = list(RunRecord.open(path.parent).read("flow"))[-1]["profiles"]["l0"]["norms"]["all"]
    last = {int(lag): float(value) for lag, step, value in heat[1:] if step == "1200"}
    assert {lag: 10**value for lag, value in last.items() if value > -6} == pytest.approx(
        {lag: record[lag] / record[0] for lag, value in last.items() if value > -6}, rel=0.02
    )


def test_equations_and_citation_are_copied(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        for named, words in (("LaTeX", r"\begin{align}"), ("BibTeX", "@misc{")):
            block = page.locator("details", has_text=f"as {named}")
            block.locator("summary").click()
            block.get_by_role("button").click()
            wait(page, "[...document.querySelectorAll('details[open] button')].at(-1).textContent !== 'Copy'")
            assert words in page.evaluate("getSelection().toString()")


def test_prints_in_ink_on_white_with_all_unfolded(browser: Any, path: Path) -> None:
    with opened(browser, path, scheme="dark") as page:
        page.evaluate(
            "addEventListener('beforeprint', () => { window.printed ="
            " document.querySelectorAll('details:not([open])').length })"
        )
        assert page.pdf(format="A4").startswith(b"%PDF")
        assert page.evaluate("window.printed") == 0
        assert page.locator("details[open]").count() == 0, "on the screen they are folded again"
        page.emulate_media(media="print", color_scheme="dark")
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.plot.tall text')).fill") == "rgb(89, 98, 109)"
        )
        assert page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
        assert not page.locator(".tools").first.is_visible()


def test_hostile_text_runs_nowhere(browser: Any, start: Start, hostile: dict[str, Any], fill_hostile: Fill) -> None:
    record = start(hostile)
    fill_hostile(record)
    with opened(browser, write_report(record.folder), width=400) as page:
        assert_no_overflow(page)
        page.wait_for_timeout(200)
        assert page.evaluate("window.injected") is None
        assert page.locator("img, iframe, svg a, a:not([href^='#'])").count() == 0
        assert "<b>bold</b>" in page.locator(".plot text").all_text_contents()


@pytest.mark.parametrize("state", ["empty", "single step"])
def test_poor_records_open_cleanly(browser: Any, start: Start, state: str) -> None:
    record = start({} if state == "empty" else None)
    if state == "single step":
        record.append("step", 1, 0.1, loss=4.2, gradient_norm=0.5, parameter_norm=30.0, clipped=1, steps=1)
    with opened(browser, write_report(record.folder), width=400) as page:
        assert_no_overflow(page)
        assert page.locator("h2").count() == 8
