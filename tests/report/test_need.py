"""Reach, window and need stand beside each other, and the headline says what holds the gradient back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from unvanish.record import RunRecord
from unvanish.report import write_report

from .reading import Page

Start = Callable[..., RunRecord]
Fill = Callable[[RunRecord], None]


def page_of(record: RunRecord, fill: Fill, lag: int, **more: Any) -> tuple[Page, str]:
    fill(record)
    record.append("need", 1200, 230.0, lag=lag, of=50_000, **more)
    page = Page(write_report(record.folder))
    return page, "".join(page.texts("header")).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("lag", "window", "words", "of_parts"),
    [
        (9, 200, "need 9 time steps of context: the gradient of layer 2 comes as far", {"far enough"}),
        (
            150,
            200,
            "need 150 time steps of context: the gradient of layer 2 comes as far",
            {"far enough", "lost on the way"},
        ),
        (150, 100, "the window cuts the gradient of layer 2 before that", {"cut by the window"}),
        (300, 500, "of layer 2 was not measured as far", {"lost on the way", "not measured as far"}),
    ],
)
def test_headline_and_table_say_what_holds_the_gradient_back(
    start: Start, configured: dict[str, Any], fill: Fill, lag: int, window: int, words: str, of_parts: set[str]
) -> None:
    config = {**configured, "settings": {**configured["settings"], "length": window}}
    page, shown = page_of(start(config), fill, lag)
    assert words in shown
    summary = page.data("record-summary")
    assert set(summary["held_back"].values()) == of_parts
    assert (summary["window"], summary["need"]) == (window, {"steps": lag, "censored": False})
    assert all(word in shown for word in of_parts)


def test_need_of_a_small_sample_is_at_least_that(start: Start, fill: Fill) -> None:
    _, shown = page_of(start(), fill, 8, censored=True)
    assert "need at least 8 time steps" in shown
    assert "≥ 8" in shown


def test_without_a_need_there_is_no_table(start: Start, fill: Fill) -> None:
    record = start()
    fill(record)
    shown = "".join(Page(write_report(record.folder)).texts("header"))
    assert "of context" not in shown
    assert "far enough" not in shown
