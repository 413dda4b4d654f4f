"""The page of a diagnosis says what was found, in order, and plainly what was not."""

from __future__ import annotations

import copy
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import unvanish
from tests.support.whole import usual, whole_only
from unvanish.errors import OptionError
from unvanish.report import write_diagnosis

from .browsing import (
    BACKGROUNDS,
    assert_no_overflow,
    assert_pictures_fill_their_places,
    needs_chromium,
    opened,
    wait,
)
from .conftest import MARKUP
from .diagnosed import CODE, LAGS, NEED, part
from .reading import Page

Found = dict[str, Any]
Picture = dict[str, Any]
SECTIONS = [
    "What is needed, and how far the gradient reaches",
    "Why",
    "What helps",
    "What the data need",
    "Layer by layer",
    "What is not known",
]
PART_PICTURES = [
    "Gradient left",
    "Spectrum of one step",
    "Lyapunov exponents",
    "What the rate is made of",
    "Saturation",
    "Memory",
    "Pull of the loss on each time step",
]
JUNK: list[Any] = [
    *(None, True, "text", "", [], {}, -1, 0, 1e308, -1e308, 5e-324, 10**400, 10**5000, [None], {"l0": None}, [[1]]),
    *(float("nan"), float("inf"), [1, "2"], (3,), b"bytes", [[1e308, 1e308]], 0.5, [0] * 3),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Page]:
    return lambda found: Page(write_diagnosis(found, tmp_path / "diagnosis.html"))


def words(page: Page, tag: str = "main") -> str:
    return "".join(page.texts(tag)).replace("\N{NO-BREAK SPACE}", " ")


def overview(page: Page) -> Picture:
    picture: Picture = page.data("pictures")["picture-0"][0]
    return picture


def of_part(page: Page, title: str, at: int = 0) -> Picture:
    """The picture of one layer that stands under a title; every layer of the page has all of them."""
    number = 1 + at * len(PART_PICTURES) + PART_PICTURES.index(title)
    picture: Picture = page.data("pictures")[f"picture-{number}"][0]
    return picture


