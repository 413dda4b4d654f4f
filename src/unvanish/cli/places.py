"""Where --out may lead, checked before the work of a command begins."""

from __future__ import annotations

import os
from pathlib import Path

from unvanish.errors import OptionError
from unvanish.record.run import CONFIG, HERE, check_free


def check_file(path: Path, usual: str) -> None:
    """Refuse a place where no file can be written, or that a run needs. A folder that is not there is made later.

    Args:
        path: what --out says.
        usual: the name of a file that would do in a folder.

    Raises:
        OptionError: with the reason, and what to do.
    """
    if path.is_dir():
        raise OptionError(f"--out {path} is a folder: name a file in it, such as {path / usual}")
    if path.exists() and not path.is_file():
        raise OptionError(f"--out {path} is a device, a pipe or a socket: name a file")
    _check_parent(path)
    if path.exists() and not os.access(path, os.W_OK):
        raise OptionError(f"--out {path}: permission denied to write to that file; name another")
    if path.name in HERE and (path.absolute().parent / CONFIG).exists():
        raise OptionError(f"--out {path} is a file of the run {path.absolute().parent.name}: name another")


def check_folder(path: Path) -> None:
    """Refuse a place where no run can be begun.

    Raises:
        OptionError: with the reason, and what to do.
        RunError: the folder is not empty.
    """
    if path.exists() and not path.is_dir():
        raise OptionError(f"--out {path} is a file: name a folder for the run")
    _check_parent(path)
    if path.is_dir():
        _check_access(path, path)
        check_free(path)


def _check_parent(path: Path) -> None:
    folder = path.absolute().parent
    there = next(one for one in (folder, *folder.parents) if one.exists())
    shown = path.parent if there == folder else there
    if not there.is_dir():
        raise OptionError(f"--out {path}: {shown} is a file, not a folder; name another place")
    _check_access(there, path)


def _check_access(folder: Path, path: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"--out {path}: permission denied to write in {folder}; name another place")
