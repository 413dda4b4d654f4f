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


LARGEST = 600_000  # bytes of any report
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
def opened(
    browser: Any, path: Path, *, width: int = 1280, scheme: str = "light", scripts: bool = True
) -> Iterator[Any]:
    """Open a page; when it is closed, nothing may have gone wrong and nothing may have been asked for."""
    faults: list[str] = []
    shape = {"width": width, "height": 900}
    page = browser.new_page(viewport=shape, color_scheme=scheme, java_script_enabled=scripts)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("request", lambda request: faults.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    assert_ids_are_unique(page)
    assert path.stat().st_size < LARGEST
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


def assert_ids_are_unique(page: Any) -> None:
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    used = page.evaluate(
        "[...document.querySelectorAll('svg *')].flatMap((node) => [node.getAttribute('clip-path'),"
        " node.getAttribute('href')]).filter((link) => link && link.includes('#'))"
    )
    assert {link.removeprefix("url(").removesuffix(")").removeprefix("#") for link in used} <= set(ids)


def assert_pictures_fill_their_places(page: Any) -> None:
    """Hold that of each picture one drawing is shown, as wide as its place, and that its texts can be read."""
    shown = page.evaluate(
        "[...document.querySelectorAll('.plot')].map((plot) => [...plot.querySelectorAll('svg')]"
        ".filter((svg) => svg.getClientRects().length).map((svg) => [svg.getBoundingClientRect().width -"
        " plot.clientWidth, svg.getBoundingClientRect().width / svg.viewBox.baseVal.width *"
        " parseFloat(getComputedStyle(svg.querySelector('text')).fontSize)]))"
    )
    for drawings in shown:
        ((wider, letters),) = drawings
        assert abs(wider) <= 1, "every picture is as wide as its place"
        assert letters >= 10, "letters are high enough to be read"
