"""A picture drawn for a page: the same bytes each time, colours by name, text as text, ids of its own."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import Any

import matplotlib
import pytest

from unvanish.report.drawing import drawn
from unvanish.report.drawing.canvas import STAND_INS
from unvanish.report.drawing.scales import ticks_of
from unvanish.report.page import axes
from unvanish.report.page.markup import embed_packed

Picture = dict[str, Any]


def picture(name: str = "a line", y: axes.Series | None = None) -> Picture:
    """One curve with a mark."""
    layout = axes.canvas(axes.STEPS_BACK, "gradient left", legend=True)
    mark = {"type": "line", "yref": "paper", "x0": 1, "x1": 1, "y0": 0, "y1": 1}
    layout["shapes"] = [mark | {"line": {"color": "--warn", "width": 2, "dash": "solid"}}]
    return {"data": [axes.line([0, 1, 2], y or [3.0, 1.0, 2.0], name, "--series-1")], "layout": layout}


def paths(svg: str, color: str = "--series-1") -> list[str]:
    return re.findall(rf'd="([^"]*)"[^>]*var\({color}\)', svg)


def test_the_same_picture_gives_the_same_markup() -> None:
    assert drawn(picture(), 400, 300, "a") == drawn(picture(), 400, 300, "a")


def test_two_pictures_share_no_id() -> None:
    one, other = (set(re.findall(r'id="([^"]+)"', drawn(picture(), 400, 300, prefix))) for prefix in ("a", "b"))
    assert one
    assert not one & other


def test_every_colour_is_one_of_the_page_by_its_name() -> None:
    svg = drawn(picture(), 400, 300, "a")
    assert {"var(--series-1)", "var(--warn)", "var(--grid)"} <= set(re.findall(r"var\([a-z0-9-]+\)", svg))
    assert not set(STAND_INS.values()) & set(re.findall(r"#[0-9a-f]{6}", svg))


@pytest.mark.parametrize("name", ["$x$ and $", "_hidden", "<b>&</b>", "\x00\x1b", "漢字", "]]></text><script>"])
def test_any_text_stays_that_text(name: str) -> None:
    svg = drawn(picture(name), 400, 300, "a")
    assert "<script" not in svg
    assert "<b>" not in svg
    told = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    wanted = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert re.sub("[\x00-\x1f]", "\ufffd", wanted) in told


def test_text_has_no_font_of_its_own() -> None:
    assert "font" not in drawn(picture(), 400, 300, "a")


def points(path: str) -> list[tuple[float, float]]:
    """Where a path of straight lines goes."""
    found: list[tuple[float, float]] = []
    for letter, rest in re.findall(r"([Ml])([^Mlz]*)", path):
        each = [float(one) for one in re.findall(r"-?[\d.]+", rest)]
        for x, y in zip(each[::2], each[1::2], strict=True):
            found.append((x, y) if letter == "M" else (found[-1][0] + x, found[-1][1] + y))
    return found


def test_a_gap_stays_a_gap() -> None:
    whole, gapped = (paths(drawn(picture(y=y), 400, 300, "a"))[0] for y in ([3.0, 1.0, 2.0], [3.0, 1.0, None]))
    assert [len(points(path)) for path in (whole, gapped)] == [3, 2]


def test_a_line_goes_through_its_values() -> None:
    svg = drawn(picture(y=[0.0, 10.0, 5.0]), 400, 300, "a")
    (x0, y0), (x1, y1), (x2, y2) = points(paths(svg)[0])
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 + y1) / 2 == pytest.approx(y2, abs=0.2)
    assert y1 < y0, "up is more"


@pytest.mark.parametrize("size", [1e308, -1e308, 5e-324, math.inf, math.nan])
def test_numbers_that_cannot_be_drawn_are_left_out(size: float) -> None:
    assert paths(drawn(picture(y=[1.0, size, 2.0]), 400, 300, "a")) is not None


def test_zero_has_its_tick_under_a_log_axis() -> None:
    one = picture()
    one["layout"]["yaxis"] |= axes.share_axis([1.0, 0.01])
    texts = re.findall(r"<text[^>]* x=\"([^\"]+)\"[^>]*>([^<]*)</text>", drawn(one, 400, 300, "a"))
    assert {"0", "1", "2", "1 %"} <= {text for _, text in texts}
    assert all(re.fullmatch(r"-?[\d.]+", x) for x, _ in texts)


def test_a_map_is_a_small_image_with_a_scale() -> None:
    layout = axes.canvas("steps back", "training step", legend=False)
    layout["colorbar"] = {"range": [-3, 0], "tickvals": [-3, 0], "ticktext": ["0.1 %", "100 %"]}
    rows = [[-0.01 * column * row for column in range(80)] for row in range(36)]
    heat = {"type": "heatmap", "x": list(range(80)), "y": list(range(36)), "z": rows, "zmin": -3, "zmax": 0}
    svg = drawn({"data": [heat], "layout": layout}, 400, 280, "a")
    map_, scale = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    assert len(scale) < len(map_) < 8_000
    assert all(f">{text}<" in svg for text in ("0.1 %", "100 %"))


def test_nothing_of_matplotlib_stays_changed_and_pyplot_stays_out() -> None:
    before = dict(matplotlib.rcParams)
    drawn(picture(), 400, 300, "a")
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; from unvanish.report.drawing import drawn; from unvanish.report.page import axes;"
        "drawn({'data': [], 'layout': axes.canvas('x', 'y', legend=False)}, 400, 300, 'a');"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.7, 12.0), (1e-7, 3e-7), (0, 5e9), (100.0, 100.5)])
def test_ticks_lie_within_and_are_told_apart(low: float, high: float) -> None:
    ticks = ticks_of({}, low, high, 6)
    assert 2 <= len(ticks) <= 8
    assert all(low <= value <= high * (1 + 1e-9) for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


def test_data_are_packed_alike_each_time_and_end_no_block() -> None:
    one, other = (embed_packed({"a": ["</script>", "\ud800"]}, "x") for _ in range(2))
    assert one == other
    assert one.count("<") == 2
