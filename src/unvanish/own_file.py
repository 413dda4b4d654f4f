"""Python files of a user's own that a command names: `model.py:make`, `my_cells.py:LEAKY`."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module, and return it.

    Its folder stands first on `sys.path`, as where Python runs it, so that it finds what lies beside it. The module
    is in `sys.modules` under the file's own name, with an underscore after it where another module has that: what
    is pickled, and a dataclass, looks its module up there. A file that is given again is run again.

    Raises:
        Exception: whatever the file raises; nothing stays in `sys.modules` then.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "my-model.py"
    >>> _ = path.write_text("size = 3")
    >>> import_file(path).size, "my-model" in sys.modules
    (3, True)
    """
    path = path.resolve()
    given, sys.argv = sys.argv, [str(path)]  # a script that reads its arguments has none
    folder = str(path.parent)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module, before = importlib.util.module_from_spec(spec), sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    finally:
        sys.argv = given
    return module


def raised(fault: BaseException, path: Path | None) -> str:
    """Say what code of a user's own raised, and in which line of its file, where that is known.

    >>> raised(ValueError("no such file"), None)
    'raised ValueError: no such file'
    """
    said = f"raised {type(fault).__name__}: {fault}".removesuffix(": ")
    if path is None or isinstance(fault, SyntaxError):  # that names its line itself
        return said
    file = str(path.resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == file]
    return f"{said} (line {lines[-1]} of {path.name})" if lines else said


def ended(fault: SystemExit, name: str) -> str:
    """Say that code of a user's own ended the program, and how it is kept from that."""
    return (
        f"{name} ended the program ({type(fault).__name__}: {fault}) where it is only imported: put what it does "
        'when it is run under if __name__ == "__main__":'
    )


def _free_name(path: Path) -> str:
    """The file's own name, which no module of another file may lose."""
    name = path.stem
    while name in sys.modules and not _is_of(sys.modules[name], path):
        name += "_"
    return name


def _is_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and os.path.realpath(file) == str(path)
