"""What every cell of the catalogue keeps: a small file, a source, a name, a class. Cells are found, not listed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

import unvanish
from unvanish import Cell, cells, nn
from unvanish.cells import find
from unvanish.errors import OptionError
from unvanish.nn.named import class_name

CATALOGUE = importlib.import_module("unvanish.cells")
FILES = [importlib.import_module(f"unvanish.cells.{m.name}") for m in pkgutil.iter_modules(CATALOGUE.__path__)]
each_cell = pytest.mark.parametrize("name", sorted(cells))


def test_every_cell_in_the_folder_is_in_the_catalogue() -> None:
    written = {value.name for module in FILES for value in vars(module).values() if isinstance(value, Cell)}
    assert written == set(cells)
    assert written >= {"rnn", "lstm", "gru_reset_before", "gru", "peephole_lstm", "clockwork_rnn"}


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_file_is_short_and_says_what_it_holds(module: ModuleType) -> None:
    assert len(Path(inspect.getfile(module)).read_text().splitlines()) <= 60
    assert module.__doc__
    assert any(isinstance(value, Cell) for value in vars(module).values())


@each_cell
def test_a_cell_names_its_source_and_its_use(name: str) -> None:
    cell = cells[name]
    assert cell.name == name
    assert re.search(r"[A-Z]\w+, [A-Z]\..*\((19|20)\d\d\)\. \S.{10,}", cell.cite)
    assert cell.note.endswith(".")
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


@each_cell
def test_a_cell_has_a_layer_class_of_its_own(name: str) -> None:
    cell = cells[name]
    made = getattr(nn, class_name(cell))
    assert made is getattr(unvanish, class_name(cell))
    layer = made(2, 3)
    assert layer.cell is cell
    assert type(layer).__name__ == class_name(cell)
    for part in (cell.note, cell.cite, *cell.options, cell.equations.strip()):
        assert part in (made.__doc__ or "")


def test_no_two_cells_share_a_class() -> None:
    assert len({class_name(cell) for cell in cells.values()}) == len(cells)


@each_cell
def test_a_layer_holds_every_parameter_of_its_cell_and_no_other_number(name: str) -> None:
    layer = unvanish.Recurrent(name, 2, 3)
    system = cells[name].system()
    stored = sum(parameter.numel() for parameter in layer.parameters())
    assert stored == sum(layer[parameter.name].numel() for parameter in system.parameters)
    for parameter in system.parameters:
        wide = {"hidden": 3, "input": 2, "one": 1}
        shape = (wide[parameter.rows], *([wide[parameter.columns]] if parameter.columns else []))
        assert layer[parameter.name].shape == shape


@each_cell
def test_a_cell_survives_as_plain_data(name: str) -> None:
    cell = cells[name]
    again = Cell.from_dict(cell.to_dict())
    assert again.to_dict() == cell.to_dict()
    assert again.system() == cell.system()
    torch.manual_seed(3)
    one, x_TBI = unvanish.Recurrent(cell, 2, 3), torch.randn(5, 2, 2)
    torch.manual_seed(3)
    other = unvanish.Recurrent(again, 2, 3)
    assert torch.equal(one(x_TBI)[0], other(x_TBI)[0])


def test_an_unknown_cell_is_told_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="did you mean 'lstm'"):
        find("lstmm")
