"""A cell of one's own from a file; what is none is refused in one line that says what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runs import silent, small
from unvanish.errors import OptionError
from unvanish.record import RunRecord
from unvanish.train import own_cell, resume, train

PYTHON = """
from unvanish import Cell
LEAKY = Cell("leaky", "h[t] = 0.5 * h[t-1] + 0.5 * tanh(W @ x[t] + U @ h[t-1] + b)")
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_cells.py"
    path.write_text(PYTHON, encoding="utf-8")
    return path


def test_a_run_with_a_cell_of_a_file_goes_on_without_the_file(file: Path, tmp_path: Path) -> None:
    cell = own_cell(f"{file}:LEAKY")
    assert cell is not None
    settings = small(tmp_path, cell=f"{file}:LEAKY", epochs=1)
    train(settings, tmp_path / "run", cell=cell, say=silent)
    file.unlink()
    resume(tmp_path / "run", epochs=2, say=silent)
    assert RunRecord(tmp_path / "run").read_config().cell.name == "leaky"


def test_a_name_of_the_catalogue_is_no_file() -> None:
    assert own_cell("lstm") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{file}", "say which cell in it"),
        ("{file}:NONE", "is not a Cell: it has LEAKY"),
        ("{file}:number", "is not a Cell"),
        ("nowhere.py:A", "does not exist"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_what_is_no_cell_is_refused(file: Path, name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        own_cell(name.format(file=file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a", "equations is missing"),
        ("name: a\nequations: h[t] = 1 +", "cell.yaml"),
        ("[1, 2]", "cell.yaml"),
        ("name: !!python/object:os.system x", "cannot be read"),
        ("name: a\nequations: h[t] = h[t-1]\nevil: 1", "evil"),
    ],
)
def test_yaml_that_is_no_cell_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "cell.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=words):
        own_cell(str(path))


def test_a_file_that_fails_is_named_with_its_fault(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(OptionError, match="ZeroDivisionError"):
        own_cell(f"{path}:A")


def test_a_file_finds_what_lies_beside_it_and_is_read_again_when_it_has_changed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "equations_beside.py").write_text("SHARE = 0.5\n", encoding="utf-8")
    shared = PYTHON.replace('"h[t] = 0.5', 'f"h[t] = {SHARE}')
    file.write_text(f"from equations_beside import SHARE\n{shared}", encoding="utf-8")
    cell = own_cell(f"{file}:LEAKY")
    assert cell is not None
    assert cell.equations.startswith("h[t] = 0.5 * h[t-1]")
    file.write_text(PYTHON.replace("0.5 * h", "0.25 * h"), encoding="utf-8")
    again = own_cell(f"{file}:LEAKY")
    assert again is not None
    assert again.equations.startswith("h[t] = 0.25 * h[t-1]")


def test_a_file_that_ends_the_program_is_one_line(file: Path) -> None:
    file.write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    with pytest.raises(OptionError, match="ended the program"):
        own_cell(f"{file}:LEAKY")
