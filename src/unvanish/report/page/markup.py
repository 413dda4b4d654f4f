"""HTML that escapes by default: only what these functions built is ever taken as markup."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from typing import Any

# Characters that HTML forbids even as references; a record may hold them (a sample of a byte model does).
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = frozenset({"br", "input", "link", "meta"})

Attribute = str | int | bool | None


class Html(str):
    """Text that is markup already: made by this module alone; every other string gets escaped."""

    __slots__ = ()


Child = str | None


def escape(text: str) -> Html:
    """Make any text safe as element content and as an attribute value."""
    return Html(html.escape(_FORBIDDEN.sub("\ufffd", text.replace("\r\n", "\n")), quote=True))


def join(*children: Child) -> Html:
    """Put children side by side: markup stays, text is escaped, None is left out."""
    return Html(
        "".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None)
    )


def element(tag: str, *children: Child, **attributes: Attribute) -> Html:
    """Build one element; `class_` and `data_part` name the attributes `class` and `data-part`.

    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def embed_json(value: Any, identifier: str) -> Html:
    """Build a JSON data block; `<` is written `\\u003c`, so that no text in it can end the block."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Html(f'<script type="application/json" id="{escape(identifier)}">{text}</script>')


def embed_packed(value: Any, identifier: str) -> Html:
    """Build a block of much data: JSON, packed with gzip, in base64. The same data give the same block."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    packed = base64.b64encode(gzip.compress(text.encode(errors="replace"), mtime=0)).decode()
    return Html(f'<script type="application/gzip" id="{escape(identifier)}">{packed}</script>')


def embed_code(tag: str, code: str) -> Html:
    """Build a `script` or `style` element from this package's own file, never from a record."""
    return Html(f"<{tag}>{code}</{tag}>")


def plot_text(text: str, limit: int = 32) -> str:
    """Cut any text to what a picture has room for, in one line, without what no document may hold."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return " ".join(_FORBIDDEN.sub("\ufffd", shown).split())


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{escape(str(value))}"'
