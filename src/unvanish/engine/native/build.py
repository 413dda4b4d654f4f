"""C++ text -> loaded library: the system's compiler, once, kept in the user's cache folder.

A library's name is the hash of its source, the compiler, the flags and the processor. It ends in a checksum, and
is written under a temporary name and renamed: processes may race, and a file that is cut off or damaged is
compiled anew (mapped as it is, it could end the process). Where nothing can be kept, every process compiles for
itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import platformdirs
import torch

FUNCTIONS = ("forward", "backward", "outer")  # what a kernel's text defines, each with one argument, its structure
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: it breaks the rounding by adding a large number, and what NaN and infinity mean.
# -O2 compiles as long as -O3 and its kernels are up to 1.5 times slower; -O1 takes half as long to compile.
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
VERSION_TIME_LIMIT = 10.0
COMPILED: list[float] = []  # how many seconds each kernel took that this process has compiled
CHECKSUM = hashlib.sha256().digest_size


class BuildError(Exception):
    """No library could be made; the message says why and what would help."""


class Compiler(NamedTuple):
    """How a compiler is called, and what it calls itself."""

    command: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        return f"{shlex.join(self.command)} ({self.version})"


@functools.lru_cache(maxsize=1)
def compiler() -> Compiler | None:
    """Return the first C++ compiler that works: $CXX, which may have arguments, then the usual names."""
    for given in (os.environ.get("CXX", ""), *COMPILERS):
        command = command_of(given)
        if command:
            with contextlib.suppress(BuildError):
                lines = _run([*command, "--version"], VERSION_TIME_LIMIT).split("\n")
                version = next((line.strip() for line in lines if line.strip()), "")
                if version:
                    return Compiler(command, version)
    return None


def command_of(given: str) -> tuple[str, ...]:
    """Find a program, or a program with arguments such as `ccache g++`; nothing where it is not there."""
    path = shutil.which(given)
    if path is not None:
        return (path,)
    try:
        program, *arguments = shlex.split(given)
    except ValueError:  # nothing at all, or quotes that do not close
        return ()
    path = shutil.which(program)
    return () if path is None else (path, *arguments)


def cache_folder() -> Path:
    """Return the folder of compiled kernels: the user's own, closed to everybody else.

    Raises:
        OSError: there can be none, or others could put files into it, which would then be run.
    """
    folder = Path(platformdirs.user_cache_dir("unvanish")) / "kernels"
    if not folder.is_absolute():
        raise OSError(f"{folder} depends on the working folder; set HOME or XDG_CACHE_HOME to a whole path")
    try:
        for made in (folder.parent, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise OSError(f"{folder} cannot be made ({fault.strerror}); set XDG_CACHE_HOME to another") from fault
    found = folder.stat()
    if sys.platform != "win32":
        if found.st_uid != os.geteuid():
            raise OSError(f"{folder} belongs to another user; set XDG_CACHE_HOME to a folder of your own")
        if found.st_mode & 0o022:
            raise OSError(f"others may write to {folder}; empty it, then: chmod 700 {folder}")
        if found.st_mode & 0o077:
            with contextlib.suppress(OSError):
                folder.chmod(0o700)
    return folder


@functools.lru_cache(maxsize=1)
def _runtime() -> str:
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


def vector_bytes() -> int:
    """How many bytes a vector of this processor has: 64 with AVX-512; 32 with AVX2, and in two halves elsewhere."""
    return 64 if re.search(r"\bavx512f\b", _processor()) else 32


def library(text: str, name: str = "a") -> ctypes.CDLL:
    """Return the loaded library of a kernel's text, compiled if it is not kept; `name` is for who reads along.

    Raises:
        BuildError: there is no compiler, or it failed, or what it made cannot be loaded.
    """
    found = compiler()
    if found is None:
        raise BuildError("no C++ compiler was found: install g++ (Debian: apt-get install g++), or set CXX")
    key = "\0".join([text, _runtime(), *found.command, found.version, *FLAGS, _processor()])
    try:
        target = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.so"
    except OSError as fault:
        return _make(found, text, name, None, str(fault))
    loaded = _load_kept(target)
    return _make(found, text, name, target) if loaded is None else loaded


def _make(using: Compiler, text: str, name: str, target: Path | None, hindrance: str = "") -> ctypes.CDLL:
    """Compile, keep and load; where nothing can be kept, say once what stands in the way."""
    once = "" if target is None else ", once"
    print(f"unvanish: compiling {name} kernel{once} …", file=sys.stderr, flush=True)  # noqa: T201
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="unvanish-", ignore_cleanup_errors=True) as folder:
            made = _compile(using, text, Path(folder))
            COMPILED.append(time.perf_counter() - begin)
            if target is not None:
                try:
                    return _load(_keep(made, target))
                except OSError as fault:
                    hindrance = f"{target.parent} takes no library ({fault.strerror or fault})"
            loaded = _load(made)  # still mapped when its file is gone
    except OSError as fault:
        raise BuildError(f"no library can be written and loaded: {fault}; make room, or set TMPDIR") from fault
    _warn(f"compiled kernels cannot be kept, every process compiles its own: {hindrance}")
    return loaded


@functools.lru_cache
def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _compile(using: Compiler, text: str, folder: Path) -> Path:
    source, half, made = folder / "kernel.cpp", folder / "kernel.o", folder / "kernel.so"
    source.write_text(text, encoding="utf-8")
    (folder / "runtime.h").write_text(_runtime(), encoding="utf-8")
    _run([*using.command, *FLAGS, "-c", str(source), "-o", str(half)], TIME_LIMIT)
    # Linked without -fopenmp: the OpenMP symbols are torch's, which is loaded already.
    _run([*using.command, "-shared", str(half), "-o", str(made)], TIME_LIMIT)
    return made


def _run(command: list[str], seconds: float) -> str:
    """Run a program and return what it says; past the time limit end it, and all that it has started."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as fault:
        raise BuildError(f"{command[0]} cannot be run ({fault.strerror}); set CXX to another") from fault
    with process:
        try:
            said = process.communicate(timeout=seconds)[0].decode(errors="replace")
        except BaseException as fault:  # Ctrl-C ends it too
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(fault, subprocess.TimeoutExpired):
                raise
            raise BuildError(f"{command[0]} had not ended after {seconds:g} s; set CXX to another") from None
    if process.returncode != 0:
        raise BuildError(f"{command[0]} failed: {_reason(said, process.returncode)}; set CXX to another")
    return said


def _reason(said: str, status: int) -> str:
    """The line of a compiler's words that says what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line or "cannot" in line or "No space" in line]
    return next(iter(telling + lines), f"it said nothing and returned {status}")[:300]


# -- keeping and loading -------------------------------------------------------------------------------


def _keep(made: Path, target: Path) -> Path:
    """Put a library and its checksum into the cache in one step."""
    content = made.read_bytes()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".so")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content + hashlib.sha256(content).digest())
        return Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _load_kept(path: Path) -> ctypes.CDLL | None:
    """Load a library of the cache if it is there and is what was written."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content[:-CHECKSUM]).digest() == content[-CHECKSUM:]:
            return _load(path)
    return None


def _load(path: Path) -> ctypes.CDLL:
    """Load a library and say how its functions are called. Raises `OSError`."""
    _share_openmp()
    loaded = ctypes.CDLL(str(path))
    for name in FUNCTIONS:
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return loaded


@functools.lru_cache(maxsize=1)
def _share_openmp() -> None:
    """Make torch's own OpenMP runtime the one that our kernels find: one pool of threads, not two."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
