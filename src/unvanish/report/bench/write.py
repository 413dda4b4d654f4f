"""The page of a benchmark: what it comes to, how many times as fast, the times, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unvanish.record import write_atomically
from unvanish.report.bench.finding import PASS, bench_finding, headline, names_of, peers_of, times
from unvanish.report.page.axes import Figure
from unvanish.report.page.bars import Bar, Bars, figure_bars, hang_bars
from unvanish.report.page.blocks import Gallery, Section, lead, opening, scrolling, section
from unvanish.report.page.curves import STATE_COLOURS
from unvanish.report.page.document import document
from unvanish.report.page.markup import Html, element, plot_text
from unvanish.report.page.wording import MISSING, count, decimal, moment, plain

HOW = (
    "Timed in turns, {rounds} rounds, so that what slows the machine slows all of them. A time is the median of "
    "its rounds, and in brackets the range of their middle half; a ratio is the median of those within a round."
)
BESIDE = (
    "How many times as long {peer} takes for a training step: forward, and backward from a given gradient of the "
    "output. Right of the dotted line unvanish is faster."
)
SAME = (
    "The largest difference of outputs and gradients from the same equations in plain PyTorch, relative to the "
    "largest number of a tensor: what is near 10⁻⁶ is the rounding of single precision over all steps."
)


def write_bench(found: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a benchmark, as `unvanish bench --json` prints it, and return its path.

    The folder is made where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _page(found).encode(errors="replace"))
    return path


def _page(found: Mapping[str, Any]) -> str:
    gallery, cells = Gallery(), found["cells"]
    parts = [
        *(
            section(
                f"A {one}", lead(HOW.format(rounds=_rounds(cells))) if one == PASS else None, _times(cells, one)
            )
            for one in cells[0]["ratios"]
        ),
        section("The same numbers", lead(SAME), _numbers(cells)),
        _machine(found),
    ]
    head = opening(
        "bench",
        [element("b", names_of(cells))],
        headline(found),
        [found["shape_text"], moment(found["when"])],
        hang_bars(gallery, [_beside(cells, peer) for peer in peers_of(cells)[:2]]),
        bench_finding(found),
    )
    return document(f"{headline(found)} · bench", head, parts, gallery, {"bench": dict(found)})


def _rounds(cells: Sequence[Mapping[str, Any]]) -> str:
    found = sorted({cell["rounds"] for cell in cells})
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _beside(cells: Sequence[Mapping[str, Any]], peer: str) -> Bars:
    bars = [
        Bar(plot_text(cell["cell"], 30), found["median"], times(found["median"]), STATE_COLOURS[0])
        for cell in cells
        if (found := cell["ratios"][PASS].get(peer)) is not None
    ]
    picture: Figure | None = figure_bars(bars, "times as fast", share=False)
    if picture is not None:
        style = {"color": "--warn", "width": 1, "dash": "dot"}
        line = {"type": "line", "yref": "paper", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "line": style}
        picture["layout"]["shapes"] = [line]
    what = f"how many times as fast a training step is as {peer}"
    return Bars(f"Beside {peer}", what, BESIDE.format(peer=peer), picture)


def _times(cells: Sequence[Mapping[str, Any]], of: str) -> Html:
    peers = peers_of(cells)
    head = [element("th", name, scope="col") for name in (of, "unvanish", *peers)]
    rows = [
        element(
            "tr",
            element("th", cell["cell"], scope="row"),
            element("td", _milliseconds(cell["milliseconds"][of]["unvanish"])),
            *(element("td", _peer(cell, of, peer)) for peer in peers),
        )
        for cell in cells
    ]
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows))
    return scrolling("div", f"Times of a {of}", table, class_="side")


def _peer(cell: Mapping[str, Any], of: str, peer: str) -> str:
    ratio = cell["ratios"][of].get(peer)
    if ratio is None:
        return MISSING
    return f"{_milliseconds(cell['milliseconds'][of][peer])}, {times(ratio['median'])}"


def _milliseconds(span: Mapping[str, float]) -> str:
    median, low, high = (decimal(span[name], 2) for name in ("median", "low", "high"))
    return f"{median} ms" if low == high else f"{median} ms ({low}–{high})"


def _numbers(cells: Sequence[Mapping[str, Any]]) -> Html:
    names = ("cell", "difference", "parameters", "runs on", "compiled in")
    rows = [
        element(
            "tr",
            element("th", cell["cell"], scope="row"),
            element("td", decimal(cell["difference"], 2)),
            element("td", count(cell["parameters"])),
            element("td", "a kernel of its own" if cell["engine"] == "native" else cell["engine"]),
            element("td", f"{decimal(cell['first'], 2)} s, once" if cell["first"] else "was there already"),
        )
        for cell in cells
    ]
    head = element("tr", *(element("th", name, scope="col") for name in names))
    table = element("table", element("thead", head), element("tbody", *rows))
    return scrolling("div", "The same numbers", table, class_="side")


def _machine(found: Mapping[str, Any]) -> Section:
    rows = [
        element("tr", element("th", name.replace("_", " "), scope="row"), element("td", plain(value)))
        for name, value in {**found["shape"], **found["machine"]}.items()
    ]
    return section("Shape and machine", element("table", element("tbody", *rows)))
