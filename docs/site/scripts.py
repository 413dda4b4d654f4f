"""The scripts of the course, each whole on a page of its own: what a picture of the gallery opens."""

from __future__ import annotations

import re
from pathlib import Path

CODE = Path(__file__).parents[1] / "learn" / "code"
_MARK = re.compile(r"^# --8<-- \[\w+:\w+\]\n", re.MULTILINE)


def script_pages() -> dict[str, str]:
    """Return each page by its place."""
    return {f"scripts/{path.stem}.md": _page(path) for path in sorted(CODE.glob("*.py"))}


def _page(path: Path) -> str:
    text = re.sub(r"\n{4,}", "\n\n\n", _MARK.sub("", path.read_text(encoding="utf-8")))
    about = text.split('"""')[1].strip()
    taught = path.stem.replace("_", "-")
    return "\n".join(
        [
            f"# `{path.name}`",
            "",
            f"{about} [Explained in the course](../learn/{taught}.md).",
            "",
            "It needs `pip install '.[figures]'`, and ends with what it claims, as assertions:",
            "",
            "```python",
            text.strip(),
            "```",
        ]
    )
