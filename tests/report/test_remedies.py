"""The section on remedies: a row for each, with what the record says of it; nothing where there was none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from unvanish.record import RECORDS, RunRecord
from unvanish.report import write_report

from .browsing import BACKGROUNDS, assert_no_overflow, needs_chromium, opened
from .conftest import MARKUP, profile
from .reading import JUNK, SECTIONS, Page

Start = Callable[..., RunRecord]
Fill = Callable[[RunRecord], None]


def profiles(rate: float, parts: tuple[str, ...] = ("l0", "l1")) -> dict[str, Any]:
    return {part: profile(rate, 0.5) for part in parts}


def step(record: RunRecord, at: int, **values: Any) -> None:
    usual = {"loss": 3.0, "gradient_norm": 2.0, "parameter_norm": 9.0, "learning_rate": 0.01, "steps": 1}
    record.append("step", at, 1.0 * at, **{**usual, **values})


def fill_remedies(record: RunRecord) -> None:
    """An initialiser, a connection, noise, Ω, and a clip that was changed at step 2, and twice at step 4."""
    start, bare = profiles(-0.05), profiles(-0.2)
    for name, asked in (("init", "chrono:784"), ("layer_norm", "yes"), ("zoneout", "0.1")):
        record.append("remedy", 0, 0.0, name=name, asked=asked, profiles=start, without=bare)
    depth = {"with": {"norms": [1.0, 2.5]}, "without": {"norms": [1.0, 0.125]}}
    record.append("remedy", 0, 0.0, name="connect", asked="dense", profiles=start, without=bare, depth=depth)
    record.append("remedy", 0, 0.0, name="clip", asked="norm:1", profiles=start, without=None)
    record.append("remedy", 0, 0.0, name="penalty", asked="omega:2", profiles=start, without=None)
    for at, clipped, factor in ((1, 1, 0.25), (2, 3, 0.75)):
        told = {
            "omega:2": {"value": 4.0 / at, "weight": 2.0, "acted": 4 - at, "spread": {"l0": 0.5 / at, "l1": 0.5}}
        }
        step(record, at, steps=4, clipped=clipped, factor=factor, penalties=told)
    record.append("flow", 2, 2.0, epoch=0, profiles=profiles(-0.02), loss_norms={})
    record.append("remedy", 2, 2.0, name="clip", asked="step:10", profiles=profiles(-0.02), without=None)
    step(record, 3, clipped=0, adjoints=[600, 0])
    step(record, 4, clipped=1, adjoints=[400, 10])
    record.append("remedy", 4, 4.0, name="clip", asked="value:7", profiles=profiles(-0.02), without=None)
    record.append("remedy", 4, 4.0, name="clip", asked="none", profiles=profiles(-0.02), without=None)
    step(record, 5, clipped=0)
    record.append("flow", 5, 5.0, epoch=0, profiles=profiles(-0.01), loss_norms={})


@pytest.fixture
def record(start: Start) -> RunRecord:
    record = start()
    fill_remedies(record)
    return record


def rows(page: Page) -> list[tuple[str, str]]:
    """Return the rows of the section: which remedy, and its text on one line."""
    return [
        (str(attributes["data-remedy"]), " ".join("|".join(texts).replace("\N{NO-BREAK SPACE}", " ").split()))
        for tag, attributes, texts in page.elements
        if tag == "tr" and "data-remedy" in attributes
    ]


def test_a_run_without_remedies_has_no_such_section(start: Start, fill: Fill) -> None:
    record = start()
    fill(record)
    page = Page(write_report(record.folder))
    assert page.texts("h2") == SECTIONS
    assert page.data("record-summary")["remedies"] == []


def test_the_section_has_a_row_for_every_remedy_that_held(record: RunRecord) -> None:
    page = Page(write_report(record.folder))
    assert page.texts("h2") == [*SECTIONS[:4], "Remedies", *SECTIONS[4:]]
    names = [name for name, _ in rows(page)]
    assert names == ["init", "layer_norm", "zoneout", "connect", "clip", "penalty", "clip"]
    asked = [one["asked"] for one in page.data("record-summary")["remedies"]]
    assert asked == ["chrono:784", "yes", "0.1", "dense", "norm:1", "omega:2", "step:10"]


def test_what_changes_the_network_shows_the_profile_without_it_and_with_it(record: RunRecord) -> None:
    shown = dict(rows(Page(write_report(record.folder)))[:4])
    without, with_it = profile(-0.2, 0.5), profile(-0.05, 0.5)
    for text in shown.values():
        assert f"Layer 1: {without['reach']} → {with_it['reach']}" in text
        assert f"Layer 2: {without['reach']} → {with_it['reach']}" in text
        assert "−0.200 → −0.0500" in text
    assert "chrono:784" in shown["init"]
    assert "once, at the start" in shown["init"]
    assert "in every training step" in shown["zoneout"]
    assert "in training and in use" in shown["layer_norm"]
    assert "yes" not in shown["layer_norm"]
    assert "gradient left at the first layer: 12.5 % → 2.50 ×" in shown["connect"]


def test_what_acts_in_training_shows_how_often_and_how_much(record: RunRecord) -> None:
    page = Page(write_report(record.folder))
    first, omega, second = [text for name, text in rows(page) if name in ("clip", "penalty")]
    assert "norm:1" in first
    assert "in 50 % of the training steps" in first, "1 and 3 of 4 each"
    assert "multiplied by 0.62 in the mean" in first, "(0.25 + 3 · 0.75) / 4 = 0.625"
    assert "−0.0500 → −0.0200" in first, "until the clip was changed"
    assert "step:10" in second
    assert "in 50 % of the training steps" in second
    assert "1 % of the adjoints" in second
    assert "multiplied" not in second
    assert "−0.0200 → —" in second, "nothing was measured while it held"
    assert "omega:2" in omega
    assert f"in {100 * 5 / 11:.1f} % of the training steps" in omega, "3 and 2 of all"
    assert "value 4.00 → 2.00" in omega
    assert "spread of the log ratios 0.500 → 0.375" in omega
    assert "−0.0500 → −0.0100" in omega
    summary = page.data("record-summary")["remedies"]
    assert [one["share"] for one in summary[4:]] == [0.5, 5 / 11, 0.5]
    assert summary[4]["factor"] == pytest.approx(0.625)


def test_one_layer_is_not_named(start: Start) -> None:
    record = start()
    record.append("remedy", 0, 0.0, name="clip", asked="norm:1", profiles=profiles(-0.05, ("l0",)), without=None)
    ((_, text),) = rows(Page(write_report(record.folder)))
    assert "Layer" not in text
    assert "not recorded" in text


def test_junk_in_a_remedy_never_stops_the_report(record: RunRecord) -> None:
    lines = [json.loads(line) for line in (record.folder / RECORDS).read_text().splitlines()]
    spoilt = []
    for at, junk in enumerate(JUNK):
        for line in lines:
            spoilt += [{**line, key: junk} for key in set(line) - {"kind"} if (at + len(key)) % 3 == 0]
        spoilt += [{"kind": "remedy", "step": 1}, {"kind": "remedy", "step": 1, "name": "clip", "asked": junk}]
    (record.folder / RECORDS).write_text("".join(json.dumps(line) + "\n" for line in [*lines, *spoilt]))
    assert len(rows(Page(write_report(record.folder)))) > len(JUNK)


def hostile_line(record: RunRecord) -> None:
    named = {MARKUP: profile(-0.1, 0.5), "l0": profile(-0.1, 0.5), "x" * 200: profile(-0.1, 0.5)}
    for name in ("init", "clip", MARKUP):
        record.append("remedy", 0, 0.0, name=name, asked=MARKUP, profiles=named, without=named)


def test_hostile_text_in_a_remedy_stays_text(start: Start) -> None:
    record = start()
    hostile_line(record)
    page = Page(write_report(record.folder))
    assert not {tag for tag, _, _ in page.elements} & {"img", "iframe"}
    assert all((one["href"] or "").startswith(("#", "data:image/png;base64,")) for one in page.having("href"))
    assert len(page.texts("script")) == 3, "two of data, one that acts"
    assert all("<img src=x" in text for _, text in rows(page))


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("more", [fill_remedies, hostile_line])
def test_opens_cleanly(
    browser: Any, start: Start, width: int, scheme: str, more: Callable[[RunRecord], None]
) -> None:
    record = start()
    more(record)
    with opened(browser, write_report(record.folder), width=width, scheme=scheme) as page:
        assert_no_overflow(page)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
        wide = page.evaluate(
            "[...document.querySelectorAll('.done td, .done th')].filter((cell) =>"
            " cell.scrollWidth > cell.clientWidth + 1).length"
        )
        assert wide == 0, "nothing runs out of its cell"
