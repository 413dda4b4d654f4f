"""Room for what is read once and then gone through for hours: in memory, or, where it is large, in a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from platformdirs import user_cache_dir

MAPPED_FROM = 1 << 28  # bytes: less may as well stay in memory
PART = 1 << 20  # entries that are worked on at a time


def room_for(count: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of so many entries to be written: a large one lies in a file that goes with the process.

    The file has no name, so that nothing is left behind by a kill; what is not in use stays on the disk.
    """
    kind = np.dtype(dtype)
    if count * kind.itemsize < MAPPED_FROM:
        return np.empty(count, kind)
    folder = Path(user_cache_dir("unvanish"))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, kind, "w+", shape=(count,))


class Store:
    """Takes arrays one after the other; what is much goes to a file on the way."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.kind, self.count = np.dtype(dtype), 0
        self._parts: list[NDArray[Any]] = []
        self._whole: NDArray[Any] = np.empty(0, self.kind)
        self._written = 0

    def append(self, part: NDArray[Any]) -> None:
        """Take an array."""
        self._parts.append(part.astype(self.kind, copy=False))
        self.count += len(part)
        if (self.count - self._written) * self.kind.itemsize >= MAPPED_FROM:
            self._spill()

    def _spill(self) -> None:
        """Move what is held into room for twice as much as there has been."""
        if self.count > len(self._whole):
            wider = room_for(2 * self.count, self.kind)
            for start in range(0, self._written, PART):
                stop = min(start + PART, self._written)
                wider[start:stop] = self._whole[start:stop]
            self._whole = wider
        for part in self._parts:
            self._whole[self._written : self._written + len(part)] = part
            self._written += len(part)
        self._parts = []

    def whole(self) -> NDArray[Any]:
        """Return all of it."""
        if not self._written:
            return np.concatenate(self._parts) if self._parts else np.empty(0, self.kind)
        self._spill()
        return self._whole[: self.count]
