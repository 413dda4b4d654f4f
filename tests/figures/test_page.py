"""The page on figures: its code runs, and it has every view of every result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.figures import found
from unvanish.figures import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "figures.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/figures.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"by-hand.png", "profile.pdf", "both.svg"}


def test_the_page_has_every_view_of_every_result(tmp_path: Path) -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    told = {name.rpartition(".")[2]: re.findall(r"`(\w+)`", views) for name, views in rows.items()}
    results = found.every_kind(tmp_path).values()
    assert told == {type(one).__name__: [*KINDS[one.shown_as].views] for one in results}
