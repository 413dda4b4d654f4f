"""Reads a report as a browser without scripts would."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

JUNK: list[Any] = [None, True, "text", "", [], {}, -1, 0, 1e308, 5e-324, 10**400, [None], {"l0": None}, [[1]], 0.5]
SECTIONS = [
    "Loss",
    "The gradient along time",
    "The pull of the loss on each time step",
    "Size of the gradient and of the parameters",
    "The cell",
    "What it writes",
    "Configuration",
    "Events",
]


class Page(HTMLParser):
    """The elements of a page with their attributes and their text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        texts: list[str] = []
        self.elements.append((tag, dict(attrs), texts))
        if tag not in {"meta", "input", "br", "link"}:
            self._open.append(texts)

    def handle_endtag(self, tag: str) -> None:
        inner = self._open.pop()
        if self._open:
            self._open[-1].extend(inner)

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(texts) for name, _, texts in self.elements if name == tag]

    def having(self, attribute: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes, _ in self.elements if attribute in attributes]

    def data(self, identifier: str) -> Any:
        for _, attributes, texts in self.elements:
            if attributes.get("id") == identifier:
                text = "".join(texts)
                if attributes["type"] == "application/gzip":
                    text = gzip.decompress(base64.b64decode(text)).decode()
                return json.loads(text)
        raise AssertionError(f"no data named {identifier}")

    def reaches(self) -> dict[str | None, tuple[str | None, str | None]]:
        return {one["data-part"]: (one["data-reach"], one["data-censored"]) for one in self.having("data-part")}
