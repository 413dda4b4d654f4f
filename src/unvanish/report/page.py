"""The page as a whole: sections, data, style and code in one file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from unvanish.errors import MissingExtraError
from unvanish.record import write_atomically
from unvanish.report import sections, tables
from unvanish.report.blocks import Gallery
from unvanish.report.markup import Html, element, embed_code, embed_json
from unvanish.report.run import Run
from unvanish.report.summary import header, record_summary, run_name

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder, whatever state its record is in, and return its path."""
    path = folder / REPORT
    write_atomically(path, _page(Run.read(folder)).encode(errors="replace"))
    return path


def _page(run: Run) -> str:
    gallery = Gallery()
    body = element(
        "main",
        header(run),
        sections.loss_section(run, gallery),
        sections.flow_section(run, gallery),
        sections.loss_norm_section(run, gallery),
        sections.optimiser_section(run, gallery),
        tables.cell_section(run),
        tables.sample_section(run),
        tables.table_section(run),
        tables.event_section(run),
    )
    scripts = [_plotly(), _resource("page.js")]
    document = element(
        "html",
        _head(run, scripts),
        element(
            "body",
            element("noscript", element("p", "The pictures on this page need JavaScript.", class_="notice")),
            body,
            embed_json(record_summary(run), "record-summary"),
            embed_json(gallery.pictures, "pictures"),
            *(embed_code("script", script) for script in scripts),
        ),
        lang="en-GB",
    )
    return f"<!doctype html>\n{document}\n"


def _head(run: Run, scripts: list[str]) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{run_name(run)} · unvanish"),
        embed_code("style", _resource("page.css")),
    )


def _policy(scripts: list[str]) -> str:
    """Allow the two scripts by their hashes, inline style, images made by plotly, and nothing else at all."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return files("unvanish.report").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as fault:
        raise MissingExtraError('the report draws with plotly: pip install "unvanish[app]"') from fault
    return str(get_plotlyjs())
