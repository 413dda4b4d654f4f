"""C++ text -> loaded library: the system's compiler, once, kept in the user's cache folder.

A library's name is the hash of its source, the compiler, the flags and the processor. It ends in a checksum, and
is written under a temporary name and renamed: processes may race, and a file that is cut off or damaged is
compiled again (mapped as it is, it could end the process). Where nothing can be kept, every process compiles for
itself.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from unvanish.engine.native import ready
from unvanish.engine.native.cache import (
    cache_folder,
    content_of,
    is_whole,
    keep,
    load,
    load_kept,
    opened_library,
)
from unvanish.engine.native.toolchain import PASSES, Compiler, System, commands, compile_line, link_line
from unvanish.engine.native.workshop import BuildError, Group, group, workshop

# What a compiler must make a library of before it is used: vectors, threads, and the functions of a kernel.
TRIAL = """
typedef float real;
#define SINGLE 1
#define VECTOR 32
#include "runtime.h"
EXPORT void forward(int* threads) {
  in_parallel(2, [&](int thread, int) { threads[thread] = LANES; });
}
EXPORT void backward(void*) {}
"""
TIME_LIMIT = 120.0
TRIAL_TIME_LIMIT = 30.0
VERSION_TIME_LIMIT = 10.0
COMPILED: list[float] = []  # how many seconds each kernel took that this process has compiled
PASSED_OVER: list[str] = []  # why each compiler that was found is not used


@functools.lru_cache(maxsize=1)
def compiler() -> Compiler | None:
    """Return the first C++ compiler that makes a library: $CXX, the usual names, then the one from a wheel."""
    PASSED_OVER.clear()
    for command in commands(os.environ.get("CXX", "")):
        try:
            return _tried(Compiler(command, _version(command)))
        except BuildError as fault:
            PASSED_OVER.append(str(fault))
    return None


def _tried(found: Compiler) -> Compiler:
    """Return a compiler that makes a library that loads here. The trial is kept as every kernel is."""
    target, _ = _target(found, TRIAL, "trial")
    if target is None or load_kept(target) is None:
        _make(found, TRIAL, TRIAL_TIME_LIMIT, target)
    return found


def no_compiler() -> str | None:
    """Say why there is no C++ compiler, and what to do; None where there is one."""
    return None if compiler() is not None else _without_compiler()


def _without_compiler() -> str:
    if System.here().name == "Windows":
        return "kernels are compiled on Linux and macOS only yet: run it in WSL"
    why = f"works ({PASSED_OVER[0].partition('; set CXX')[0]})" if PASSED_OVER else "was found"
    return f"no C++ compiler {why}: pip install 'unvanish[compiler]', or install g++, or set CXX"


def _version(command: tuple[str, ...]) -> str:
    try:
        with group() as alone:
            said = alone.run([*command, "--version"], VERSION_TIME_LIMIT)
    except OSError as fault:
        raise BuildError(f"no program can be started: {fault}") from fault
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        raise BuildError(f"{command[0]} does not say which compiler it is; set CXX to another")
    return lines[0]


@functools.lru_cache(maxsize=1)
def runtime() -> str:
    """Return the text that every kernel's includes."""
    return resources.files("unvanish.engine.native").joinpath("runtime.h").read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    """What -march=native depends on: the first processor's names and features (there may be hundreds)."""
    found = [platform.machine()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            for line in stream:
                if not line.strip():
                    break
                if line.startswith(("vendor", "cpu family", "model", "stepping", "flags", "Features", "CPU ")):
                    found.append(line)
    except OSError:
        found.append(platform.processor())
    return "\n".join(found)


def levels_here() -> list[str]:
    """The levels of kernels of the package that this processor can run, the highest first."""
    return ready.levels(platform.machine(), _processor())


def is_ready(text: str) -> bool:
    """Whether the library of a text came with the package."""
    return ready.holds(text, runtime(), _processor())


def vector_bytes() -> int:
    """How many bytes a vector of this processor has: 64 with AVX-512; 32 with AVX2, and in two halves elsewhere."""
    return 64 if re.search(r"\bavx512f\b", _processor()) else 32


def library(text: str, name: str = "a", in_two: bool = False) -> ctypes.CDLL:
    """Return the loaded library of a kernel's text, compiled if it neither came with the package nor is kept.

    `name` is for who reads along. With `in_two` two compilers work side by side, on a pass each: the text leaves
    the other one out where a name of toolchain.PASSES is defined.

    Raises:
        BuildError: there is no compiler, or it failed, or what it made cannot be loaded.
    """
    found = ready.find(text, runtime(), _processor())
    if found is not None:
        return found
    using = compiler()
    if using is None:
        raise BuildError(_without_compiler())
    target, hindrance = _target(using, text)
    loaded = None if target is None else load_kept(target)
    if loaded is None:
        _tell(f"unvanish: compiling {name} kernel{'' if target is None else ', once'} …")
        begin = time.perf_counter()
        loaded, hindrance = _make(using, text, TIME_LIMIT, target, hindrance, PASSES if in_two else ("",))
        COMPILED.append(time.perf_counter() - begin)
        if hindrance:
            _warn(f"compiled kernels cannot be kept, every process compiles its own: {hindrance}")
    return loaded


def _target(using: Compiler, text: str, suffix: str = "so") -> tuple[Path | None, str]:
    """Where the library of a text is kept, or what stands in the way."""
    key = "\0".join([text, runtime(), *compile_line(using, System.here(), "", ""), using.version, _processor()])
    try:
        return cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.{suffix}", ""
    except OSError as fault:
        return None, str(fault)


def _make(
    using: Compiler,
    text: str,
    seconds: float,
    target: Path | None,
    hindrance: str = "",
    passes: Sequence[str] = ("",),
) -> tuple[ctypes.CDLL, str]:
    """Compile, keep and load; where it cannot be kept, say what stands in the way."""
    try:
        with workshop() as (workers, folder):
            made = _compile(using, text, workers, seconds, passes)
            with opened_library(made.name, folder) as descriptor:
                content = content_of(descriptor)
                if not is_whole(content):
                    raise OSError(f"{using.command[0]} wrote a part of a library")
                if target is not None:
                    try:
                        return keep(content, target), ""
                    except OSError as fault:
                        hindrance = f"{target.parent} takes no library ({fault.strerror or fault})"
                return load(descriptor, str(made)), hindrance  # still mapped when its file is gone
    except FileNotFoundError as fault:
        raise BuildError(f"{using.command[0]} wrote no library ({fault}); set CXX to another, or TMPDIR") from fault
    except OSError as fault:
        raise BuildError(f"no library can be written and loaded: {fault}; make room, or set TMPDIR") from fault


def _compile(using: Compiler, text: str, workers: Group, seconds: float, passes: Sequence[str]) -> Path:
    assert workers.folder is not None
    source, made = workers.folder / "kernel.cpp", workers.folder / "kernel.so"
    source.write_text(text, encoding="utf-8")
    (workers.folder / "runtime.h").write_text(runtime(), encoding="utf-8")
    objects = {alone: str(workers.folder / f"kernel{alone}.o") for alone in passes}
    here = System.here()
    lines = [compile_line(using, here, str(source), half, alone=alone) for alone, half in objects.items()]
    workers.run_all(lines, seconds)
    workers.run(link_line(using, here, list(objects.values()), str(made)), seconds)
    return made


def _tell(text: str) -> None:
    """Say something to a person who waits: on a terminal, or in a notebook, whose error stream is none.

    Nobody waits for a script, and who reads its error stream is not to find more on a first run than later.
    """
    stream = sys.stderr
    if stream is not None and (hasattr(sys, "ps1") or stream.isatty()):
        print(text, file=stream, flush=True)


@functools.lru_cache
def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)
