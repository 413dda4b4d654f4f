"""The title of a run's report is what the run came to, whatever of it is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from unvanish.record import RunRecord
from unvanish.report import write_report

from .browsing import LARGEST
from .conftest import fill_record, profile, step_line, valid_line
from .reading import Page

Start = Callable[..., RunRecord]
NAIVE = {
    "text": {"frequencies": {"loss": 3.3}, "frequencies after the last symbol": {"loss": 2.61}},
    "class": {"always the commonest class": {"loss": 2.0, "accuracy": 0.25}},
    "number": {"always the mean": {"rmse": 3.0}},
    "forecast": {"the value 7 steps before": {"mae": 1.5, "mase": 1.0}},
    "agreement": {"guessing": {"accuracy": 0.5}, "agreeing with the latest noun": {"accuracy": 0.6}},
}
OWN = {
    "text": {"loss": 1.45, "bits": 2.09, "perplexity": 4.26},
    "class": {"loss": 0.3, "accuracy": 0.951, "f1": 0.9},
    "number": {"loss": 0.2, "rmse": 1.25, "r2": 0.8},
    "forecast": {"loss": 0.4, "mae": 2.0, "mase": 1.3},
    "agreement": {"loss": 0.7, "accuracy": 0.98},
}
SAID = {
    "text": "1.45 nats per character against 2.61 for bigrams",
    "class": "95.1 % of the sequences right against 25 % for the commonest class",
    "number": "1.25 off (root mean square) against 3.00 for the mean",
    "forecast": "forecasts 2.00 off in the mean against 1.50 for the value 7 steps before, which is better",
    "agreement": "98 % of the verbs right against 60 % for agreeing with the latest noun",
}


def asked(configured: dict[str, Any], kind: str, length: int) -> dict[str, Any]:
    """A configuration of each kind of task."""
    question = {
        "class": {"kind": "labels", "asked": "class", "per": "sequence"},
        "number": {"kind": "labels", "asked": "number", "per": "sequence"},
        "forecast": {"kind": "forecast"},
    }.get(kind)
    settings = configured["settings"] | {"length": length, "task": "agreement" if kind == "agreement" else None}
    return configured | {"settings": settings, "data": configured["data"] | {"question": question}}


def finished(
    record: RunRecord, kind: str, reach: dict[str, tuple[int, bool]], need: int | None, least: bool
) -> Page:
    reaches = {part: {"steps": at, "censored": open_, "rate": -0.1} for part, (at, open_) in reach.items()}
    metrics = OWN[kind]
    record.append("valid", 100, 9.0, loss=metrics["loss"], metrics=metrics, reach=reaches)
    for name, found in NAIVE[kind].items():
        record.append("baseline", 0, 0.0, name=name, on="valid", metrics=found)
    if need is not None:
        record.append("need", 0, 0.0, lag=need, censored=least, of=100)
    record.append("event", 100, 9.0, what="finished", text="")
    return Page(write_report(record.folder))


def plain(words: str) -> str:
    return words.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("kind", SAID)
def test_every_kind_of_task_is_told_beside_the_best_naive_answer(
    start: Start, configured: dict[str, Any], kind: str
) -> None:
    page = finished(start(asked(configured, kind, 50)), kind, {"l0": (126, False), "l1": (8, False)}, 9, least=True)
    (title,) = page.texts("h1")
    assert (
        plain(title) == f"Layer 1 reaches 126 steps, the data need at least 9; windows of 50 cut it; {SAID[kind]}"
    )
    assert page.texts("title")[0].startswith(plain(title))
    assert page.texts("title")[0].endswith(" · plays-lstm-256 · unvanish")
    assert "plays-lstm-256" in page.texts("p")[0], "the name stands over the title"


@pytest.mark.parametrize(
    ("reach", "need", "window", "said"),
    [
        ({"l0": (126, False)}, None, 50, "The gradient reaches 126 steps; windows of 50 cut it"),
        ({"l0": (126, False)}, None, 500, "The gradient reaches 126 steps"),
        ({"l0": (1, False)}, 0, 50, "The gradient reaches 1 step; the data show no need of context"),
        ({"l0": (12, False), "l1": (9, False)}, 16, 28, "Layer 1 reaches 12 steps of the 16 that the data need"),
        ({"l0": (42, True), "l1": (42, True)}, 40, 43, "Every layer reaches at least 42 steps, the data need 40"),
        (
            {"l0": (9, False), "l1": (199, True)},
            150,
            100,
            "Layer 2 reaches at least 199 steps; windows of 100 cut it short of the 150 that the data need",
        ),
        (
            {"l0": (99, True)},
            300,
            500,
            "The gradient reaches at least 99 steps; the data need 300, and it was measured no further",
        ),
    ],
)
def test_reach_need_and_window_are_told_and_nothing_on_the_page_gainsays_them(
    start: Start, configured: dict[str, Any], reach: dict[str, Any], need: int | None, window: int, said: str
) -> None:
    page = finished(start(asked(configured, "text", window)), "text", reach, need, least=False)
    assert plain(page.texts("h1")[0]) == f"{said}; {SAID['text']}"
    best = max(reach, key=lambda part: reach[part][0])
    told = page.data("record-summary")["held_back"][best]
    (lede,) = [plain(texts) for texts in page.texts("p") if texts.startswith("After 100")]
    if need == 0:
        assert "in the time step at hand" in lede
        return
    for word, sign in (("far enough", "comes as far"), ("lost on the way", "is lost on the way")):
        assert (told == word) == (sign in lede)
    assert (told == "cut by the window") == ("cut it short" in said)
    assert (told == "not measured as far") == ("no further" in said)
    if need:
        bars = {trace["name"]: trace["text"][0] for trace in page.data("pictures")["picture-0"][0]["data"]}
        assert bars["needed by the data"] == str(need)
        assert bars["window of training"] == str(window)
        names = ["reach"] if len(reach) == 1 else [f"reach of layer {at}" for at in (1, 2)]
        assert [bars[name] for name in names] == [f"{'≥ ' * more}{at}" for at, more in reach.values()]


def test_a_run_that_is_not_finished_says_so_first(start: Start) -> None:
    record = start()
    assert Page(write_report(record.folder)).texts("h1") == ["Nothing has been recorded yet"]
    record.append("step", 1, 0.1, loss=4.2, gradient_norm=0.5, parameter_norm=30.0, clipped=0, steps=1)
    assert Page(write_report(record.folder)).texts("h1") == ["Unfinished after 1 training step"]
    record.append("valid", 840, 9.0, **valid_line(3, {"l0": {"steps": None, "censored": False, "rate": None}}))
    (title,) = Page(write_report(record.folder)).texts("h1")
    assert title.startswith(
        "Unfinished after 840 training steps: how far the gradient reaches was not measured; 1."
    )
    record.append("event", 840, 9.0, what="stopped", text="")
    assert Page(write_report(record.folder)).texts("h1")[0].startswith("Stopped after 840 training steps: ")
    record.append("event", 841, 9.0, what="non-finite", text="")
    (title,) = Page(write_report(record.folder)).texts("h1")
    assert title.startswith("Failed after 840 training steps, where a number stopped being finite: ")


def test_a_long_run_of_many_layers_and_states_is_small_and_says_what_was_thinned(
    start: Start, configured: dict[str, Any]
) -> None:
    """Sixty validations, three layers, four states, noise at every lag."""
    generator, record = random.Random(1), start(configured)
    for at in range(2000):
        record.append("step", 10 * at + 10, 1.0 * at, **step_line(at, generator))
    for moment in range(60):
        profiles = {}
        for layer in range(3):
            one = profile(-0.05, 0.4)
            lags = range(1000)
            one["lags"] = list(lags)
            norms = {
                state: [math.exp(-0.01 * (1 + at) * lag) * generator.uniform(0.8, 1.2) for lag in lags]
                for at, state in enumerate(("all", "h", "c", "m", "n"))
            }
            profiles[f"l{layer}"] = one | {"norms": norms}
        norms = {part: {state: [generator.random()] * 1000 for state in "hcmn"} for part in profiles}
        record.append("flow", 20 * moment + 20, 1.0, profiles=profiles, loss_norms=norms)
        record.append("valid", 20 * moment + 20, 1.0, **valid_line(moment, {}))
    path = write_report(record.folder)
    assert path.stat().st_size < LARGEST
    captions = [plain(caption) for caption in Page(path).texts("figcaption")]
    assert sum("the least and the greatest of each stretch are drawn" in caption for caption in captions) == 9
    assert sum("36 of 60 moments and 80 of 1,000 steps back" in caption for caption in captions) == 3


def test_what_was_chosen_stands_before_what_was_left_as_usual(start: Start, configured: dict[str, Any]) -> None:
    config = configured | {"chosen": ["hidden", "clip"]}
    record = start(config)
    fill_record(record)
    page = Page(write_report(record.folder))
    (folded,) = [texts for texts in page.texts("details") if texts.startswith("Settings as usual")]
    for name, shown in (("hidden256", True), ("clipping1", True), ("learning rate0.002", False)):
        assert (name not in folded) == shown
        assert name in "".join(page.texts("main"))
    assert json.dumps(config["settings"]["batch_size"]) in folded
