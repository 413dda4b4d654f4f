"""No kernel reads or writes what is not its own, or what nobody has written: proved by gcc's sanitizers.

The kernels are built with them and run in a process of their own, whose fresh memory is full of NaN. Between the
arrays that a pass lays into one block there are gaps that nobody may touch. That faults are seen is proved with
kernels that are broken on purpose.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import shutil
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from torch import Tensor

from tests.support.strategies import cells as random_cells
from tests.support.whole import usual, whole_only
from unvanish import Cell, Recurrent, cells
from unvanish.engine.native import backend, backward, build, forward, kernel, memory, toolchain
from unvanish.equations.backends import unsupported_by_native
from unvanish.errors import OptionError

# At -O0 the checks are the same, and it compiles three times as fast as at -O1.
FLAGS = (
    *("-O0", "-g1", "-std=c++17", "-Wno-psabi"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
OPTIONS = "detect_leaks=0:max_malloc_fill_size=1000000000:malloc_fill_byte=255"
NAMES = ("lstm", "gru_reset_before", "peephole_lstm", "skip_rnn", "clockwork_rnn")
SIZES = tuple(itertools.product((1, 5), (1, 3, 17), (1, 7, 33)))  # steps, batch, hidden
GAP = 64  # numbers

# What is put behind a kernel's text, around its function: in which pass, and how it is told.
DEFECTS = {
    "a step too many": ("forward", "own.last += 1;", "heap-buffer-overflow"),
    "a unit too many": ("forward", "own.w_hidden += 1;", "heap-buffer-overflow"),
    "a row too many": ("backward", "own.B += 1;", "use-after-poison"),
    "a step that is left out": ("forward", "own.first += 1;", "is not finite"),
    "an overflow": ("backward", "int n = 1 << 30; own.T += n * (int)own.last * 8;", "signed integer overflow"),
}


class Gaps(memory.Layout):
    """Lays arrays into a block with gaps between, which are closed while a kernel runs."""

    known: dict[int, list[tuple[int, int]]] = {}  # noqa: RUF012
    of_slots: dict[int, tuple[object, list[tuple[int, int]]]] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[tuple[int, int]] = []

    def add(self, meaning: str, count: int) -> None:
        super().add(meaning, count)
        place, count = self.places[meaning]
        self.total += GAP
        self.gaps.append((place + count, self.total))

    def slots(self, loaded: kernel.Loaded) -> tuple[tuple[int, int], ...]:
        found = super().slots(loaded)
        self.of_slots[id(found)] = found, self.gaps
        return found


def set_block(
    put: Callable[..., None], call: array[int], slots: tuple[tuple[int, int], ...], block: Tensor
) -> None:
    """Let a call point to the arrays of a block, and remember where its gaps are."""
    start, size = block.data_ptr(), block.element_size()
    Gaps.known[start] = [(start + size * begin, size * (end - begin)) for begin, end in Gaps.of_slots[id(slots)][1]]
    put(call, slots, block)


def closed(loaded: Any, run: Callable[..., None], function: Any, call: array[int]) -> None:
    """Run a kernel's function while the gaps of the blocks that it works in are closed."""
    runtime = ctypes.CDLL(None)
    gaps = [gap for start in set(call) for gap in Gaps.known.get(start, ())]
    for start, size in gaps:
        runtime.__asan_poison_memory_region(ctypes.c_void_p(start), ctypes.c_size_t(size))
    run(loaded, function, call)
    for start, size in gaps:
        runtime.__asan_unpoison_memory_region(ctypes.c_void_p(start), ctypes.c_size_t(size))


def take_fresh(arena: kernel.Arena, count: int, like: Tensor) -> Tensor:
    """Memory that nobody has used before. A pass begins with it: the gaps of the one before are gone."""
    Gaps.known.clear()
    return torch.full((count,), float("nan"), dtype=like.dtype)


def drawn(count: int) -> list[Cell]:
    """Random cells that can be run, and not the simplest: the first are."""
    found: list[Cell] = []

    @settings(database=None, derandomize=True, deadline=None, max_examples=40, phases=[Phase.generate])
    @given(random_cells(tame=True))
    def collect(cell: Cell) -> None:
        try:
            system = Recurrent(cell, 2, 3).system
        except OptionError:
            return
        if unsupported_by_native(system) is None:
            found.append(cell)

    collect()
    return sorted(found, key=lambda cell: len(cell.equations))[-count:]


