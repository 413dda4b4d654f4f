"""What a notebook shows of a result: its line, small tables, the picture. Every text is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from unvanish.figures.kinds import Table

PIXELS = 150  # on a screen, for an inch on paper


def page(line: str, tables: Sequence[Table], picture: bytes | None, width: float = 0.0) -> str:
    """Write the HTML of a result; `picture` is an SVG, as wide as so many inches on paper.

    The picture stands in an image of its own, for the style sheet and the names of an SVG hold for the whole page
    that it stands in, and a notebook that is not trusted drops it.
    """
    parts = [f"<p><strong>{html.escape(line)}</strong></p>", *map(_table, tables)]
    if picture is not None:
        data = base64.b64encode(picture).decode()
        source, size = f"data:image/svg+xml;base64,{data}", f"width:{PIXELS * width:.0f}px;max-width:100%"
        parts.append(f'<img src="{source}" alt="{html.escape(line)}" style="{size}">')
    return f'<div class="unvanish">{"".join(parts)}</div>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(one)}</th>" for one in table.header)
    rows = ("".join(f"<td>{_cell(one)}</td>" for one in row) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    """Escape a text, and keep a number with the sign beside it."""
    return html.escape(text).replace("≥ ", "≥&nbsp;").replace(" ×", "&nbsp;×").replace(" %", "&nbsp;%")
