"""What this machine offers, for `unvanish env`."""

from __future__ import annotations

import os
import platform
import statistics
import time
import warnings
from importlib.metadata import PackageNotFoundError, version

import platformdirs
import torch
from rich.table import Table

from unvanish.cells import CATALOGUE
from unvanish.cli.show import console, plain
from unvanish.engine.native.build import COMPILED, command_of, compiler, no_compiler
from unvanish.engine.native.cache import cache_folder
from unvanish.equations import Cell
from unvanish.equations.backends import unsupported_by_native
from unvanish.nn import Recurrent

STEPS, BATCH, HIDDEN, REPEATS = 50, 8, 64, 9


def show(compile_kernels: bool) -> None:
    """Print the versions, the threads, the compiler, the GPU and the cache folder, and time every cell's kernel."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("unvanish", version("unvanish"))
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    table.add_row("lightning", _version("lightning"))
    table.add_row("processor", f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    table.add_row("compiler", _compiler())
    table.add_row("kernels", _kernels())
    table.add_row("GPU", _gpu())
    table.add_row("cache folder", platformdirs.user_cache_dir("unvanish"))
    console.print(table)
    if compile_kernels:
        _compile()


def _compiler() -> str:
    found, asked = compiler(), os.environ.get("CXX", "")
    if found is None:
        return "none found: install g++ (Debian: apt-get install g++)"
    unused = asked and command_of(asked) != found.command
    return f"{found}; $CXX ({asked}) is not a compiler that works" if unused else str(found)


def _kernels() -> str:
    try:
        folder = cache_folder()
        sizes = [path.stat().st_size for path in folder.glob("[!.]*.so")]
    except OSError as fault:
        return f"not kept: {fault}"
    return f"{len(sizes)} in {folder}, {sum(sizes) / 1e6:.1f} MB"


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch can use"
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in stream if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed: pip install 'unvanish[app]'"


# -- the kernels of the catalogue ----------------------------------------------------------------------


def _compile() -> None:
    """Show, cell by cell, how long its kernel takes to make and how fast it is."""
    plain("")
    if compiler() is None:
        plain("no kernels: without a C++ compiler all cells run in plain torch")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("cell", no_wrap=True)
    for column in ("kernel", "native", "reference", "as fast", ""):
        table.add_column(column, no_wrap=True, justify="right" if column else "left")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for cell in CATALOGUE.values():
            table.add_row(cell.name, *_measured(cell, said))
    console.print(table)
    plain(
        f"\none training step: {STEPS} time steps, batch {BATCH}, input and hidden {HIDDEN}, float32, "
        f"{torch.get_num_threads()} threads, median of {REPEATS}"
    )
    for text in dict.fromkeys(str(warning.message) for warning in said):
        plain(text)


def _measured(cell: Cell, said: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """One row: how the kernel came to be here, both times, their ratio; or why there is no kernel."""
    reference = _milliseconds(cell, "reference")
    refusal = no_compiler() or unsupported_by_native(cell.system())
    if refusal is not None:
        return "none", "", f"{reference:.1f} ms", "", refusal
    compiled, warned = len(COMPILED), len(said)
    first = _milliseconds(cell, "native", steps=1, repeats=0)
    seconds = sum(COMPILED[compiled:])
    if not seconds and len(said) > warned:
        return "none", "", f"{reference:.1f} ms", "", "no library, see below"
    kernel = f"compiled, {seconds:.1f} s" if seconds else f"cached, {first:.0f} ms"
    found = _milliseconds(cell, "native")
    return kernel, f"{found:.1f} ms", f"{reference:.1f} ms", f"{reference / found:.1f} ×", ""


def _milliseconds(cell: Cell, engine: str, *, steps: int = STEPS, repeats: int = REPEATS) -> float:
    """The time of a training step: the median of some, or with no repeats the first."""
    layer = Recurrent(cell, HIDDEN, HIDDEN, engine=engine)
    x_TBI = torch.randn(steps, BATCH, HIDDEN, requires_grad=True)
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        layer(x_TBI)[0].sum().backward()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[1:] or times)
