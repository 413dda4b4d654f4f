"""C++ text -> loaded library: the system's compiler, once, kept in the user's cache folder.

A library's name is the hash of its source, the compiler, the flags and the processor. It is written under a
temporary name and renamed, so that two processes may race; a broken file is compiled anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import platformdirs
import torch

COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: it breaks the rounding by adding a large number, and what NaN and infinity mean.
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
TIME_LIMIT = 120.0


class BuildError(Exception):
    """No library could be made; the message says why and what would help."""


@functools.lru_cache(maxsize=1)
def compiler() -> tuple[str, str] | None:
    """Return the path of the first C++ compiler that works ($CXX first), and its version."""
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        path = shutil.which(name) if name else None
        if path is None:
            continue
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
            return path, shown.stdout.splitlines()[0]
    return None


def cache_folder() -> Path:
    """Return the folder of compiled kernels, made with mode 0700; a temporary one where that cannot be."""
    folder = Path(platformdirs.user_cache_dir("unvanish")) / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        probe.close()
    except OSError:
        return _temporary_folder()
    return folder


@functools.lru_cache(maxsize=1)
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="unvanish-kernels-"))


@functools.lru_cache(maxsize=1)
def _runtime() -> str:
    return resources.files("unvanish.engine.native").joinpath("runtime.h").read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    lines = [line for line in text.splitlines() if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(dict.fromkeys(lines))


def library(text: str) -> ctypes.CDLL:
    """Return the loaded library of a kernel's text, compiled if it is not in the cache."""
    found = compiler()
    if found is None:
        raise BuildError("no C++ compiler was found: install g++ (Debian: apt-get install g++), or set CXX")
    path, version = found
    key = "\0".join([text, _runtime(), version, " ".join(FLAGS), _processor()])
    target = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.so"
    if target.exists():
        with contextlib.suppress(OSError, AttributeError):
            return _load(target)
        target.unlink(missing_ok=True)
    _compile(path, text, target)
    try:
        return _load(target)
    except (OSError, AttributeError) as fault:
        raise BuildError(f"the compiled kernel cannot be loaded: {fault}") from fault


def _load(path: Path) -> ctypes.CDLL:
    _share_openmp()
    loaded = ctypes.CDLL(str(path))
    for function in (loaded.forward, loaded.backward):
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return loaded


@functools.lru_cache(maxsize=1)
def _share_openmp() -> None:
    """Make torch's own OpenMP runtime the one that our kernels find: one pool of threads, not two."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _compile(compiler_path: str, text: str, target: Path) -> None:
    print("unvanish: compiling a kernel for this machine, once …", file=sys.stderr, flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="unvanish-") as folder:
        source, made = Path(folder) / "kernel.cpp", Path(folder) / "kernel.o"
        source.write_text(text, encoding="utf-8")
        (Path(folder) / "runtime.h").write_text(_runtime(), encoding="utf-8")
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".kernel-", suffix=".so")
        os.close(descriptor)
        try:
            _run([compiler_path, *FLAGS, "-c", str(source), "-o", str(made)])
            # Linked without -fopenmp: the OpenMP symbols are torch's, which is loaded already.
            _run([compiler_path, "-shared", str(made), "-o", temporary])
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} did not end within {TIME_LIMIT:.0f} s") from None
    except OSError as fault:
        raise BuildError(f"{command[0]} cannot be run: {fault}") from fault
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise BuildError(f"{command[0]} failed: {first}")
