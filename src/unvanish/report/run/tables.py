"""The sections without pictures: the cell, a sample, the configuration, the events."""

from __future__ import annotations

from typing import Any

from unvanish.record.schema import Sample, mapping, text
from unvanish.report.page.blocks import absent, lead, scrolling, section
from unvanish.report.page.markup import Html, element
from unvanish.report.page.wording import count, decimal, duration, plain
from unvanish.report.run.mathml import equation
from unvanish.report.run.read import Run

SAMPLE_CHARACTERS = 3000
_SHOWN_AS_EQUATIONS = frozenset({"equations", "latex"})


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
    names = [text(cell.get("title") or cell.get("name")), text(cell.get("cite"))]
    named = " · ".join(name for name in names if name)
    return section("The cell", lead(named) if named else None, body)


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
        heading = element("summary", f"What it wrote at step {count(first.step)}")
        earlier = element("details", heading, _written(first))
    words = f"Text that the network made up at step {count(last.step)}, one {run.asked.unit} at a time."
    return section(title, lead(words), _written(last), earlier)


def table_section(run: Run) -> Html:
    """Show how the run was set up and how long it took."""
    config, cell = run.config, mapping(run.config.get("cell"))
    tables = [
        _table("Run", {key: config[key] for key in ("name", "created", "seed", "parameters") if key in config}),
        _table("Settings", mapping(config.get("settings"))),
        _table("Cell", {key: value for key, value in cell.items() if key not in _SHOWN_AS_EQUATIONS}),
        _table("Data", _data(mapping(config.get("data")))),
        _table("Timing", _timing(run)),
        _table("Versions", mapping(config.get("versions"))),
    ]
    known = [table for table in tables if table]
    body = element("div", *known, class_="tables") if known else absent("The configuration is empty.")
    return section("Configuration", body)


def _data(data: dict[str, Any]) -> dict[str, Any]:
    """What there is of the data, without how they are encoded."""
    question = mapping(data.get("question"))
    shown = {name: value for name, value in data.items() if name not in ("question", "sizes") and value is not None}
    sizes = {f"{name}": size for name, size in mapping(data.get("sizes")).items()}
    return shown | sizes | {name: value for name, value in question.items() if name not in ("encoding", "scales")}


def event_section(run: Run) -> Html:
    """Show when the run started, resumed, stopped."""
    if not run.events:
        return section("Events", absent("No events have been recorded."))
    head = element("tr", *(element("th", name, scope="col") for name in ("time", "step", "event", "note")))
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


def _timing(run: Run) -> dict[str, Any]:
    speeds = [valid.tokens_per_second for valid in run.valids if valid.tokens_per_second is not None]
    epochs = [valid.epoch for valid in run.valids if valid.epoch is not None]
    rates = [step.learning_rate for step in run.steps if step.learning_rate is not None]
    timing = {
        "time": duration(run.seconds) if run.seconds is not None else "",
        "steps": count(run.last_step) if run.last_step is not None else "",
        "last epoch": f"{epochs[-1]:g}" if epochs else "",
        f"{run.asked.steps} per second": count(speeds[-1]) if speeds else "",
        "last learning rate": decimal(rates[-1]) if rates else "",
    }
    return {name: value for name, value in timing.items() if value}


def _table(title: str, entries: dict[str, Any]) -> Html | None:
    if not entries:
        return None
    rows = [
        element("tr", element("th", name.replace("_", " "), scope="row"), element("td", plain(value)))
        for name, value in entries.items()
    ]
    return element("table", element("caption", title), element("tbody", *rows))
