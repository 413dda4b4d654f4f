"""The sections without pictures: the cell, a sample, the events."""

from __future__ import annotations

from unvanish.record.schema import Sample, mapping, text
from unvanish.report.page.blocks import absent, code_block, folded, lead, scrolling, section
from unvanish.report.page.markup import Html, element
from unvanish.report.page.wording import count, duration
from unvanish.report.run.citing import bibtex, latex_block
from unvanish.report.run.mathml import equation
from unvanish.report.run.read import Run

SAMPLE_CHARACTERS = 3000


def cell_section(run: Run) -> Html:
    """Show the cell's equations."""
    cell = mapping(run.config.get("cell"))
    latex, source = cell.get("latex"), text(cell.get("equations")).strip("\n")
    lines = [text(one) for one in latex] if isinstance(latex, list) else []
    converted = [equation(one) for one in lines]
    body = absent("The record does not hold the cell's equations.")
    if converted and all(converted):
        rows = [element("div", one) for one in converted]
        body = scrolling("div", "Equations of the cell", *rows, class_="equations")
    elif source or lines:
        body = scrolling("pre", "Equations of the cell", source or "\n".join(lines))
    cite = text(cell.get("cite")).strip()
    names = [text(cell.get("title") or cell.get("name")), cite]
    named = " · ".join(name for name in names if name)
    taken = []
    if lines:
        taken.append(folded("The equations as LaTeX", code_block(latex_block(lines), "The equations as LaTeX")))
    if cite:
        entry = bibtex(cite, text(cell.get("name")))
        taken.append(folded("The citation as BibTeX", code_block(entry, "The citation as BibTeX")))
    return section("The cell", lead(named) if named else None, body, *taken)


def sample_section(run: Run) -> Html | None:
    """Show what a network of text writes."""
    if run.asked.kind != "text" and not run.samples:
        return None
    title = "What it writes"
    if not run.samples:
        return section(title, absent("No text has been generated yet."))
    first, last = run.samples[0], run.samples[-1]
    earlier = None
    if first is not last:
        heading = element("summary", f"What it wrote at training step {count(first.step)}")
        earlier = element("details", heading, _written(first))
    words = f"Text that the network made up at training step {count(last.step)}, one {run.asked.unit} at a time."
    return section(title, lead(words), _written(last), earlier)


def event_section(run: Run) -> Html:
    """Show when the run started, resumed, stopped."""
    if not run.events:
        return section("Events", absent("No events have been recorded."))
    head = element("tr", *(element("th", name, scope="col") for name in ("time", "training step", "event", "note")))
    rows = []
    for event in run.events:
        cells = (duration(event.seconds), count(event.step), event.what, event.text)
        rows.append(element("tr", *(element("td", cell) for cell in cells)))
    table = element("table", element("thead", head), element("tbody", *rows))
    return section("Events", scrolling("div", "Events of the run", table, class_="events"))


def _written(sample: Sample) -> Html:
    rest = sample.text.removeprefix(sample.prompt)
    shown = rest[:SAMPLE_CHARACTERS] + ("…" if len(rest) > SAMPLE_CHARACTERS else "")
    prompt = element("b", sample.prompt[:SAMPLE_CHARACTERS]) if sample.prompt else None
    # HTML drops a newline that opens a `pre`, so one that may be dropped goes first
    return element("pre", "\n", prompt, shown, class_="sample", dir="auto")
