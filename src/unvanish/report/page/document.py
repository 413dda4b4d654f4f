"""One file that asks nothing of any network: head, policy, style, what it shows, and the data of its pictures."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from unvanish.report.page.blocks import Gallery, contents
from unvanish.report.page.markup import Child, Html, element, embed_code, embed_json, embed_packed


def document(title: str, head: Html, parts: Sequence[Child], gallery: Gallery, summaries: dict[str, Any]) -> str:
    """Write a whole page: its head, what it contains, its parts.

    `summaries` are embedded as data, by name, for programs that read the page.
    """
    scripts = [_resource("page.js")]
    page = element(
        "html",
        _head(title, scripts),
        element(
            "body",
            element("main", head, contents(parts), *parts),
            *(embed_json(summary, name) for name, summary in summaries.items()),
            embed_packed(gallery.pictures, "pictures"),
            *(embed_code("script", script) for script in scripts),
        ),
        lang="en-GB",
    )
    return f"<!doctype html>\n{page}\n"


def _head(title: str, scripts: list[str]) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · unvanish"),
        embed_code("style", _resource("page.css")),
    )


def _policy(scripts: list[str]) -> str:
    """Allow the script by its hash, inline style, images that lie in the page, and nothing else at all."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return files("unvanish.report.page").joinpath(name).read_text(encoding="utf-8")