def lines_at(picture: Picture, place: float) -> list[Picture]:
    return [shape for shape in picture["layout"]["shapes"] if shape["x0"] == place == shape["x1"]]


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in a diagnosis; of a long list to its first two entries."""
    if way:
        yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from leaves(one, (*way, key))


def put(found: Found, way: tuple[Any, ...], value: Any) -> Found:
    changed = copy.deepcopy(found)
    at: Any = changed
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = value
    return changed


# -- the file ----------------------------------------------------------------------------------------------------


def test_remedy_that_could_not_be_tried_is_shown_with_its_reason(
    found: dict[str, Any], write: Callable[[Any], Page]
) -> None:
    untried = {"name": "lstm", "part": "rnn.l0", "text": "an LSTM", "code": "", "reason": "TypeError: <b>no</b>"}
    held = {**found, "untried": [untried, "not a mapping"]}
    for shown in (held, {**held, "prescriptions": []}):
        told = words(write(shown))
        assert "could not be tried on a copy of the model:lstm on rnn.l0: TypeError: <b>no</b>" in told
    assert "could not be tried" not in words(write(found))


def test_remedy_for_several_parts_is_one_row_with_a_line_for_each_part(
    found: dict[str, Any], write: Callable[[Any], Page]
) -> None:
    chrono = found["prescriptions"][0]
    other = {**chrono, "part": "rnn.l1", "reach_before": 22}
    untried = [
        {"name": "lstm", "part": f"rnn.l{at}", "text": "an LSTM", "code": "", "reason": "no"} for at in (0, 1)
    ]
    page = write({**found, "prescriptions": [chrono, other, found["prescriptions"][1]], "untried": untried})
    assert [one["data-remedy"] for one in page.having("data-remedy")] == ["chrono", "orthogonal"]
    assert len(page.texts("pre")) == 2
    told = words(page)
    assert "rnn.l09 → ≥ 119healthy" in told
    assert "rnn.l122 → ≥ 119healthy" in told
    assert told.count("lstm on rnn.l0, rnn.l1: no") == 1


def test_writes_one_file_and_makes_its_folder(found: Found, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "found.html"
    assert write_diagnosis(found, path) == path
    assert [one.name for one in path.parent.iterdir()] == ["found.html"]
    with pytest.raises(OptionError, match="is a folder"):
        write_diagnosis(found, tmp_path)


def test_sections_stand_in_order_and_every_picture_has_its_sentence(
    write: Callable[[Any], Page], found: Found
) -> None:
    page = write(found)
    assert page.texts("h2") == SECTIONS
    assert len(page.texts("figure")) == len(page.data("pictures")) == 2 + 2 * len(PART_PICTURES)
    captions = page.texts("figcaption")
    assert len(captions) == len(page.texts("figure"))
    assert all(caption.rstrip().endswith(".") for caption in captions)
    assert not page.having("src")
    assert all((one["href"] or "").startswith(("#", "data:image/png;base64,")) for one in page.having("href"))


# -- the head ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        ("vanishing", "Vanishing: the gradient reaches 23 steps, 48 are needed"),
        ("healthy", "Healthy: the gradient reaches 23 steps, 48 are needed"),
        ("exploding", "Exploding: the gradient grows on its way back within 48 steps"),
        ("dead", "Dead: no gradient comes back through time"),
        ("non-finite", "Not finite: some values became NaN or Inf"),
        ("puzzling", "No known verdict: puzzling"),
        (None, "No known verdict"),
    ],
)
def test_the_verdict_is_the_headline(
    write: Callable[[Any], Page], found: Found, verdict: str | None, headline: str
) -> None:
    page = write({**found, "verdict": verdict})
    assert page.texts("h1") == [headline]
    assert page.data("diagnosis-summary")["verdict"] == (verdict or "")


@pytest.mark.parametrize(
    ("measured", "title", "sentence", "caption"),
    [
        (
            "random directions",
            "Vanishing: the gradient reaches 23 steps, 48 are needed",
            "needs a gradient to come 48 steps back (measured in the data). Of a gradient that starts in random",
            "It is a gradient that starts in random directions of the layer's last state",
        ),
        (
            "the loss",
            "Vanishing: the gradient of the loss reaches 23 steps, 48 are needed",
            "needs the gradient of its loss to come 48 steps back (measured in the data). Of the gradient of",
            "It is the gradient of the loss by the steps of the input",
        ),
    ],
)
def test_title_sentence_and_captions_say_which_gradient_was_measured(
    write: Callable[[Any], Page], found: Found, measured: str, title: str, sentence: str, caption: str
) -> None:
    for one in found["parts"]:
        one["measured"] = measured
    page = write(found)
    assert page.texts("h1") == [title]
    assert sentence in words(page, "header")
    assert words(page).count(caption) == 3, "of the whole and of two parts"
    assert ("gradient of its loss" in words(page, "header")) == (measured == "the loss")
    found["verdict"] = "exploding"
    assert page.texts("h1")[0].split(": ")[1].split(" reaches")[0] in write(found).texts("h1")[0]


def test_an_explosion_says_how_much(write: Callable[[Any], Page], found: Found) -> None:
    found["verdict"] = "exploding"
    found["parts"][1]["profile"]["norms"]["all"] = [math.exp(0.3 * lag) for lag in range(LAGS)]
    page = write(found)
    assert page.texts("h1") == ["Exploding: the gradient grows 1.8 × 10⁶-fold within 48 steps"]
    assert math.exp(0.3 * NEED) == pytest.approx(1.8e6, rel=0.01)


def test_the_head_holds_loss_need_and_reaches(write: Callable[[Any], Page], found: Found) -> None:
    page = write(found)
    head = words(page, "header")
    for said in ("1.38", "48", "measured in the data", "models.language:build", "torch.nn.LSTM"):
        assert said in head
    assert page.reaches() == {"rnn.l0": ("9", "false"), "rnn.l1": ("23", "false")}
    assert page.data("diagnosis-summary")["loss"] == 1.375


def test_a_cut_gradient_reaches_no_further_than_its_window(write: Callable[[Any], Page], found: Found) -> None:
    found["parts"][1]["window"] = 5
    page = write(found)
    assert page.reaches()["rnn.l1"] == ("5", "false")
    assert page.texts("h1") == ["Vanishing: the gradient reaches 9 steps, 48 are needed"]
    assert "The gradient is cut after 5 steps." in words(page)
    drawn = {trace["name"]: trace for trace in overview(page)["data"]}
    solid = drawn["rnn.l1: reach 5"]
    assert [lag for lag, share in zip(solid["x"], solid["y"], strict=True) if share is not None] == [1, 2, 3, 4, 5]


def test_a_lower_bound_is_called_one(write: Callable[[Any], Page], found: Found) -> None:
    found["parts"][0]["profile"].update(reach=119, censored=True)
    page = write(found)
    assert page.texts("h1") == ["Vanishing: the gradient reaches at least 119 steps, 48 are needed"]
    assert "still above 1 % at the far end" in words(page, "header")
    assert page.reaches()["rnn.l0"] == ("119", "true")


# -- the picture -------------------------------------------------------------------------------------------------


def test_overview_holds_gradient_and_data_on_one_axis(write: Callable[[Any], Page], found: Found) -> None:
    picture = overview(write(found))
    layout, drawn = picture["layout"], {trace["name"]: trace for trace in picture["data"]}
    for one, reach in zip(found["parts"], (9, 23), strict=True):
        curve = drawn[f"{one['name']}: reach {reach}"]
        norms = one["profile"]["norms"]["all"]
        assert curve.get("yaxis", "y") == "y"
        assert curve["x"][0] == 1, "there is no lag 0 on a log axis"
        assert curve["y"] == pytest.approx([norms[int(lag)] / norms[0] for lag in curve["x"]], rel=1e-4)
        (line,) = lines_at(picture, reach)
        assert line["line"]["color"] == curve["line"]["color"]
    data = found["dependency"]
    strongest = max(data["values"])
    sure, chance = drawn["dependency in the data"], drawn["chance alone"]
    assert sure["yaxis"] == chance["yaxis"] == "y2"
    known = {lag: share for lag, share in zip(sure["x"], sure["y"], strict=True) if share is not None}
    assert known == pytest.approx({lag: data["values"][int(lag) - 1] / strongest for lag in known}, rel=1e-4)
    assert max(known) == NEED, "only significant lags are marked"
    assert chance["y"] == pytest.approx([0.01 / strongest] * len(chance["y"]), rel=1e-4)
    assert layout["yaxis2"]["domain"][0] > layout["yaxis"]["domain"][1]
    assert {shape.get("yref") for shape in layout["shapes"] if shape["y0"] == 0.01} == {"y", "y2"}


def test_the_needed_lag_is_a_line_through_everything(write: Callable[[Any], Page], found: Found) -> None:
    for need in (1, NEED, 5000):
        picture = overview(write({**found, "need": need}))
        (line,) = lines_at(picture, need)
        assert (line["yref"], line["y0"], line["y1"]) == ("paper", 0, 1)
        (label,) = picture["layout"]["annotations"]
        assert label["text"] == f"needed {need:,}"
        assert label["x"] == pytest.approx(math.log10(need)), "a text on a log axis stands at an exponent"
        low, high = picture["layout"]["xaxis"]["range"]
        assert low <= math.log10(need) <= high


@pytest.mark.parametrize("data", [None, {}, {"lags": [1, 2], "values": [0.0, -1.0]}])
def test_without_data_the_profiles_stand_alone(write: Callable[[Any], Page], found: Found, data: Any) -> None:
    found["dependency"] = data
    page = write(found)
    picture = overview(page)
    assert "yaxis2" not in picture["layout"]
    assert [trace["name"] for trace in picture["data"]] == ["rnn.l0: reach 9", "rnn.l1: reach 23"]
    assert lines_at(picture, NEED)
    said = "No data were given" if data is None else "no dependence on earlier steps was found"
    assert said in words(page)


def test_data_that_need_more_than_was_measured_are_said_to(write: Callable[[Any], Page], found: Found) -> None:
    found["dependency"]["censored"] = True
    assert "what they need may lie further back" in words(write(found))


def test_both_lags_of_the_data_and_the_gain_are_shown(write: Callable[[Any], Page], found: Found) -> None:
    found["dependency"] |= {
        "needed": 5,
        "visible": 48,
        "visible_censored": True,
        "note": "only pairs were looked at",
    }
    found["need"] = 5
    page = write(found)
    said = words(page)
    assert "The context that predicts the data as well as any is 5 steps long." in said
    assert "dependence is visible at least 48 steps back" in said
    assert "Only pairs were looked at." in said
    *_, (picture,) = page.data("pictures").values()
    curve = found["dependency"]["curve"]
    drawn = {trace["name"]: trace for trace in picture["data"]}
    assert drawn["gain"]["x"] == curve["lags"]
    assert drawn["gain"]["y"] == pytest.approx(curve["gain"], rel=1e-3)
    assert lines_at(picture, 5)


def test_need_of_data_that_may_need_more_is_at_least_that(write: Callable[[Any], Page], found: Found) -> None:
    found["dependency"]["censored"] = True
    page = write(found)
    assert page.texts("h1") == ["Vanishing: the gradient reaches 23 steps, at least 48 are needed"]
    assert "to come at least 48 steps back" in words(page)
    assert "at least 48 are needed" not in write({**found, "need_from": "given"}).texts("h1")[0]


def test_without_profiles_the_data_stand_alone(write: Callable[[Any], Page], found: Found) -> None:
    for one in found["parts"]:
        one["profile"] = None
    page = write(found)
    picture = overview(page)
    assert [trace["name"] for trace in picture["data"]] == [
        "chance alone",
        "dependency in the data",
        "not significant",
    ]
    assert "yaxis2" not in picture["layout"]
    assert "No gradient along time could be measured." in words(page)


# -- causes and remedies -----------------------------------------------------------------------------------------


def test_causes_stand_in_order_with_their_numbers(write: Callable[[Any], Page], found: Found) -> None:
    page = write(found)
    assert [(one["data-kind"], one["data-number"]) for one in page.having("data-kind")] == [
        ("forgetting", "2.5"),
        ("saturation", "0.34"),
    ]
    first, second = (text.replace("\N{NO-BREAK SPACE}", " ") for text in page.texts("li")[len(SECTIONS) :][:2])
    assert "2.50" in first
    assert "The gate f of rnn.l0 keeps 0.6 of the state c in a step." in first
    assert "→ Begin with biases that hold the gate open." in first
    assert "34 %" in second
    assert "rnn.l1 is flat in places." in second, "a name keeps its small letter"


def test_remedies_stand_in_order_with_reach_verdict_cost_and_code(
    write: Callable[[Any], Page], found: Found
) -> None:
    page = write(found)
    assert [one["data-remedy"] for one in page.having("data-remedy")] == ["chrono", "orthogonal"]
    rows = [row for row in page.texts("tr") if "→" in row]
    for row, parts in zip(
        rows, (("9 → ≥ 119", "healthy", "1.0 ×"), ("9 → 23", "vanishing", "1.5 × (1.2–1.8)")), strict=True
    ):
        for said in parts:
            assert said in row
    assert [code.strip("\n") for code in page.texts("pre")] == [CODE, CODE]
    assert len(page.texts("details")) == 2
    assert "reach (48 needed)" in page.texts("th")


def test_nothing_to_mend_is_said(write: Callable[[Any], Page], found: Found) -> None:
    ill = words(write({**found, "causes": [], "prescriptions": []}))
    assert "No cause was found." in ill
    assert "No remedy was tried, or none of those tried helped." in ill
    well = words(write({**found, "verdict": "healthy", "causes": [], "prescriptions": []}))
    assert "Nothing was found that stands in the way." in well
    assert "No remedy is needed." in well


# -- layer by layer ----------------------------------------------------------------------------------------------


def test_profile_of_a_part(write: Callable[[Any], Page], found: Found) -> None:
    given = copy.deepcopy(found["parts"][1]["profile"]["norms"])
    found["parts"][1]["profile"]["norms"] = {state: [4 * norm for norm in norms] for state, norms in given.items()}
    picture = of_part(write(found), "Gradient left", 1)
    drawn = {trace["name"]: trace for trace in picture["data"]}
    assert list(drawn) == ["full state", "h", "c", "fitted rate"]
    assert drawn["full state"]["y"] == pytest.approx(given["all"], rel=1e-4)
    assert drawn["c"]["y"] == pytest.approx(given["c"], rel=1e-4), "states are shares of the whole"
    assert lines_at(picture, 23)
    assert lines_at(picture, NEED)


def test_spectrum_of_a_part(write: Callable[[Any], Page], found: Found) -> None:
    picture = of_part(write(found), "Spectrum of one step")
    (points,) = picture["data"]
    values = found["parts"][0]["eigenvalues"]
    assert points["x"] == pytest.approx([real for real, _ in values], rel=1e-4)
    assert points["y"] == pytest.approx([imaginary for _, imaginary in values], rel=1e-4)
    assert picture["layout"]["yaxis"]["scaleanchor"] == "x"
    (circle,) = picture["layout"]["shapes"]
    assert [circle[side] for side in ("type", "x0", "x1", "y0", "y1")] == ["circle", -1, 1, -1, 1]


def test_exponents_of_a_part(write: Callable[[Any], Page], found: Found) -> None:
    found["parts"][0]["exponents"] = [-0.9, 0.02, -0.1, -0.4]
    below, above = of_part(write(found), "Lyapunov exponents")["data"]
    assert (above["x"], above["y"]) == ([1], [0.02])
    assert (below["x"], below["y"]) == ([2, 3, 4], [-0.1, -0.4, -0.9])
    assert above["marker"] != below["marker"]


def test_saturation_and_memories_of_a_part(write: Callable[[Any], Page], found: Found) -> None:
    page = write(found)
    slope, saturated = of_part(page, "Saturation")["data"]
    assert slope["y"] == saturated["y"] == ["f", "tanh(c[t])"]
    assert (slope["x"], saturated["x"]) == ([0.75, 0.5], [0.25, 0.125])
    assert page.texts("tr").count("fsigmoid25 %75 %0.610".replace(" %", "\N{NO-BREAK SPACE}%")) == 2
    memory = of_part(page, "Memory")
    assert [trace["x"] for trace in memory["data"]] == [[2.5], [7.5]]
    assert lines_at(memory, NEED)
    assert page.texts("tr").count("cf60\N{NO-BREAK SPACE}%2.50 steps7.50 steps") == 2


def test_dead_units_and_memories_without_end(write: Callable[[Any], Page], found: Found) -> None:
    one = found["parts"][0]
    one["activations"][0] |= {"function": "relu", "dead": 0.4}
    one["memories"] = [{"state": "c", "gate": "", "keep": 1.0, "time_constant": None, "longest": None}]
    page = write(found)
    assert "dead units" in page.texts("th")
    assert "40\N{NO-BREAK SPACE}%" in page.texts("td")
    assert "no end" in page.texts("td")
    assert "their time constants have no end" in words(page)


def test_split_of_a_part_has_signs(write: Callable[[Any], Page], found: Found) -> None:
    found["parts"][0]["split"] = {"rate": -0.3, "weights": 0.2, "activations": -0.5}
    page = write(found)
    picture = of_part(page, "What the rate is made of")
    assert {trace["name"]: trace["x"] for trace in picture["data"]} == {
        "matrices": [0.2],
        "activations": [-0.5],
        "together": [-0.3],
    }
    assert [trace["text"] for trace in picture["data"]] == [["+0.200"], ["−0.500"], ["−0.300"]]
    low, high = picture["layout"]["xaxis"]["range"]
    assert low < -0.5 < 0.2 < high
    assert "in each step 74.1 % of the gradient is left" in words(page)


def test_pull_of_the_loss_on_a_part(write: Callable[[Any], Page], found: Found) -> None:
    picture = of_part(write(found), "Pull of the loss on each time step")
    assert [trace["name"] for trace in picture["data"]] == ["h", "c"]
    assert picture["data"][0]["y"] == pytest.approx(found["parts"][0]["loss_norms"]["h"], rel=1e-4)


@pytest.mark.parametrize(
    ("key", "empty", "sentence", "title"),
    [
        ("profile", {}, "Its gradient along time could not be measured.", "Gradient left"),
        ("eigenvalues", [], "the layer's state is too large", "Spectrum of one step"),
        ("exponents", [], "Its Lyapunov exponents were not measured.", "Lyapunov exponents"),
        (
            "split",
            {"rate": -0.5, "weights": None, "activations": None},
            "was not measured",
            "What the rate is made of",
        ),
        ("activations", [], "None of its activations was recognised", "Saturation"),
        ("memories", [], "remembers through its matrices alone", "Memory"),
        ("loss_norms", {}, "No gradient of the loss arrived here.", "Pull of the loss on each time step"),
    ],
)
def test_what_was_not_measured_gives_way_to_a_sentence(
    write: Callable[[Any], Page], found: Found, key: str, empty: Any, sentence: str, title: str
) -> None:
    full = write(found)
    assert full.texts("p").count(title) == 2
    assert sentence not in words(full)
    for absent in (empty, None):
        found["parts"][0][key] = absent
        page = write(found)
        assert sentence in words(page)
        assert page.texts("p").count(title) == 1, "the other layer still has its own"


def test_a_gradient_that_grew_is_told_as_a_multiple_in_the_table_of_parts(
    write: Callable[[Any], Page], found: Found
) -> None:
    found["parts"][0]["survives"], found["parts"][1]["survives"] = 56.2, 0.25
    first, second = (row for row in write(found).texts("tr") if "torch.nn.LSTM" in row)
    assert first.endswith("56.2 times what it was")
    assert second.endswith("25\N{NO-BREAK SPACE}%")


def test_many_parts_are_listed_and_some_drawn(write: Callable[[Any], Page], found: Found) -> None:
    rates = [-0.9 + 0.025 * at for at in range(30)]
    found["parts"] = [part(f"stack.l{at}", rate) for at, rate in enumerate(rates)]
    page = write(found)
    drawn = [trace["name"] for trace in overview(page)["data"] if "reach" in trace["name"]]
    assert len(drawn) == 6
    assert drawn[0].startswith("stack.l0:")
    assert drawn[-1].startswith("stack.l29:")
    assert "Drawn are 6 of 30 parts" in words(page)
    assert sum(row.startswith("stack.l") for row in page.texts("tr")) == 30
    assert len(page.texts("h3")) == 8
    assert "Pictures are shown for the first 8 of 30 parts." in words(page)


def test_what_is_not_known_is_listed(write: Callable[[Any], Page], found: Found) -> None:
    assert write(found).texts("li")[-2:] == found["unknown"]


# -- a dict that cannot be trusted -------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [{}, None, [], "text", {"parts": [{}]}, {"parts": 3, "causes": {}}], ids=str)
def test_poor_diagnoses_say_what_is_missing(write: Callable[[Any], Page], found: Any) -> None:
    page = write(found)
    assert page.texts("h2") == SECTIONS
    assert page.texts("h1") == ["No known verdict"]
    assert page.data("pictures") == {}
    for said in ("The gradient along time could not be measured.", "No cause was found.", "names nothing"):
        assert said in words(page)


def test_nulls_everywhere(write: Callable[[Any], Page], found: Found) -> None:
    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: emptied(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [emptied(inner) for inner in value]
        return None if isinstance(value, int | float) else value

    page = write(emptied(found))
    assert page.texts("h2") == SECTIONS
    assert page.reaches() == {"rnn.l0": ("", "false"), "rnn.l1": ("", "false")}
    assert page.data("pictures") == {}
    assert "no end" not in words(page), "what is not known is not without end"
    assert not re.search(r"\b([Nn]an|None(?! of)|[Nn]ull|inf)\b", words(page))


def test_junk_anywhere_leaves_a_page(write: Callable[[Any], Page], found: Found) -> None:
    generator = random.Random(3)
    ways = list(leaves(found))
    for _ in range(usual(12, 40)):
        changed = found
        for way in generator.sample(ways, 4):
            try:
                changed = put(changed, way, generator.choice(JUNK))
            except (KeyError, IndexError, TypeError):
                continue  # the way leads through junk by now
        assert write(changed).texts("h2") == SECTIONS


@pytest.mark.parametrize("size", [1e300, -1e300, sys.float_info.max, 5e-324, 1e-300, 0, -1])
def test_numbers_of_any_size_are_drawn_or_left_out(write: Callable[[Any], Page], found: Found, size: float) -> None:
    def resized(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resized(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [resized(inner) for inner in value]
        return size if isinstance(value, int | float) and not isinstance(value, bool) else value

    parts = [{**one, "profile": found["parts"][0]["profile"]} for one in resized(found["parts"])]
    for changed in (resized(found), {**found, "parts": parts}, {**found, "need": size}):
        page = write(changed)
        assert page.texts("h2") == SECTIONS
        json.dumps(page.data("pictures"), allow_nan=False)
    assert page.data("diagnosis-summary")["need"] is None, "no sequence is as long"
    assert not page.data("pictures")["picture-0"][0]["layout"]["annotations"]


@pytest.mark.parametrize("lags", [[0, 2, 1], [-1, 0, 1], [0, 1, 1e300], [0, None, 2]])
def test_a_profile_with_lags_that_cannot_be_is_left_out(
    write: Callable[[Any], Page], found: Found, lags: list[Any]
) -> None:
    found["parts"][0]["profile"]["lags"][:3] = lags
    page = write(found)
    assert "Its gradient along time could not be measured." in words(page)
    assert [trace["name"] for trace in overview(page)["data"] if "reach" in trace["name"]] == ["rnn.l1: reach 23"]


@whole_only
def test_every_value_may_be_junk(write: Callable[[Any], Page], found: Found) -> None:
    for at, way in enumerate(leaves(found)):
        changed = put(found, way, JUNK[at % len(JUNK)])
        assert write(changed).texts("h2") == SECTIONS, way


def hostile(found: Found) -> Found:
    """Every text of a diagnosis tries to be markup, and so does every name."""

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: poisoned(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poisoned(inner) for inner in value]
        return f"{value}{MARKUP}" if isinstance(value, str) else value

    made: Found = poisoned(found)
    for one in made["parts"]:
        for key in ("norms", "loss_norms"):
            held = one["profile"][key] if key == "norms" else one[key]
            held |= {"<b>bold</b>": held["h"], "__proto__": held["h"], MARKUP: held["h"]}
    return made


def test_hostile_text_stays_text(write: Callable[[Any], Page], found: Found) -> None:
    page = write(hostile(found))
    assert len([one for one in page.elements if one[0] == "script"]) == 3
    assert not [one for one in page.elements if one[0] in {"img", "b"} and "chrono" not in "".join(one[2])][1:]
    assert MARKUP in page.texts("h1")[0]
    assert all(MARKUP in code for code in page.texts("pre"))


# -- in a browser ------------------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_opens_cleanly(browser: Any, found: Found, tmp_path: Path, width: int, scheme: str) -> None:
    path = write_diagnosis(found, tmp_path / "diagnosis.html")
    with opened(browser, path, width=width, scheme=scheme) as page:
        assert_no_overflow(page)
        assert_pictures_fill_their_places(page)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
        box = page.evaluate(
            "(({ width, height }) => [width, height])("
            "document.querySelector('.plot .circle path').getBoundingClientRect())"
        )
        assert box[0] == pytest.approx(box[1], abs=1), "the unit circle is round"


@needs_chromium
@pytest.mark.parametrize("width", [320, 400])
def test_fits_a_telephone_without_scripts_folded_and_unfolded(
    browser: Any, found: Found, tmp_path: Path, width: int
) -> None:
    """Unfolded as a reader does it; with long lines, long names, one remedy for many parts."""
    name = "encoder.layers.recurrent_with_a_long_name.l0_reverse"
    long = "long line " * 30
    remedy = {**found["prescriptions"][0], "code": f"{CODE}\nlayer = '{long}'"}
    found["prescriptions"] = [{**remedy, "part": f"{name}_{at}"} for at in range(4)]
    found["untried"] = [{"name": "lstm", "part": name, "text": "", "code": "", "reason": "a tensor " * 40}]
    found["first"] = f"train on windows of more than 1000 steps of {name}"
    found["causes"][0]["text"] = f"the gate of {name} " * 4
    with opened(browser, write_diagnosis(found, tmp_path / "found.html"), width=width, scripts=False) as page:
        assert_no_overflow(page)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.locator(".code pre").first.is_visible()
        assert_no_overflow(page)
        assert page.evaluate("innerWidth") == width


@needs_chromium
def test_the_needed_lag_stands_at_its_place(browser: Any, found: Found, tmp_path: Path) -> None:
    """The line of the mark stands where the ticks beside it say."""
    with opened(browser, write_diagnosis(found, tmp_path / "diagnosis.html")) as page:
        places = page.evaluate(
            f"""(() => {{
                const svg = document.querySelector('.plot .wide svg');
                const middle = (node) => (({{ left, width }}) => left + width / 2)(node.getBoundingClientRect());
                const told = (value) => [...svg.querySelectorAll('text')].find((one) => one.textContent === value);
                const tick = (value) => middle(told(value));
                const share = Math.log({NEED} / 20) / Math.log(50 / 20);
                return [middle(svg.querySelector('.mark path')), tick('20') + share * (tick('50') - tick('20'))];
            }})()"""
        )
        assert places[0] == pytest.approx(places[1], abs=1.5)


@needs_chromium
def test_code_unfolds_and_is_copied(browser: Any, found: Found, tmp_path: Path) -> None:
    with opened(browser, write_diagnosis(found, tmp_path / "diagnosis.html"), width=400) as page:
        first = page.locator("details").first
        assert not first.locator("pre").is_visible()
        first.locator("summary").click()
        assert first.locator("pre").is_visible()
        button = first.locator("button")
        button.click()
        wait(page, "document.querySelector('.code-block button').textContent !== 'Copy'")
        assert page.evaluate("getSelection().toString()").strip("\n") == CODE
        assert_no_overflow(page)


@needs_chromium
def test_hostile_text_runs_nowhere(browser: Any, found: Found, tmp_path: Path) -> None:
    with opened(browser, write_diagnosis(hostile(found), tmp_path / "diagnosis.html"), width=400) as page:
        assert_no_overflow(page)
        page.wait_for_timeout(200)
        assert page.evaluate("window.injected") is None
        assert page.locator("img, iframe, a:not([href^='#'])").count() == 0
        assert "<b>bold</b>" in page.locator(".plot text").all_text_contents()


@needs_chromium
@pytest.mark.parametrize(
    "found", [{}, {"verdict": "healthy", "need": 3, "parts": [{"name": "l0"}]}], ids=["{}", "poor"]
)
def test_poor_diagnoses_open_cleanly(browser: Any, found: Found, tmp_path: Path) -> None:
    with opened(browser, write_diagnosis(found, tmp_path / "diagnosis.html"), width=400) as page:
        assert_no_overflow(page)
        assert page.locator("h2").all_inner_texts() == SECTIONS


# -- the contract ------------------------------------------------------------------------------------------------


class Last(nn.Module):
    """Reads a sequence, answers from its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(1, 8), nn.Linear(8, 1)

    def forward(self, x_TBI: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.out(self.rnn(x_TBI)[0][-1])
        return answer


def test_a_real_diagnosis_is_shown_whole(write: Callable[[Any], Page]) -> None:
    torch.manual_seed(0)
    text = "".join(random.Random(1).choices("abc", k=400)) * 3
    found = unvanish.diagnose(Last(), torch.randn(60, 2, 1), lambda y: y.square().mean(), data=text)
    given = found.to_dict()
    page = write(given)
    assert page.texts("h1")[0].lower().startswith(found.verdict)
    assert "the gradient reaches" in page.texts("h1")[0]
    assert page.data("diagnosis-summary")["need"] == found.need
    (one,) = found.parts
    assert page.reaches() == {
        one.name: (str(min(one.profile.reach, one.window)), str(one.profile.censored).lower())
    }
    assert len(page.data("pictures")) == 2 + len(PART_PICTURES), "everything that is measured has its picture"
    assert [one["data-kind"] for one in page.having("data-kind")] == [cause.kind for cause in found.causes]
    assert [one["data-remedy"] for one in page.having("data-remedy")] == [r.name for r in found.prescriptions]
    assert write(json.loads(json.dumps(given))).data("pictures") == page.data("pictures")


def with_long_words(found: Found) -> Found:
    """Words without a place to break, and numbers of many digits, wherever the page has a place for them."""
    found |= {"verdict": "s" * 70, "need": 10**11, "loss": 1.2e30, "target": "p" * 90, "first": "f" * 90}
    for one in found["parts"]:
        one |= {"name": f"encoder.{'n' * 60}.{one['name']}", "kind": "k" * 90, "because": "b" * 90}
        one["profile"]["reach"] = 10**11
    for one in found["prescriptions"]:
        one |= {"part": "a" * 90, "text": "t" * 90, "code": "c" * 300, "reach": 10**11}
    for one in found["causes"]:
        one |= {"kind": "j" * 80, "unit": "u" * 80, "advice": "v" * 120}
    untried = {"name": "lstm", "part": "q" * 90, "text": "", "code": "", "reason": "r" * 200}
    return {**found, "untried": [untried], "unknown": ["x" * 200]}


@needs_chromium
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_words_without_a_place_to_break_make_no_page_wider(
    browser: Any, found: Found, tmp_path: Path, scripts: bool
) -> None:
    path = write_diagnosis(with_long_words(found), tmp_path / "diagnosis.html")
    for width in (320, 400):
        with opened(browser, path, width=width, scripts=scripts) as page:
            assert page.evaluate("innerWidth") == width
            assert_no_overflow(page)
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert_no_overflow(page)
