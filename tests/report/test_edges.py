"""Whatever state a record is in, the report is written and says plainly what is missing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from unvanish.record import RunRecord
from unvanish.report import write_report

from .reading import JUNK, SECTIONS, Page

Start = Callable[..., RunRecord]
Fill = Callable[[RunRecord], None]


def shown(record: RunRecord) -> tuple[Page, str]:
    page = Page(write_report(record.folder))
    assert page.texts("h2") == SECTIONS
    return page, "".join(page.texts("main"))


def test_an_empty_record(start: Start) -> None:
    page, text = shown(start({}))
    assert page.data("record-summary")["missing"] == ["training loss", "validation", "gradient along time"]
    assert page.data("pictures") == {}
    for words in ("No loss has been recorded", "not been measured yet", "No events", "No text has been generated"):
        assert words in text


def test_a_run_without_flow(start: Start, fill: Fill) -> None:
    record = start()
    fill(record)
    kept = [line for line in record.read() if line["kind"] != "flow"]
    for line in kept:
        line.pop("reach", None)
    (record.folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    page, text = shown(record)
    assert page.data("record-summary")["missing"] == ["gradient along time"]
    assert page.reaches() == {}
    assert "The gradient along time has not been measured yet." in text
    assert "Missing from the record: gradient along time." in text


def test_an_unfinished_run_with_a_single_step(start: Start) -> None:
    record = start()
    record.append("event", 0, 0.0, what="started", text="")
    record.append("step", 1, 0.1, loss=4.2, gradient_norm=0.5, parameter_norm=30.0, clipped=0, steps=1)
    page, text = shown(record)
    assert page.data("record-summary")["status"] == "unfinished"
    assert "This run has not finished" in text
    assert "After 1 steps" not in text
    assert "Clipping never acted." in text
    assert [view["data"][0]["mode"] for (view,) in page.data("pictures").values()] == ["markers"] * 3


def test_a_run_that_stopped_being_finite(start: Start, fill: Fill) -> None:
    record = start()
    fill(record)
    record.append("step", 1210, 230.0, loss=float("nan"), gradient_norm=float("inf"), parameter_norm=51.0)
    record.append("event", 1210, 230.0, what="non-finite", text="the loss of batch 1,210 is nan")
    page, text = shown(record)
    assert page.data("record-summary")["status"] == "non-finite"
    assert "A number stopped being finite at training step 1,210" in text
    assert "the loss of batch 1,210 is nan" in text


def test_nulls_everywhere(start: Start, fill: Fill) -> None:
    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: emptied(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [emptied(inner) for inner in value]
        return None if isinstance(value, int | float) else value

    record = start()
    fill(record)
    lines = [{"kind": line["kind"], "step": line["step"], **emptied(_body(line))} for line in record.read()]
    (record.folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page, text = shown(record)
    assert page.reaches() == {"l0": ("", "false"), "l1": ("", "false")}
    assert page.data("record-summary")["missing"] == ["training loss", "validation", "gradient along time"]
    assert "could not be measured" in text
    assert "nan" not in text.lower().replace("unvanish", "")


def _body(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in {"kind", "step"}}


def test_zeros_and_explosions_fit_on_the_axes(start: Start) -> None:
    record = start()
    lags = list(range(5))
    for step, norms in ((1, [1.0, 1e-200, 0.0, 0.0, 0.0]), (2, [1.0, 1e9, 1e40, 1e90, 1e300])):
        profile = {
            "lags": lags,
            "norms": {"all": norms, "h": [0.0] * 5},
            "rate": 2.0,
            "reach": 1,
            "censored": False,
        }
        record.append("flow", step, 0.1, profiles={"l0": profile}, loss_norms={"l0": {"h": [0.0] * 5}})
    page, _ = shown(record)
    heats, profiles = list(page.data("pictures").values())[-2:]
    assert heats[0]["data"][0]["z"][0] == [0.0, -20.0, -20.0, -20.0, -20.0]
    assert (heats[0]["data"][0]["zmin"], heats[0]["data"][0]["zmax"]) == (-6, 6)
    first = next(trace for trace in profiles[0]["data"] if trace["name"] == "training step 1")
    assert first["y"] == [1.0, 1e-200, None, None, None]
    assert profiles[0]["layout"]["yaxis"]["range"] == [-6.15, 6.15]


def test_hostile_text_stays_text(start: Start, hostile: dict[str, Any], fill_hostile: Fill) -> None:
    record = start(hostile)
    fill_hostile(record)
    page, text = shown(record)
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"img", "iframe", "object", "embed", "form", "base"}
    assert all((one["href"] or "").startswith(("#", "data:image/png;base64,")) for one in page.having("href"))
    assert len(page.texts("script")) == 3
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    assert "<img src=x onerror=" in text, "the text itself must still be readable"
    assert page.data("record-summary")["name"] == hostile["name"]


def test_characters_that_html_forbids(start: Start) -> None:
    record = start()
    line = {"kind": "sample", "step": 1, "seconds": 1, "prompt": "\x00", "text": "\ud800 \x1b[31m \u2028 ok"}
    (record.folder / "records.jsonl").write_text(json.dumps(line) + "\n")
    _, text = shown(record)
    assert "ok" in text
    assert not set("\x00\x1b") & set(text)


@pytest.mark.parametrize("seed", range(24))
def test_junk_anywhere_never_stops_the_report(
    start: Start, fill: Fill, configured: dict[str, Any], seed: int
) -> None:
    generator = random.Random(seed)

    def spoilt(value: Any) -> Any:
        if generator.random() < 0.04:
            return generator.choice(JUNK)
        if isinstance(value, dict):
            return {key: spoilt(inner) for key, inner in value.items()}
        if isinstance(value, list) and len(value) > 12:
            return value if generator.random() < 0.7 else [*value[:9], generator.choice(JUNK), *value[9:40]]
        return [spoilt(inner) for inner in value] if isinstance(value, list) else value

    record = start()
    fill(record)
    lines = [spoilt_line(line, spoilt) for line in record.read()]
    (record.folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = spoilt(configured)
    (record.folder / "config.yaml").write_text(json.dumps(config if isinstance(config, dict) else {}))
    shown(record)


def spoilt_line(line: dict[str, Any], spoilt: Callable[[Any], Any]) -> dict[str, Any]:
    """Spoil the values of a line, never the line itself."""
    return {key: value if key == "kind" else spoilt(value) for key, value in line.items()}
