"""The rules of the house, kept by machines: who may import whom, how long a file and a function may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unvanish
from unvanish.nn.named import class_name

SOURCE = Path(unvanish.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# A room, and the rooms that it may import. What is plain is open to all; the private names of torch are open to
# whoever may import torch.
LAW = {
    "equations": set(),
    "cells": {"equations"},
    "engine": {"equations", "cells"},
    "nn": {"equations", "cells", "engine"},
    "flow": {"equations", "engine", "nn", "data", "figures"},
    "remedies": {"equations", "engine", "nn", "flow"},
    "diagnosis": {"cells", "nn", "flow", "remedies", "data", "bench"},
    "bench": {"equations", "engine", "nn"},
    "data": set(),
    "tasks": {"data"},
    "export": {"equations", "engine", "nn"},
    "train": {"equations", "cells", "engine", "nn", "flow", "remedies", "diagnosis", "data", "tasks"},
    "estimators": {"equations", "data", "train"},
    "hugging_face": {"diagnosis"},
    "report": set(),
    "figures": set(),
    "cli": {"equations", "cells", "engine", "nn", "bench", "train", "diagnosis", "report", "export"},
}
OPEN = {"checks", "errors", "layer_options", "own_file", "record", "torch_internals", "waiting"}
LATE = {"record": {"figures"}}  # what draws a result is imported inside its methods
TORCHLESS = {"equations", "cells", "figures", "report", "checks", "errors", "layer_options", "own_file", "record"}
TORCHLESS |= {"waiting"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "unvanish"}
    return found


PRIVATE = {"_C", "_version", "_cdata", "_current_level", "_execution_engine", "_disable_current_modes"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_private_names_of_torch_stand_in_one_file(path: Path) -> None:
    if path.name == "torch_internals.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            whole = ast.unparse(node)
            assert node.attr not in PRIVATE, whole
            assert not re.match(r"torch\._[a-zA-Z]", whole), whole
            assert not (whole.startswith("torch.ops.mkldnn") and node.attr.startswith("_")), whole
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("torch", "lightning"):
            assert not any(part.startswith("_") for part in (node.module or "").split(".")), node.module
            assert not any(alias.name.startswith("_") for alias in node.names), ast.unparse(node)


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_imports_only_what_its_room_may(path: Path) -> None:
    here = room(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("unvanish.")}
    if here in LAW:
        assert ours - OPEN - {here} <= LAW[here]
    elif here in OPEN:
        assert ours <= OPEN | LATE.get(here, set())
    if here in TORCHLESS:
        assert not {name for name in imports(path) if name.split(".")[0] == "torch"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= (60 if room(path) == "cells" and path.name != "__init__.py" else 400)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.name}"


def at_import(node: ast.AST) -> set[str]:
    """Every module that is imported when a file is, by nobody who calls a function."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return set()
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return set().union(*map(at_import, ast.iter_child_nodes(node)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_draws_is_imported_when_it_is_asked_to(path: Path) -> None:
    found = at_import(ast.parse(path.read_text(encoding="utf-8")))
    assert "matplotlib" not in {name.split(".")[0] for name in found}
    assert room(path) == "figures" or not {name for name in found if name.startswith("unvanish.figures")}


def test_every_room_is_in_the_law() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms - OPEN == set(LAW)


def test_public_names() -> None:
    fixed = {"Cell", "Diagnosis", "Drawn", "Grouped", "Recurrent", "cells", "diagnose", "errors", "flow", "watch"}
    fixed |= {
        "MLP",
        "ResidualMLP",
        "DenseMLP",
        "HighwayMLP",
        "clip",
        "convert",
        "init",
        "load",
        "pace",
        "penalty",
        "tasks",
        "export",
    }
    classes = {class_name(cell) for cell in unvanish.cells.values()}
    assert set(unvanish.__all__) == fixed | classes
    assert {"RNN", "LSTM", "GRU", "GRUResetBefore", "PeepholeLSTM", "LeakyRNN", "ClockworkRNN"} <= classes
    for name in unvanish.__all__:
        assert getattr(unvanish, name) is not None
    for cell in unvanish.cells.values():
        assert getattr(unvanish, class_name(cell))(2, 3).cell is cell


LIGHT = f"""
import importlib, sys
for room in {sorted(TORCHLESS)}:
    importlib.import_module(f"unvanish.{{room}}")
    assert "torch" not in sys.modules, room
import unvanish
assert unvanish.flow.__name__ == "unvanish.flow"
assert unvanish.cells["lstm"], "the catalogue, not the room of that name"
assert unvanish.LSTM is unvanish.nn.LSTM
assert {{*unvanish.__all__}} <= {{*dir(unvanish)}}
names = {{}}
exec("from unvanish import *", names)
assert {{*unvanish.__all__}} == {{*names}} - {{"__builtins__"}}
import unvanish.cli.app, unvanish.diagnosis, unvanish.record
assert not {{"matplotlib", "polars", "lightning", "sklearn", "transformers"}} & {{*sys.modules}}
"""


def test_the_package_and_its_torchless_rooms_load_no_torch_until_a_name_is_asked_for() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    for name in ("LSTN", "__wrapped__"):
        assert not hasattr(unvanish, name)


def test_package_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


FACTORIES = {"arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros"}


@pytest.mark.parametrize("name", ["engine", "nn", "flow", "remedies", "export"])
def test_no_tensor_is_made_on_the_default_device_of_whoever_calls(name: str) -> None:
    for path in (SOURCE / name).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Attribute(ast.Name("torch"), factory)) if factory in FACTORIES:
                    given = {keyword.arg for keyword in node.keywords}
                    assert given & {"device", None}, f"{path}:{node.lineno} has no device="


def test_finding_recurrences_needs_no_measurement() -> None:
    for path in (SOURCE / "flow" / "finding").glob("*.py"):
        assert not {name for name in imports(path) if name.startswith("unvanish.flow.measuring")}
