"""The section on what helps: what was tried on a copy of the model, each remedy once with the parts it serves."""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.record.alike import tried_together, untried_together
from unvanish.report.diagnosis.read import Findings, Remedy, Untried
from unvanish.report.page.blocks import absent, lead, scrolling, section
from unvanish.report.page.markup import Child, Html, element, join
from unvanish.report.page.wording import MISSING, as_sentence, count, decimal, prose


def remedy_section(found: Findings) -> Html:
    """Show what was tried and what it changed."""
    title = "What helps"
    first = element("p", prose(f"First: {found.first}."), class_="notice") if found.first else None
    if not found.remedies:
        healthy = found.verdict == "healthy"
        words = "No remedy is needed." if healthy else "No remedy was tried, or none of those tried helped."
        return section(title, first, absent(words), _untried(found.untried))
    words = (
        "Each of these was tried on a copy of the model and measured again, before any training; what helps most "
        "stands first."
    )
    if found.first:
        words += " Until the first thing is done, none brings a gradient from as far back as is needed."
    reach = _reach_title(found.need)
    columns = ("remedy", "part", reach, "verdict after it", "time of a training step")
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    rows = [_remedy(same, found.need) for same in tried_together(found.remedies)]
    table = element("table", head, element("tbody", *rows))
    return section(title, first, lead(words), element("div", table, class_="remedies"), _untried(found.untried))


def _reach_title(need: int | None) -> str:
    return f"reach ({count(need)} needed)" if need else "reach"


def _untried(untried: list[Untried]) -> Child:
    if not untried:
        return None
    lines = [
        f"{same[0].name} on {', '.join(one.part or MISSING for one in same)}: {same[0].reason}"
        for same in untried_together(untried)
    ]
    listed = element("ul", *(element("li", line) for line in lines))
    return element("div", lead("These could not be tried on a copy of the model:"), listed, class_="untried")


def _cost(remedy: Remedy) -> str:
    """Write the time of a step with the least and the most of its rounds."""
    if remedy.cost is None:
        return MISSING
    told = f"{decimal(remedy.cost, 2)} ×"
    low, high = remedy.cost_range or (remedy.cost, remedy.cost)
    return told if low == high else f"{told} ({decimal(low, 2)}–{decimal(high, 2)})"


def _remedy(same: Sequence[Remedy], need: int | None) -> Html:
    """Write a remedy that was tried on one part or several: its name and its code once, what came of it by part."""
    remedy, tall = same[0], len(same) if len(same) > 1 else None
    named = element("b", remedy.name), element("span", as_sentence(remedy.text))
    cost = element("td", _cost(remedy), data_name="time of a training step", rowspan=tall)
    first, *others = (_cells(one, need) for one in same)
    row = join(
        element("tr", element("th", *named, scope="row", rowspan=tall), *first, cost, data_remedy=remedy.name),
        *(element("tr", *cells, class_="likewise") for cells in others),
    )
    if not remedy.code.strip():
        return row
    block = element(
        "div", scrolling("pre", f"Code of {remedy.name}", "\n", remedy.code.strip("\n")), class_="code-block"
    )
    folded = element("details", element("summary", "Code"), block)
    return join(row, element("tr", element("td", folded, colspan=5), class_="code"))


def _cells(remedy: Remedy, need: int | None) -> tuple[Html, Html, Html]:
    """Write what came of a remedy for one part."""
    verdict = remedy.verdict or MISSING
    return (
        element("td", remedy.part or MISSING, data_name="part"),
        element("td", f"{count(remedy.before)} → {remedy.after.shown}", data_name=_reach_title(need)),
        element("td", verdict, data_name="verdict after it", class_="well" if verdict == "healthy" else None),
    )
