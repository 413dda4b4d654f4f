"""The small parts: words, axes, markup, colours, and what the package may import."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from unvanish import report
from unvanish.report.page import axes, markup, wording
from unvanish.report.run import mathml

FOLDER = Path(report.__file__).parent


@pytest.mark.parametrize(
    "module", ["page.markup", "page.wording", "drawing.markup", "drawing.scales", "run.citing"]
)
def test_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"unvanish.report.{module}"))
    assert result.attempted
    assert not result.failed


def test_imports_records_and_errors_only() -> None:
    allowed = {
        "unvanish.record",
        "unvanish.record.alike",
        "unvanish.record.config",
        "unvanish.record.measures",
        "unvanish.record.reaching",
        "unvanish.record.schema",
        "unvanish.errors",
        "unvanish.layer_options",  # a list, without torch
        "matplotlib",
        "matplotlib.axes",
        "matplotlib.figure",
        "matplotlib.lines",
        "matplotlib.patches",
        "matplotlib.ticker",
        "latex2mathml.converter",
        "__future__",
    }
    found = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
            elif isinstance(node, ast.Import):
                found.update(name.name for name in node.names)
    ours = {name for name in found if not name.startswith("unvanish.report")}
    foreign = {name for name in ours - allowed if name.split(".")[0] not in sys.stdlib_module_names}
    assert not foreign


def test_import_is_cheap() -> None:
    code = "import sys, unvanish.report; print(*({'matplotlib', 'latex2mathml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_thinning_keeps_every_spike() -> None:
    values: list[float | None] = [1.0] * 50_000
    values[31_337], values[40_404], values[7] = 99.0, -99.0, None
    places, kept = axes.thinned(range(50_000), values)
    assert len(kept) <= axes.POINTS
    known = dict(zip(places, kept, strict=True))
    assert (known[31_337], known[40_404]) == (99.0, -99.0)
    assert all(before < after for before, after in pairwise(places))


def test_picking_keeps_both_ends() -> None:
    for length in range(200):
        chosen = axes.picked(length, 7)
        assert len(chosen) == min(length, 7)
        assert not chosen or (chosen[0], chosen[-1]) == (0, length - 1)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.5, 1.5], ["0.5", "1", "2"]),
        ([1e-3, 10.0], ["0.001", "0.01", "0.1", "1", "10"]),
        ([3.0], ["1", "2", "5"]),
    ],
)
def test_log_axis_has_ticks_for_any_span(values: list[float | None], ticks: list[str]) -> None:
    axis = axes.log_axis(values)
    assert axis["ticktext"] == ticks
    low, high = axis["range"]
    assert all(10**low <= tick <= 10**high for tick in axis["tickvals"])


def test_share_axis_always_shows_one_per_cent() -> None:
    for values in ([1.0], [1.0, 1e-30], [1e-3, 1e30], [None], [0.0]):
        assert "1 %" in axes.share_axis(values)["ticktext"]


def test_layers_are_counted_as_readers_count() -> None:
    parts = ["l10", "l2_reverse", "l2", "encoder", "l0"]
    assert sorted(parts, key=wording.part_order) == ["encoder", "l0", "l2", "l2_reverse", "l10"]
    assert [wording.layer_title(part) for part in parts] == [
        "Layer 11",
        "Layer 3, reverse",
        "Layer 3",
        "encoder",
        "Layer 1",
    ]


def test_halving_says_the_rate_in_steps() -> None:
    assert wording.halving(-0.0693147) == "far back the gradient halves every 10.0 time steps"
    assert wording.halving(0.693147) == "far back the gradient doubles every 1.00 time steps"


@pytest.mark.parametrize(
    "latex", [r"\text{<script>a</script>}", r"\text{<img src=x>}", "&lt;b&gt;", r"\frac{", "{" * 5000]
)
def test_equations_that_cannot_be_trusted_or_read_give_way(latex: str) -> None:
    assert mathml.equation(latex) is None


@pytest.mark.parametrize(
    "latex", [r"\href{javascript:alert(1)}{x}", r"\style{background:url(//a)}{x}", r"\class{a}{x}"]
)
def test_equations_carry_no_foreign_attributes(latex: str) -> None:
    made = mathml.equation(latex)
    assert made is not None
    assert set(re.findall(r' ([\w-]+)="', made)) <= {"display"}


def test_markup_escapes_whatever_it_did_not_build() -> None:
    assert markup.element("p", "<b>", title='"><b>') == '<p title="&quot;&gt;&lt;b&gt;">&lt;b&gt;</p>'
    assert "</script><" not in markup.embed_json({"a": "</script><!--"}, "x")[:-9]


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_enough(scheme: str) -> None:
    style = (FOLDER / "page" / "page.css").read_text(encoding="utf-8")
    block = style.split("prefers-color-scheme: dark")[0 if scheme == "light" else 1].split("*, *::before")[0]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
    for text in ("ink", "muted", "accent"):
        assert _contrast(colours[text], colours["paper"]) >= 4.5, text
        assert _contrast(colours[text], colours["wash"]) >= 4.5, text
    assert _contrast(colours["ink"], colours["warn-wash"]) >= 4.5
    assert _contrast(colours["warn"], colours["paper"]) >= 4.5
    for drawn in ("series-1", "series-2", "series-3", "series-4", "faint"):
        assert _contrast(colours[drawn], colours["paper"]) >= 3, drawn
