"""Build the kernels that a wheel brings: of every cell of the catalogue, for each level of processors.

    python release/kernels.py --machine x86_64 [--cells lstm gru] [--jobs 2]

They are compiled by the clang of `ziglang`, for whatever machine this runs on, read no header and are linked with
no library: so one build serves every Linux, whatever its C library. Each is written as the cache keeps them, with
its checksum behind.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import unvanish
from unvanish.engine import make_plan
from unvanish.engine.ir.lower import lower
from unvanish.engine.native import ready
from unvanish.engine.native.emit import emit
from unvanish.engine.native.toolchain import FLAGS
from unvanish.equations.backends import unsupported_by_native
from unvanish.equations.system import System

ZIG = (sys.executable, "-m", "ziglang", "c++")


class Level(NamedTuple):
    """A kind of processor: its name, what zig calls it, and how many bytes its vectors have."""

    name: str
    target: str
    processor: str
    vector: int


LEVELS = {
    "x86_64": [
        Level("x86-64-v2", "x86_64-linux-gnu", "x86_64_v2", 32),
        Level("x86-64-v3", "x86_64-linux-gnu", "x86_64_v3", 32),
        Level("x86-64-v4", "x86_64-linux-gnu", "x86_64_v4", 64),
    ],
    "aarch64": [Level(ready.ARM, "aarch64-linux-gnu", "generic", 32)],
}


def systems(cells: list[str]) -> Iterator[System]:
    """Yield the equations of the cells, and those of torch.nn.RNN with relu, as layers run them."""
    for name in cells:
        yield unvanish.Recurrent(unvanish.cells[name], 2, 3).system
    if "rnn" in cells:
        yield unvanish.RNN(2, 3, nonlinearity="relu").system


def texts(cells: list[str], vector: int) -> list[str]:
    """Return the texts of the kernels: input multiplied inside the loop or before, single and double precision."""
    found: dict[str, None] = {}
    for system in systems(cells):
        if unsupported_by_native(system) is None:
            for fold, double in itertools.product((True, False), (False, True)):
                found[emit(lower(make_plan(system), fold), double, vector).text] = None
    return list(found)


def build(text: str, level: Level, runtime: str) -> Path:
    """Compile one kernel and return where it was put."""
    made = ready.FOLDER / level.name / f"{ready.key(text, runtime)}.so"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.cpp").write_text(text, encoding="utf-8")
        (folder / "runtime.h").write_text(runtime, encoding="utf-8")
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": name, "ZIG_LOCAL_CACHE_DIR": name}
        to = ["-target", level.target, f"-mcpu={level.processor}"]
        half = [*FLAGS, "-fPIC", "-g0", "-fno-sanitize=undefined", "-c", "kernel.cpp", "-o", "kernel.o"]
        whole = ["-shared", "-nostdlib", "-Wl,-s", "kernel.o", "-o", "kernel.so"]
        for line in (half, whole):
            subprocess.run([*ZIG, *to, *line], check=True, env=environment, cwd=folder)
        content = (folder / "kernel.so").read_bytes()
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(content + hashlib.sha256(content).digest())
    return made


def build_all(machine: str, cells: list[str], levels: list[str] | None, jobs: int) -> list[Path]:
    """Build what is asked for, in place of what was built before."""
    shutil.rmtree(ready.FOLDER, ignore_errors=True)
    runtime = resources.files("unvanish.engine.native").joinpath("runtime.h").read_text(encoding="utf-8")
    wanted = [level for level in LEVELS[machine] if levels is None or level.name in levels]
    work = [(text, level) for level in wanted for text in texts(cells, level.vector)]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda one: build(*one, runtime), work))


def main() -> None:
    """Read what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--machine", choices=LEVELS, default="x86_64")
    parser.add_argument("--cells", nargs="+", default=list(unvanish.cells), choices=list(unvanish.cells))
    parser.add_argument("--levels", nargs="+", help="only these, as x86-64-v3")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    made = build_all(asked.machine, asked.cells, asked.levels, asked.jobs)
    size = sum(path.stat().st_size for path in made)
    print(f"{len(made)} kernels for {asked.machine}, {size / 1e6:.1f} MB, in {ready.FOLDER}")  # noqa: T201


if __name__ == "__main__":
    main()
