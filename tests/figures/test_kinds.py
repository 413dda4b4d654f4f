"""What holds for every kind of result: files, tables, notebooks, short lines, and nothing global changed."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import unvanish.diagnosis
import unvanish.train  # noqa: F401
from tests.figures import found
from unvanish.errors import OptionError, RunError
from unvanish.figures import KINDS
from unvanish.record import Result

NAMES = sorted(KINDS)
VIEWS = [(kind, view) for kind in NAMES for view in KINDS[kind].views]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return found.every_kind(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def drawn(results: dict[str, Result]) -> dict[str, Figure]:
    figures = {name: result.plot().figure for name, result in results.items()}
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


@pytest.fixture(autouse=True)
def _nothing_global_changes() -> Iterator[None]:
    def settings() -> dict[str, Any]:
        return {name: value for name, value in mpl.rcParams.items() if name != "backend"}  # which is found late

    before = settings()
    yield
    assert settings() == before


def test_every_result_is_of_a_kind_and_every_kind_is_tested(results: dict[str, Result]) -> None:
    def below(kind: type[Result]) -> Iterator[type[Result]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    assert {one.shown_as for one in below(Result)} == set(KINDS) == set(results)


# -- in one line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_told_in_one_short_line(name: str, results: dict[str, Result]) -> None:
    told = repr(results[name])
    assert told.startswith(f"{type(results[name]).__name__}(")
    assert "\n" not in told
    assert len(told) < 120


def test_the_line_of_a_result_has_what_was_found() -> None:
    assert "reach ≥ 99" in repr(found.profile(-0.001))
    assert "needed ≥ 6 steps" in repr(found.dependency())
    assert "longer contexts" in str(found.dependency())
    assert repr(found.diagnosis()) == (
        "Diagnosis(vanishing: needed 80 steps, reach rnn.l0 46, rnn.l1 40; because: forgetting)"
    )
    assert repr(found.part()) == "PartFinding(rnn.l0: vanishing, reach 46 steps, window 99)"
    assert repr(found.prescription()) == "Prescription(chrono at rnn.l0: reach 46 → ≥ 99 steps, healthy)"
    assert "f saturated 25 %, c stays 2.5 steps" in repr(found.saturation())


def test_the_line_of_a_run_has_its_last_validation(tmp_path: Path) -> None:
    record = found.run(tmp_path)
    assert repr(record) == "RunRecord(a-run: step 300, loss 0.9337, reach l0 90, l1 ≥ 199)"
    assert repr(type(record)(tmp_path / "none")) == "RunRecord(none)"


@pytest.mark.parametrize("long", ["a.module." * 40 + "l0", "two\nlines"])
def test_a_long_name_makes_no_long_line(long: str) -> None:
    for one in (found.part(long), found.prescription(long)):
        assert len(repr(one)) < 120
        assert "\n" not in repr(one)


# -- figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_as_wide_as_a_column_or_a_page_and_can_be_read(name: str, drawn: dict[str, Figure]) -> None:
    assert drawn[name].get_figwidth() in (3.4, 7.0)
    shown = [one for one in drawn[name].findobj(Text) if one.get_text() and one.get_visible()]
    assert min(one.get_fontsize() for one in shown) >= 7


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_a_label_or_names(name: str, drawn: dict[str, Figure]) -> None:
    for axes in drawn[name].axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel() or all(label.get_text() for label in axes.get_yticklabels())


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_off_and_no_two_marks_meet(name: str, drawn: dict[str, Figure]) -> None:
    figure = drawn[name]
    for axes in figure.axes:
        texts = [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
        boxes = [one.get_window_extent() for one in texts if one.get_text()]
        for box in boxes:
            assert figure.bbox.padded(1).contains(*box.min), name
            assert figure.bbox.padded(1).contains(*box.max), name
        for one, other in itertools.combinations(boxes, 2):
            assert not one.padded(-1).overlaps(other.padded(-1)), name


def test_many_parts_with_long_names_leave_room_for_their_curves() -> None:
    measured = found.diagnosis()
    parts = tuple(found.part(f"encoder.layers.{at}.block.rnn.l0", -0.02 * (at + 1)) for at in range(12))
    whole = type(measured)("vanishing", 80, "given", 0.1, parts, measured.causes, (), ())
    axes = whole.plot()
    axes.figure.draw_without_rendering()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0] == "0.block.rnn.l0"
    assert (len(texts), texts[-1]) == (8, "and 5 more")
    shown = axes.get_legend().get_window_extent()
    assert not shown.padded(-2).overlaps(axes.bbox)
    assert axes.figure.bbox.padded(1).contains(*shown.max)
    assert axes.bbox.width > 0.7 * axes.figure.bbox.width
    (need,) = [text for text in axes.texts if text.get_gid() == "need told"]
    assert not need.get_window_extent().overlaps(shown.padded(-2))
    curves = [one for one in axes.lines if str(one.get_gid()).startswith("encoder")]
    assert len({(one.get_color(), one.get_linestyle()) for one in curves}) > 5
    assert len(repr(whole)) < 120


@pytest.mark.parametrize(("reach", "need"), [(46, 48), (46, 46), (1, 2), (98, 99)])
def test_marks_beside_each_other_are_told_apart(reach: int, need: int) -> None:
    axes = found.profile(math.log(0.0099) / (reach + 0.999)).plot(need=need)
    axes.figure.draw_without_rendering()
    one, other = (text.get_window_extent() for text in axes.texts if "told" in str(text.get_gid()))
    assert not one.overlaps(other)


@pytest.mark.parametrize("name", NAMES)
def test_lines_can_be_told_apart_without_colour(name: str, drawn: dict[str, Figure]) -> None:
    for axes in drawn[name].axes:
        named = [one for one in axes.lines if not str(one.get_label()).startswith("_")]
        styles = [
            (one.get_linestyle(), one.get_linewidth(), one.get_marker(), one.get_markerfacecolor() == "white")
            for one in named
        ]
        assert len({*map(str, styles)}) == len(styles), name


@pytest.mark.parametrize(("kind", "view"), VIEWS)
def test_a_view_is_drawn_into_the_axes_that_are_given(kind: str, view: str, results: dict[str, Result]) -> None:
    axes = Figure().add_subplot()
    if KINDS[kind].views[view].draw is None:
        with pytest.raises(OptionError, match="has no picture"):
            results[kind].plot(axes, view=view)
    else:
        assert results[kind].plot(axes, view=view) is axes
        assert axes.lines
        assert isinstance(results[kind].plot(view=view), Axes)


@pytest.mark.parametrize("method", ["plot", "to_frame", "save"])
def test_an_unknown_view_is_refused_with_the_nearest(method: str, tmp_path: Path) -> None:
    arguments: tuple[Any, ...] = (tmp_path / "x.csv",) if method == "save" else ()
    with pytest.raises(OptionError, match="did you mean 'gain'"):
        getattr(found.dependency(), method)(*arguments, view="gian")


def test_a_figure_in_the_place_of_axes_is_refused() -> None:
    with pytest.raises(OptionError, match="ax is a Figure: give Axes"):
        found.profile().plot(Figure())  # type: ignore[arg-type]


def test_sizes_in_axes_of_ones_own_are_those_that_are_set(tmp_path: Path) -> None:
    with mpl.rc_context({"legend.fontsize": 17, "axes.labelsize": 15, "text.usetex": True}):
        axes = Figure().add_subplot()
        found.profile().plot(axes)
    assert {text.get_fontsize() for text in (*axes.texts, *axes.get_legend().get_texts())} == {17}
    assert axes.xaxis.label.get_fontsize() == 15
    assert not any(text.get_usetex() for text in axes.texts)


def test_a_name_is_not_taken_for_mathematics_nor_left_out_of_the_legend() -> None:
    measured = found.diagnosis()
    odd = [found.part("$x$"), found.part("_hidden"), found.part("one $ only")]
    axes = type(measured)("vanishing", 80, "given", 0.1, tuple(odd), (), (), ()).plot()
    axes.figure.draw_without_rendering()
    assert len(axes.get_legend().get_texts()) == 3


# -- files -------------------------------------------------------------------------------------------------------


def test_an_svg_is_well_formed_with_its_text_as_text(tmp_path: Path) -> None:
    found.profile().save(tmp_path / "figure.svg")
    root = ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert root.tag == f"{SVG}svg"
    words = ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]
    assert {"reach 46", "full state", "1 %"} <= {*words}
    assert "reach" in {element.get("id") for element in root.iter()}, (
        "what is drawn can be found in a drawing program"
    )


def test_a_pdf_holds_fonts_that_journals_take(tmp_path: Path) -> None:
    found.saturation().save(tmp_path / "figure.pdf")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content or b"/TrueType" in content


def test_a_png_is_as_wide_as_a_column_at_300_dots_per_inch(tmp_path: Path) -> None:
    found.profile().save(tmp_path / "figure.PNG")
    with Image.open(tmp_path / "figure.PNG") as image:
        image.load()
        assert image.width == 1020


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_the_same_result_gives_the_same_bytes(ending: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        found.prescription().save(tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"other.{ending}").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_json_has_the_plain_data(name: str, results: dict[str, Result], tmp_path: Path) -> None:
    def no_constant(word: str) -> None:
        raise AssertionError(word)

    results[name].save(tmp_path / "data.json")
    read = json.loads((tmp_path / "data.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert read.keys() == results[name].to_dict().keys()


@pytest.mark.parametrize(("kind", "view"), VIEWS)
def test_a_csv_has_the_rows_of_the_frame(kind: str, view: str, results: dict[str, Result], tmp_path: Path) -> None:
    results[kind].save(tmp_path / "rows.csv", view=view)
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        names, *rows = csv.reader(stream)
    frame = results[kind].to_frame(view)
    assert names == frame.columns
    assert rows == [["" if one is None else str(one) for one in row] for row in frame.rows()]


@pytest.mark.parametrize("ending", ["svg", "csv"])
def test_a_path_that_cannot_be_written_is_refused_in_one_line(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"folder.{ending}").mkdir()
    for path in (tmp_path / "none" / f"x.{ending}", tmp_path / f"folder.{ending}"):
        with pytest.raises(RunError, match="cannot be written") as refused:
            found.prescription().save(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == [f"folder.{ending}"], "and nothing is left behind"


@pytest.mark.parametrize("name", ["figure", "figure.jpg", "figure.svg.gz", ".svg"])
def test_another_ending_is_refused_with_those_that_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.svg, \.pdf, \.png, \.csv, \.json"):
        found.profile().save(tmp_path / name)


def test_a_path_may_be_a_text(tmp_path: Path) -> None:
    found.profile().save(f"{tmp_path}/rows.csv")
    assert (tmp_path / "rows.csv").is_file()


# -- tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "view"), VIEWS)
def test_a_frame_has_names_in_words(kind: str, view: str, results: dict[str, Result]) -> None:
    frame = results[kind].to_frame(view)
    assert isinstance(frame, polars.DataFrame)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in frame.columns)


def test_a_profile_comes_back_from_its_frame() -> None:
    measured = found.profile(lags=30)
    frame = measured.to_frame()
    assert frame.columns == ["part", "state", "lag", "norm", "lower", "upper"]
    assert frame.height == 90
    for state, norms in {"full state": measured.norms, **measured.state_norms}.items():
        rows = frame.filter(polars.col("state") == state)
        assert rows["lag"].to_list() == measured.lags.tolist()
        assert rows["norm"].to_list() == norms.tolist()
    whole = frame.filter(polars.col("state") == "full state")
    assert measured.band is not None
    assert whole["upper"].to_list() == measured.band[1].tolist()
    assert frame.filter(polars.col("state") == "h")["upper"].is_null().all()


def test_a_diagnosis_has_tables_of_its_parts_causes_and_remedies() -> None:
    measured = found.diagnosis()
    assert measured.to_frame("parts")["reach"].to_list() == [46, 40]
    assert measured.to_frame("causes")["cause"].to_list() == ["forgetting"]
    assert measured.to_frame("prescriptions")["reach"].to_list() == [99, 60]
    assert measured.to_frame()["part"].unique().sort().to_list() == ["rnn.l0", "rnn.l1"]


def test_a_run_has_a_table_of_every_kind_of_line(tmp_path: Path) -> None:
    record = found.run(tmp_path)
    assert record.to_frame("step").height == 30
    assert record.to_frame("valid")["bits"].to_list() == [2.0] * 3
    reach = record.to_frame("reach")
    assert reach.filter(polars.col("part") == "l1")["censored"].all()
    assert record.to_frame("profiles").height == 18
    assert record.to_frame()["phase"].to_list() == ["training"] * 30 + ["validation"] * 3


# -- notebooks ---------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects the tags and the texts of a page, and sees that every tag is closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.images: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_the_line_tables_and_the_picture(name: str, results: dict[str, Result]) -> None:
    page = Reader(results[name]._repr_html_())
    assert {*page.tags} == {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "img"}
    assert repr(results[name]) in page.texts
    (image,) = page.images
    kind, _, data = image.partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(data)).tag == f"{SVG}svg"


def test_a_notebook_takes_no_name_for_markup() -> None:
    name = "<script>alert('1')</script>&\"<b>"
    for result in (found.saturation(name), found.prescription(name)):
        page = Reader(result._repr_html_())
        assert not {"script", "b"} & {*page.tags}
        assert any("<script>" in text for text in page.texts)
