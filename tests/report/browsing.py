"""Opens a report in a real browser, and holds that nothing goes wrong and nothing is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="needs chromium: apt-get install chromium"
)


BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 20, 23)"}


@contextmanager
def launched() -> Iterator[Any]:
    """Start a browser, for as many pages as are opened in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def wait(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way needs eval, which the page's policy forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


@contextmanager
def opened(browser: Any, path: Path, *, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Open a page; when it is closed, nothing may have gone wrong and nothing may have been asked for."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("request", lambda request: faults.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    wait(page, "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")
    yield page
    page.close()
    allowed = ("data:", "blob:")
    harmless = ("log:", "info:", "debug:")
    assert [
        fault
        for fault in faults
        if fault != f"request: {path.as_uri()}"
        and not fault.removeprefix("request: ").startswith(allowed)
        and not fault.startswith(harmless)
    ] == []


def assert_no_overflow(page: Any) -> None:
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert size[0] <= size[1]


def assert_pictures_fill_their_places(page: Any) -> None:
    narrow = page.evaluate(
        "[...document.querySelectorAll('.plot')].filter((plot) =>"
        " Math.abs(plot.querySelector('.main-svg').clientWidth - plot.clientWidth) > 1).length"
    )
    assert narrow == 0, "every picture is as wide as its place"
