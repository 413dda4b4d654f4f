"""The page on data: its code runs, and every option that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from unvanish.train import own_cell

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")


def test_all_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/data.md", "exec"), {})


def test_the_cell_of_the_page_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert yaml.safe_load(text)["name"] == "mgu"
    (tmp_path / "cell.yaml").write_text(text, encoding="utf-8")
    cell = own_cell(str(tmp_path / "cell.yaml"))
    assert cell is not None
    assert [state.name for state in cell.system().states] == ["h"]


def test_every_option_on_the_page_is_one() -> None:
    main = pytest.importorskip("typer.main")
    from unvanish.cli.app import app

    commands = main.get_command(app).commands
    known = {name for command in commands.values() for parameter in command.params for name in parameter.opts}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", PAGE))
    assert len(named) > 15
    assert named <= known
