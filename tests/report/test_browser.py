"""The page in a real browser: no error, no request, no overflow, and the reach that the record holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    colour = "getComputedStyle(document.querySelector('.plot .ytick text')).fill"
    with opened(browser, path, scheme="light") as page:
        light = page.evaluate(colour)
        page.emulate_media(color_scheme="dark")
        wait(page, f"{colour} !== {json.dumps(light)}")
        assert page.evaluate(colour) == "rgb(163, 172, 183)"


def test_choosing_a_state_redraws_both_pictures_of_its_layer(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        layer = page.locator(".layer").first
        assert "reach 118" in layer.locator(".plot").nth(1).text_content()
        other = page.locator(".layer").nth(1).locator(".plot").first.inner_html()
        layer.get_by_label("h", exact=True).check(force=True)
        assert "reach 118" not in layer.locator(".plot").nth(1).text_content()
        shown = page.evaluate("document.querySelector('.layer .plot').data[0].z.at(-1)[50]")
        record = list(RunRecord.open(path.parent).read("flow"))[-1]["profiles"]["l0"]["norms"]["h"]
        assert 10**shown == pytest.approx(record[50] / record[0], rel=0.01)
        assert page.locator(".layer").nth(1).locator(".plot").first.inner_html() == other


def test_prints_in_ink_on_white(browser: Any, path: Path) -> None:
    with opened(browser, path, scheme="dark") as page:
        page.evaluate(
            "addEventListener('beforeprint', () => { window.printed ="
            " [...document.querySelectorAll('.plot .main-svg')].map((svg) => svg.clientWidth).concat("
            " getComputedStyle(document.querySelector('.plot .ytick text')).fill) })"
        )
        assert page.pdf(format="A4").startswith(b"%PDF")
        *widths, colour = page.evaluate("window.printed")
        assert set(widths) == {640}
        assert colour == "rgb(89, 98, 109)"
        wait(page, "document.querySelector('.plot .main-svg').clientWidth > 640")


def test_hostile_text_runs_nowhere(browser: Any, start: Start, hostile: dict[str, Any], fill_hostile: Fill) -> None:
    record = start(hostile)
    fill_hostile(record)
    with opened(browser, write_report(record.folder), width=400) as page:
        assert_no_overflow(page)
        page.wait_for_timeout(200)
        assert page.evaluate("window.injected") is None
        assert page.locator("img, iframe, a[href]").count() == 0
        assert (
            page.locator("svg a").evaluate_all("links => links.filter((a) => a.getAttribute('href')).length") == 0
        )
        assert "<b>bold</b>" in page.locator(".legendtext").all_text_contents()


@pytest.mark.parametrize("state", ["empty", "single step"])
def test_poor_records_open_cleanly(browser: Any, start: Start, state: str) -> None:
    record = start({} if state == "empty" else None)
    if state == "single step":
        record.append("step", 1, 0.1, loss=4.2, gradient_norm=0.5, parameter_norm=30.0, clipped=1, steps=1)
    with opened(browser, write_report(record.folder), width=400) as page:
        assert_no_overflow(page)
        assert page.locator("h2").count() == 8
