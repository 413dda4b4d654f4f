"""The page of a benchmark says what was measured, names who was beside it, and stays one small file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unvanish.report import bench_finding, write_bench

from .browsing import assert_no_overflow, assert_pictures_fill_their_places, needs_chromium, opened
from .reading import Page

PLAIN, LSTM, GRU = "plain PyTorch", "torch.nn.LSTM", "torch.nn.GRU"


def span(median: float, spread: float = 1.05) -> dict[str, float]:
    return {"median": median, "low": median / spread, "high": median * spread}


def cell(name: str, ratios: dict[str, float], spread: float = 1.05, **more: Any) -> dict[str, Any]:
    found = {peer: span(ratio, spread) for peer, ratio in ratios.items()}
    times = {"unvanish": span(4.0)} | {peer: span(4 * ratio) for peer, ratio in ratios.items()}
    both = ("training step", "forward pass")
    return {
        "cell": name,
        "engine": "native",
        "why": "",
        "first": 0.0,
        "parameters": 33_280,
        "difference": 3e-7,
        "is_same": True,
        "rounds": 15,
        "milliseconds": dict.fromkeys(both, times),
        "ratios": dict.fromkeys(both, found),
    } | more


def bench(*cells: dict[str, Any]) -> dict[str, Any]:
    return {
        "when": "2026-11-27T08:06:44+00:00",
        "shape": {"time steps": 100, "batch": 32},
        "shape_text": "100 steps, batch 32, input 64, hidden 64",
        "options": {},
        "machine": {"processor": "AMD EPYC", "threads": 2},
        "cells": list(cells),
    }


ONE = bench(cell("lstm", {PLAIN: 5.0, LSTM: 1.4}))
TWO = bench(cell("lstm", {PLAIN: 5.0, LSTM: 1.4}), cell("gru", {PLAIN: 7.0, LSTM: 1.6, GRU: 4.2}, first=1.25))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            ONE,
            "A training step of lstm is 5.0 times as fast as the same in plain PyTorch and 1.4 times as fast as "
            "torch.nn.LSTM.",
        ),
        (
            TWO,
            "A training step of lstm and gru is 5.0 to 7.0 times as fast as the same in plain PyTorch and 1.4 to "
            "1.6 times as fast as torch.nn.LSTM.",
        ),
        (
            bench(cell("mine", {PLAIN: 3.0, LSTM: 1.02}, engine="reference", why="it reads the future")),
            "A training step of mine is 3.0 times as fast as the same in plain PyTorch and about as fast as "
            "torch.nn.LSTM. mine has no kernel here: it reads the future.",
        ),
        (
            bench(cell("mine", {PLAIN: 0.8}, is_same=False, difference=0.01)),
            "A training step of mine is 0.80 times as fast as the same in plain PyTorch. The numbers of mine "
            "differ from those in plain PyTorch, by 0.010 of the largest.",
        ),
        (
            bench(cell("mine", {PLAIN: 4.0}, spread=1.6)),
            "A training step of mine is 4.0 times as fast as the same in plain PyTorch. The rounds differ much: "
            "something else kept this machine busy, so measure again.",
        ),
    ],
)
def test_what_it_comes_to_is_said_in_words(found: dict[str, Any], said: str) -> None:
    assert bench_finding(found) == said


def test_the_page_holds_every_time(tmp_path: Path) -> None:
    page = Page(write_bench(TWO, tmp_path / "bench.html"))
    assert page.texts("h1")[0].startswith("A training step of lstm and gru is 5.0 to 7.0 times as fast")
    assert page.texts("h2") == ["A training step", "A forward pass", "The same numbers", "Shape and machine"]
    assert [trace["x"] for trace in page.data("pictures")["picture-0"][0]["data"]] == [[5.0], [7.0]]
    assert [trace["x"] for trace in page.data("pictures")["picture-1"][0]["data"]] == [[1.4], [1.6]]
    told = page.texts("td")
    for wanted in (
        "4.0 ms (3.8–4.2)",
        "20 ms (19–21), 5.0 ×",
        "17 ms (16–18), 4.2 ×",
        "—",
        "1.2 s, once",
        "33,280",
    ):
        assert wanted in told, wanted
    assert page.data("bench") == TWO


def test_names_are_text(tmp_path: Path) -> None:
    mark = "<img src=x>"
    page = Page(write_bench(bench(cell(mark, {PLAIN: 2.0})), tmp_path / "b.html"))
    assert mark in page.texts("h1")[0]
    assert not [one for one in page.elements if one[0] == "img"]


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_opens_cleanly(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    with opened(browser, write_bench(TWO, tmp_path / "bench.html"), width=width, scheme=scheme) as page:
        assert_no_overflow(page)
        assert_pictures_fill_their_places(page)
