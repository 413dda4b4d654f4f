"""What a notebook shows of a result: its line, small tables, the picture. Every text is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from unvanish.figures.kinds import Table


def page(line: str, tables: Sequence[Table], picture: bytes | None) -> str:
    """Write the HTML of a result; `picture` is an SVG.

    The picture stands in an image of its own, for the style sheet and the names of an SVG hold for the whole page
    that it stands in, and a notebook that is not trusted drops it.
    """
    parts = [f"<p><strong>{html.escape(line)}</strong></p>", *map(_table, tables)]
    if picture is not None:
        data = base64.b64encode(picture).decode()
        parts.append(f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(line)}">')
    return f'<div class="unvanish">{"".join(parts)}</div>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(one)}</th>" for one in table.header)
    rows = ("".join(f"<td>{html.escape(one)}</td>" for one in row) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
