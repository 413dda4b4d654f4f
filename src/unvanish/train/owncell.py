"""A cell of one's own, from a file: `FILE.py:NAME` with a `Cell` of that name, or its text in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unvanish.equations import Cell
from unvanish.errors import CellError, OptionError, UnvanishError
from unvanish.own_file import ended, import_file, raised


def plain_of(path: Path, option: str) -> Any:
    """Read a file of plain YAML that an option names.

    Raises:
        OptionError: it cannot be read.
    """
    from unvanish.record.plain import read_plain

    try:
        return read_plain(path.read_bytes())
    except OSError as fault:
        raise OptionError(f"{option} {path} cannot be read: {fault.strerror}") from fault
    except ValueError as fault:
        raise OptionError(f"{option} {path} cannot be read: {fault}") from fault


def own_cell(name: str) -> Cell | None:
    """Return the cell that a name of a file stands for; None where it is a name of the catalogue.

    A Python file is run, as importing it would; of YAML nothing is.

    Raises:
        OptionError: there is no such file, or no cell of that name in it.
    """
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _of_python(Path(path), attribute)
    if name.endswith((".yaml", ".yml")):
        return _of_yaml(Path(name))
    if name.endswith(".py"):
        raise OptionError(f"--cell {name}: say which cell in it, {name}:NAME")
    return None


def _of_python(path: Path, name: str) -> Cell:
    if not path.is_file():
        raise OptionError(f"--cell {path}:{name}: the file {path} does not exist")
    try:
        module = import_file(path)
    except UnvanishError:
        raise
    except SystemExit as fault:
        raise OptionError(f"--cell {path}:{name}: {ended(fault, path.name)}") from fault
    except Exception as fault:
        raise OptionError(f"--cell {path}:{name}: the file {raised(fault, path)}") from fault
    found = getattr(module, name, None)
    if not isinstance(found, Cell):
        there = [key for key, value in vars(module).items() if isinstance(value, Cell)]
        listed = f"it has {', '.join(there)}" if there else "it has none"
        raise OptionError(f"--cell {path}:{name} is not a Cell: {listed}")
    return found


def _of_yaml(path: Path) -> Cell:
    from pydantic import ValidationError

    from unvanish.record.config import Definition, explain

    plain = plain_of(path, "--cell")
    try:
        return Cell.from_dict(Definition.model_validate(plain).model_dump())
    except ValidationError as fault:
        raise OptionError(f"--cell {path}: {explain(fault)}") from fault
    except CellError as fault:
        raise OptionError(f"--cell {path}: {fault}") from fault
