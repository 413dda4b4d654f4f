"""Compilers: where one is found, and the command lines that it takes on each system.

gcc, clang and zig's clang build the same kernels. A kernel reads no header and is linked with no library: what it
calls, the functions of C and the threads of OpenMP, torch has loaded already. Linux is where this is tried; the
lines for macOS and Windows are tested as lines, but no kernel has been run there. On Windows none is compiled yet.
"""

from __future__ import annotations

import importlib.util
import platform
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

COMPILERS = ("c++", "g++", "clang++")
WHEEL = "ziglang"  # which `pip install "unvanish[compiler]"` brings
OF_THE_WHEEL = (sys.executable, "-m", WHEEL, "c++")

# No -ffast-math: it breaks the rounding by adding a large number, and what NaN and infinity mean.
# -O2 compiles as long as -O3 and its kernels are up to 1.5 times slower; -O1 takes half as long to compile.
FLAGS = (
    "-O3",
    "-std=c++17",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
# What makes a kernel's text leave the other pass out: two compilers need little more than half the time of one.
PASSES = ("FORWARD_ALONE", "BACKWARD_ALONE")
_ARM = ("aarch64", "arm64")


class Compiler(NamedTuple):
    """How a compiler is called, and what it calls itself."""

    command: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        return f"{shlex.join(self.command)} ({self.version})"


class System(NamedTuple):
    """What a kernel is built for."""

    name: str  # as platform.system() has it
    machine: str

    @classmethod
    def here(cls) -> System:
        """Return this machine's."""
        return cls(platform.system(), platform.machine().lower())


def commands(given: str) -> list[tuple[str, ...]]:
    """Return how the compilers that are there are called: what is given, the usual ones, the one from a wheel."""
    if System.here().name == "Windows":  # where what guards the cache and ends a compiler is not written yet
        return []
    found = [command_of(name) for name in (given, *COMPILERS)]
    if importlib.util.find_spec(WHEEL) is not None:
        found.append(OF_THE_WHEEL)
    return [command for command in found if command]


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


def compile_line(
    using: Compiler, system: System, source: str, made: str, processor: str = "", alone: str = ""
) -> list[str]:
    """Return the command that compiles a kernel, or one pass of it, by default for this very processor.

    >>> line = compile_line(Compiler(("c++",), "g++ 14"), System("Linux", "x86_64"), "k.cpp", "k.o")
    >>> line[-6:]
    ['-march=native', '-fPIC', '-c', 'k.cpp', '-o', 'k.o']
    """
    # Apple's clang knows -march=native for Intel's processors only, gcc both names for Arm's.
    processor = processor or ("-mcpu=native" if system.machine in _ARM else "-march=native")
    own = [*_own(using), *([f"-D{alone}"] if alone else [])]
    return [*using.command, *FLAGS, *own, processor, *_position(system), "-c", source, "-o", made]


def link_line(using: Compiler, system: System, objects: Sequence[str], made: str) -> list[str]:
    """Return the command that makes a library; the symbols that it needs are found when it is loaded.

    >>> link_line(Compiler(("clang++",), "Apple clang 16"), System("Darwin", "arm64"), ["k.o"], "k.so")[1:4]
    ['-shared', '-undefined', 'dynamic_lookup']
    """
    if system.name == "Darwin":
        how = ["-undefined", "dynamic_lookup"]
    elif system.name == "Windows":  # a DLL has to name where everything comes from
        how = []
    else:
        how = ["-nostdlib"]
    return [*using.command, "-shared", *how, *objects, "-o", made]


def _position(system: System) -> tuple[str, ...]:
    return () if system.name == "Windows" else ("-fPIC",)


def _own(using: Compiler) -> tuple[str, ...]:
    """zig checks for undefined behaviour and keeps what debuggers need unless it is told."""
    return ("-fno-sanitize=undefined", "-g0") if WHEEL in using.command else ()
