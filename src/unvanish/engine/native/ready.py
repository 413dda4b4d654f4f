"""Kernels that come with the package: those of the catalogue, for a few levels of processors.

A wheel holds, for each level, the libraries of the catalogue's kernels as the cache keeps them: named by the hash
of their text, with a checksum behind. So one is found where exactly this text is asked for, and one that is damaged
is not loaded. A clone has none until `make kernels`. Whoever sets CXX wants kernels of his own compiler.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
from pathlib import Path

from unvanish.engine.native.cache import load_whole

FOLDER = Path(__file__).with_name("ready")
# What a processor of a level can do, by the words of Linux (the psABI's table); the highest first.
LEVELS = {
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
    "x86-64-v3": "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "x86-64-v2": "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3",
}
ARM = "aarch64"


def key(text: str, runtime: str) -> str:
    """Return the name of a kernel's library, without its ending."""
    return hashlib.sha256(f"{text}\0{runtime}".encode()).hexdigest()[:20]


def levels(machine: str, processor: str) -> list[str]:
    """Return the levels that a processor can run, the highest first.

    >>> levels("x86_64", "flags : sse4_1 sse4_2 ssse3 popcnt cx16 lahf_lm avx2")
    ['x86-64-v2']
    >>> levels("aarch64", "")
    ['aarch64']
    """
    if machine.lower() in (ARM, "arm64"):
        return [ARM]
    known = set(re.findall(r"\w+", processor))
    able: list[str] = []
    for level, words in reversed(LEVELS.items()):
        if not known >= set(words.split()):
            break
        able.insert(0, level)
    return able


def find(text: str, runtime: str, processor: str) -> ctypes.CDLL | None:
    """Return the library of a kernel's text if one came with the package, is whole, and loads here."""
    place = _place(text, runtime, processor)
    return None if place is None else load_whole(place)


def holds(text: str, runtime: str, processor: str) -> bool:
    """Whether the library of a text came with the package."""
    return _place(text, runtime, processor) is not None


def _place(text: str, runtime: str, processor: str) -> Path | None:
    if os.environ.get("CXX") or not any_here():
        return None
    name = f"{key(text, runtime)}.so"
    places = (FOLDER / level / name for level in levels(platform.machine(), processor))
    return next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113


@functools.lru_cache(maxsize=1)
def any_here() -> bool:
    """Whether the package has kernels for this system at all: a clone has none."""
    return platform.system() == "Linux" and os.path.isdir(FOLDER)  # noqa: PTH112  (false where nobody may look)
