"""Files that a kill at any moment leaves whole, and the right to write into a folder."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unvanish.errors import RunError

LOCK = ".lock"


def finite(value: Any) -> Any:
    """Replace every non-finite number in a JSON-like value by None.

    >>> finite({"a": [1.0, float("nan")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill or a power cut at any moment, sees the old content or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write_through(stream, content)
        os.chmod(temporary, 0o644)  # noqa: PTH101  (mkstemp made it 0600)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_through(stream: Any, content: bytes) -> None:
    """Write to an open file and wait until the disk has it."""
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows which names a folder has: without it a power cut may undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def leftovers(folder: Path, *names: str) -> list[Path]:
    """Return the temporary files and folders that a kill left where `write_atomically` wrote these names."""
    beginnings = tuple(f".{name}." for name in names)
    return [path for path in folder.iterdir() if path.name.startswith(beginnings)]


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove `leftovers`."""
    for path in leftovers(folder, *names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


class Claim:
    """The right to write into a run's folder: one process has it at a time, and a kill gives it back.

    Raises:
        RunError: another process has it; its number is named.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor = self._open()
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        except OSError:  # the disk is full
            self.release()
            raise

    def _open(self) -> int:
        import fcntl  # there is none on Windows, where nothing is trained but all else works

        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._path.exists() and os.path.samestat(os.fstat(descriptor), self._path.stat()):
                    return descriptor
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip()
                os.close(descriptor)
                process = f"process {holder}" if holder else "another process"
                raise RunError(
                    f"{self._path.parent} is in use by {process}: wait until it ends, or stop it first"
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder removed it between our opening and our locking

    def release(self) -> None:
        """Give the right back."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()
