"""The page on estimators: its code runs, and every parameter that it names is one."""

from __future__ import annotations

import re
from pathlib import Path

from unvanish.estimators import SequenceClassifier

PAGE = (Path(__file__).parents[1] / "docs" / "estimators.md").read_text(encoding="utf-8")


def test_all_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/estimators.md", "exec"), {})


def test_every_parameter_is_on_the_page() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE)) | {"verbose"}
    assert {*SequenceClassifier().get_params()} <= named
