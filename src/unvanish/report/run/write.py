"""The page of a run: its sections in order."""

from __future__ import annotations

from pathlib import Path

from unvanish.record import write_atomically
from unvanish.report.page.blocks import Gallery
from unvanish.report.page.document import document
from unvanish.report.run import answered, configuration, remedies, sections, tables
from unvanish.report.run.headline import finding
from unvanish.report.run.read import Run
from unvanish.report.run.summary import header, record_summary, run_name

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder, whatever state its record is in, and return its path."""
    path = folder / REPORT
    write_atomically(path, _page(Run.read(folder)).encode(errors="replace"))
    return path


def _page(run: Run) -> str:
    gallery = Gallery()
    head = header(run, gallery)
    parts = [
        answered.answer_section(run, gallery),
        sections.loss_section(run, gallery),
        sections.flow_section(run, gallery),
        sections.loss_norm_section(run, gallery),
        sections.optimiser_section(run, gallery),
        remedies.remedy_section(run),
        tables.cell_section(run),
        tables.sample_section(run),
        configuration.configuration_section(run),
        tables.event_section(run),
    ]
    summaries = {"record-summary": record_summary(run) | answered.answer_summary(run)}
    return document(f"{finding(run)} · {run_name(run)}", head, parts, gallery, summaries)
