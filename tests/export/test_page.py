"""The page on exports: its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_all_code_of_the_page_runs_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/export.md", "exec"), namespace)
    assert "speller_step(&s, x, y)" in Path("speller.c").read_text(encoding="utf-8")
