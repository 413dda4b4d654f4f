"""What the laws on compiling share: a text that compiles at once, compilers that fail, and what is in the cache."""

from __future__ import annotations

import ctypes
import hashlib
import time
from pathlib import Path

from unvanish.engine.native import backend, build, ready
from unvanish.engine.native.build import library
from unvanish.engine.native.cache import FUNCTIONS
from unvanish.engine.native.kernel import load

TEXT = "".join(f'extern "C" void {name}(int* a) {{ *a = 41; }}\n' for name in FUNCTIONS)


def forget() -> None:
    """Let the process know nothing of compilers, hold no kernels, and not have warned."""
    build.compiler.cache_clear()
    ready.any_here.cache_clear()
    backend._came.clear()
    load.clear()
    build._warn.cache_clear()


def works(loaded: ctypes.CDLL) -> bool:
    """Whether a library is that of the text."""
    number = ctypes.c_int(0)
    loaded.forward(ctypes.byref(number))
    return number.value == 41


def compiles(text: str = TEXT) -> int:
    """Load the library of a text, which must work, and return how many times something was compiled for it."""
    before = len(build.COMPILED)
    assert works(library(text))
    return len(build.COMPILED) - before


def kept(cache: Path) -> list[Path]:
    """The kernels in the cache; the trials of compilers are none."""
    return list(cache.glob("*.so"))


def with_checksum(content: bytes) -> bytes:
    """The content of a library as it is kept."""
    return content + hashlib.sha256(content).digest()


def compiler_script(path: Path, *lines: str) -> str:
    """Write a compiler that is a good one until `break_compiler`, and from then on does what the lines say."""
    version = 'case "$1" in --version) echo script 1.0; exit 0;; esac'
    path.write_text("\n".join(["#!/bin/sh", version, 'test -e "$0.broken" || exec c++ "$@"', *lines]))
    path.chmod(0o755)
    return str(path)


def break_compiler(path: str) -> None:
    """Let a compiler fail from now on."""
    Path(f"{path}.broken").touch()


def ends(process: int) -> bool:
    """Whether a process is gone, or a corpse that nobody has buried, now or in a moment."""
    for _ in range(500):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rsplit(")")[-1].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False