def run(cell: Cell, dtype: torch.dtype, width: int) -> None:
    """Both passes of a cell at all sizes, and with rows of different lengths; and the pass that keeps nothing."""
    for number, (steps, batch, hidden) in enumerate(SIZES):
        memory.UNITS_FROM = 0 if number % 2 else 10**9  # the threads share units, or rows
        memory.CHUNK_BYTES = 1 if number % 3 else 10**9
        layer = Recurrent(cell, width, hidden, dtype=dtype, engine="native")
        x_TBI = torch.randn(steps, batch, width, dtype=dtype, requires_grad=True)
        lengths = torch.randint(0, steps + 1, (batch,)) if number % 4 == 3 else None
        with torch.no_grad():
            results = [layer(x_TBI, lengths=lengths)[0]]
        output, states, every = layer(x_TBI, lengths=lengths, all_states=True)
        states = states if isinstance(states, tuple) else (states,)
        results += [output, *every.values(), *(state for state in states if state.is_floating_point())]
        sum(result.square().sum() for result in results).backward()
        gradients = [x_TBI.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
        for result in [*results, *gradients]:
            assert result.isfinite().all(), f"{cell.name} {(steps, batch, hidden)} is not finite"


def run_all() -> None:
    """In the process under the sanitizers: cells in single and double precision by turns, as compiling is slow."""
    kernels, backend.FOLD_UP_TO = 0, 16
    for number, cell in enumerate([*(cells[name] for name in NAMES), *drawn(2)]):
        both = (torch.float32, torch.float64)
        for double, dtype in enumerate(usual(both[number % 2 :][:1], both)):
            sys.stdout.write(f"{dtype} {cell.name}: {cell.equations}\n")
            sys.stdout.flush()
            run(cell, dtype, width=5 if (number // 2 + double) % 2 else 20)  # multiplied inside the loop, or before
            kernels += 1
    assert len(build.COMPILED) == kernels, "something ran elsewhere"
    sys.stdout.write("clean\n")


def run_broken() -> None:
    """In the process under the sanitizers: each defect in a process of its own, which it ends."""
    compile_text, _ = build._compile, build.compiler()  # which is tried before what it makes is broken
    for number, (defect, (function, change, _)) in enumerate(DEFECTS.items()):
        sys.stderr.write(f"### {defect}\n")
        sys.stderr.flush()
        if os.fork() == 0:
            toolchain.FLAGS = (*FLAGS, f"-DDEFECT={number}")  # so that none takes what another has kept
            build._compile = functools.partial(compile_broken, compile_text, function, change)
            run(cells["rnn"], torch.float32, width=5)
            sys.exit("nothing was found")
        os.wait()


def compile_broken(
    compile_text: Callable[..., Path], function: str, change: str, using: toolchain.Compiler, text: str, *more: Any
) -> Path:
    other = "FORWARD" if function == "backward" else "BACKWARD"
    text = text.replace(f"void {function}(", f"void whole_{function}(") + (
        f'#ifndef {other}_ALONE\nextern "C" void {function}(const Call* call) {{\n'
        f"  Call own = *call;\n  {change}\n  whole_{function}(&own);\n}}\n#endif\n"
    )
    return compile_text(using, text, *more)


@functools.cache
def sanitizers() -> list[str]:
    """The libraries that must be there before any other."""
    if shutil.which("g++") is None:
        return []
    names = ("libasan.so", "libubsan.so")
    paths = [subprocess.run(["g++", f"-print-file-name={n}"], capture_output=True, text=True) for n in names]
    return [path.stdout.strip() for path in paths if Path(path.stdout.strip()).is_absolute()]


def under_sanitizers(tmp_path: Path, what: str) -> subprocess.CompletedProcess[str]:
    if len(sanitizers()) < 2:
        pytest.skip("g++ brings no libasan.so and libubsan.so on this machine")
    environment = {
        **os.environ,
        "CXX": "g++",
        "LD_PRELOAD": " ".join(sanitizers()),
        "ASAN_OPTIONS": f"{OPTIONS}:symbolize={int(what == 'whole')}",  # to name lines takes its time
        "XDG_CACHE_HOME": str(tmp_path),
        "OMP_WAIT_POLICY": "passive",
    }
    command, root = [sys.executable, "-m", __name__, what], Path(__file__).parents[2]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)


@whole_only
def test_kernels_keep_to_their_arrays(tmp_path: Path) -> None:
    done = under_sanitizers(tmp_path, "whole")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[:4000]
    assert done.stdout.endswith("clean\n")


def test_broken_kernels_are_found(tmp_path: Path) -> None:
    told = under_sanitizers(tmp_path, "broken").stderr.split("### ")[1:]
    assert len(told) == len(DEFECTS)
    for text, (defect, (_, _, words)) in zip(told, DEFECTS.items(), strict=True):
        assert text.startswith(defect)
        assert words in text


if __name__ == "__main__":
    del os.environ["LD_PRELOAD"]  # the compiler needs none
    toolchain.FLAGS = FLAGS
    memory.Layout, kernel.Arena.take = Gaps, take_fresh
    forward.set_block = backward.set_block = functools.partial(set_block, forward.set_block)
    kernel.Loaded.run = functools.partialmethod(closed, kernel.Loaded.run)
    torch.set_num_threads(3)
    run_all() if sys.argv[1] == "whole" else run_broken()
