"""Build the kernels that a wheel brings: of every cell of the catalogue, for each level of processors.

    python release/kernels.py --machine x86_64 [--cells lstm gru] [--jobs 2]

They are compiled by the clang of `ziglang`, for whatever machine this runs on, read no header and are linked with
no library: so one build serves every Linux, whatever its C library. Each is written as the cache keeps them, with
its checksum behind.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import unvanish
from unvanish.engine import make_plan
from unvanish.engine.ir.lower import lower
from unvanish.engine.native import ready
from unvanish.engine.native.build import runtime
from unvanish.engine.native.cache import with_checksum
from unvanish.engine.native.emit import emit
from unvanish.engine.native.toolchain import OF_THE_WHEEL, Compiler, System, compile_line, link_line
from unvanish.equations import System as Equations
from unvanish.equations.backends import unsupported_by_native


class Level(NamedTuple):
    """A kind of processor: its name, its machine, what zig calls it, and how many bytes its vectors have."""

    name: str
    machine: str
    processor: str
    vector: int

    @property
    def system(self) -> System:
        """What it is a processor of."""
        return System("Linux", self.machine)

    @property
    def compiler(self) -> Compiler:
        """What compiles for it, on whatever machine."""
        return Compiler((*OF_THE_WHEEL, "-target", f"{self.machine}-linux-gnu"), "")


LEVELS = {
    "x86_64": [
        Level("x86-64-v2", "x86_64", "x86_64_v2", 32),
        Level("x86-64-v3", "x86_64", "x86_64_v3", 32),
        Level("x86-64-v4", "x86_64", "x86_64_v4", 64),
    ],
    "aarch64": [Level(ready.ARM, "aarch64", "generic", 32)],
}


def systems(cells: list[str]) -> Iterator[Equations]:
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


def build(text: str, level: Level, included: str) -> Path:
    """Compile one kernel and return where it was put."""
    made = ready.FOLDER / level.name / f"{ready.key(text, included)}.so"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.cpp").write_text(text, encoding="utf-8")
        (folder / "runtime.h").write_text(included, encoding="utf-8")
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": name, "ZIG_LOCAL_CACHE_DIR": name}
        for line in (
            compile_line(level.compiler, level.system, "kernel.cpp", "kernel.o", f"-mcpu={level.processor}"),
            [*link_line(level.compiler, level.system, ["kernel.o"], "kernel.so"), "-Wl,-s"],
        ):
            subprocess.run(line, check=True, env=environment, cwd=folder)
        content = (folder / "kernel.so").read_bytes()
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(with_checksum(content))
    return made


def build_all(machine: str, cells: list[str], levels: list[str] | None, jobs: int) -> list[Path]:
    """Build what is asked for, in place of what was built before."""
    shutil.rmtree(ready.FOLDER, ignore_errors=True)
    wanted = [level for level in LEVELS[machine] if levels is None or level.name in levels]
    work = [(text, level) for level in wanted for text in texts(cells, level.vector)]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda one: build(*one, runtime()), work))


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
