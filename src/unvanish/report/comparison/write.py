"""The page of a comparison: what it comes to, the table, the pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unvanish.record import write_atomically
from unvanish.report.comparison import captions, pictures
from unvanish.report.comparison.finding import finding, headline
from unvanish.report.comparison.first import first_picture
from unvanish.report.comparison.read import Comparison, Entry, Group, compare, loss_of
from unvanish.report.comparison.rows import Row, best_of, reach_of, rows
from unvanish.report.page.axes import Figure
from unvanish.report.page.blocks import Gallery, absent, lead, opening, scrolling, section
from unvanish.report.page.document import document
from unvanish.report.page.markup import Child, Html, element
from unvanish.report.page.wording import MISSING, count, decimal, duration, moment, prose

NAMED = 3  # runs that a title has room for


def write_comparison(found: Comparison | Iterable[Path], path: Path) -> Path:
    """Write the page of a comparison, or of the runs in some folders, and return its path.

    Raises:
        OptionError: there are fewer than two runs, or one is named twice.
        RunError: a folder is not a run.
    """
    compared = found if isinstance(found, Comparison) else compare(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _page(compared).encode(errors="replace"))
    return path


def title(found: Comparison) -> str:
    """Name a comparison by its runs."""
    names = [group.name for group in found.groups]
    return ", ".join(names) if len(names) <= NAMED else f"{len(found.entries)} runs"


def _page(found: Comparison) -> str:
    gallery = Gallery()
    first = first_picture(found, gallery)
    parts = [
        section("Side by side", _table(rows(found), found)),
        *(_seeds(group, at) for at, group in enumerate(found.groups) if len(group.entries) > 1),
        _loss(found, gallery),
        _profiles(found, gallery),
        _reach(found, gallery),
    ]
    head = opening(
        "comparison",
        [element("b", title(found))],
        headline(found),
        _facts(found),
        first,
        finding(found),
    )
    summaries = {"comparison-summary": comparison_summary(found)}
    return document(f"{headline(found)} · {title(found)} compared", head, parts, gallery, summaries)


def comparison_summary(found: Comparison) -> dict[str, Any]:
    """Gather what a program may want to read off the page."""
    ranked = found.ranked
    return {
        "best": ranked[0].name if len(ranked) > 1 else None,
        "same_data": found.same_data,
        "same_loss": found.same_loss,
        "groups": [
            {
                "name": group.name,
                "loss": _spread(group, loss_of),
                "reach": _spread(group, reach_of),
                "runs": [_run_summary(entry) for entry in group.entries],
            }
            for group in found.groups
        ],
    }


def _spread(group: Group, value: Any) -> dict[str, float] | None:
    known = group.known(value)
    return {"mean": sum(known) / len(known), "least": min(known), "greatest": max(known)} if known else None


def _run_summary(entry: Entry) -> dict[str, Any]:
    need, reach = entry.run.need, entry.reach
    return {
        "name": entry.name,
        "valid": None if entry.valid is None else {"step": entry.valid.step, **entry.valid.metrics},
        "best": None if entry.best is None else {"step": entry.best.step, "loss": entry.best.loss},
        "reach": None if reach is None else {"part": reach.part, "steps": reach.steps, "censored": reach.censored},
        "need": None if need is None else need.lag,
        "window": entry.run.window,
    }


def _facts(found: Comparison) -> list[str]:
    created = sorted({str(entry.run.config.get("created") or "") for entry in found.entries} - {""})
    made = list(dict.fromkeys(map(moment, [*created[:1], *created[-1:]])))
    data = "the same data" if found.same_data else "different data"
    return [f"{len(found.entries)} runs", data, " to ".join(made)]


def _table(found: list[Row], compared: Comparison) -> Html:
    names = [group.name for group in compared.groups]
    head = element("tr", element("td", ""), *(element("th", name, scope="col") for name in names))
    asked = [row for row in found if row.asked]
    body = [_row(row) for row in found if not row.asked]
    if asked:
        body.append(element("tr", element("th", "settings that differ", scope="rowgroup", colspan=1 + len(names))))
        body += [_row(row) for row in asked]
    table = element("table", element("thead", head), element("tbody", *body))
    return scrolling("div", "Runs side by side", table, class_="side")


def _row(row: Row) -> Html:
    cells = (
        element("td", element("b", prose(cell)) if at == row.best else prose(cell))
        for at, cell in enumerate(row.cells)
    )
    return element("tr", element("th", prose(row.name), scope="row"), *cells, data_row=row.name)


def _seeds(group: Group, at: int) -> Html:
    """Show the runs of a group one below the other, with the mean and the range."""
    columns = (
        ("seed", lambda entry: entry.settings.get("seed"), str),
        ("validation loss", loss_of, decimal),
        ("best loss", best_of, decimal),
        ("reach", reach_of, count),
        ("time", lambda entry: entry.run.seconds, duration),
    )
    head = element("tr", *(element("th", name, scope="col") for name in ("run", *(name for name, _, _ in columns))))
    body = [
        element(
            "tr",
            element("th", entry.name, scope="row"),
            *(
                element("td", MISSING if value is None else write(value))
                for _, find, write in columns
                for value in [find(entry)]
            ),
        )
        for entry in group.entries
    ]
    for told, of in (("mean", lambda values: sum(values) / len(values)), ("least", min), ("greatest", max)):
        cells = [
            write(of(known)) if name != "seed" and known else ""
            for name, find, write in columns
            for known in [group.known(find)]
        ]
        body.append(element("tr", element("th", told, scope="row"), *(element("td", cell) for cell in cells)))
    table = element("table", element("thead", head), element("tbody", *body))
    shown = scrolling("div", "Seeds", table, class_="side")
    return section(f"{group.name}: the seeds", lead(captions.GROUP), shown, anchor=f"seeds-{at}")


def _loss(found: Comparison, gallery: Gallery) -> Html:
    words = captions.LOSS if found.same_loss else captions.LOSS + captions.LOSS_APART
    label = "Line chart of the validation loss of every run over training steps."
    return _hung("Loss", pictures.loss_picture(found), label, words, found, gallery, "No loss has been recorded.")


def _profiles(found: Comparison, gallery: Gallery) -> Html:
    several = any(len(entry.run.reaches) > 1 for entry in found.entries)
    words = captions.PROFILES + (captions.FURTHEST if several else "")
    label = "Line chart of every run: share of the gradient left against steps back."
    missing = "The gradient along time has not been measured."
    return _hung("The gradient along time", pictures.profile_picture(found), label, words, found, gallery, missing)


def _reach(found: Comparison, gallery: Gallery) -> Html:
    label = "Line chart of the reach of every run over training steps."
    missing = "The reach has not been measured."
    picture = pictures.reach_picture(found)
    return _hung("Reach over training", picture, label, captions.REACH, found, gallery, missing)


def _hung(
    name: str,
    picture: Figure | None,
    label: str,
    words: str,
    found: Comparison,
    gallery: Gallery,
    missing: str,
) -> Html:
    shown: Child = absent(missing)
    if picture is not None:
        seeds = any(len(group.entries) > 1 for group in found.groups)
        shown = gallery.hang([picture], label, f"{words} {captions.SEEDS}" if seeds else words, kind="tall")
    return section(name, shown)
