"""What this machine offers, for `unvanish env`."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import platformdirs
import torch
from rich.table import Table

from unvanish.cells import CATALOGUE
from unvanish.cli.show import console, plain
from unvanish.engine.native import ready
from unvanish.engine.native.build import COMPILED, compiler, levels_here, no_compiler
from unvanish.engine.native.cache import cache_folder
from unvanish.engine.native.toolchain import command_of
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
    table.add_row("lightning", _version("lightning") or "not installed: pip install 'unvanish[app]'")
    table.add_row("processor", f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    table.add_row("compiler", _compiler())
    table.add_row("kernels", _kernels())
    table.add_row("GPU", ", ".join(_gpus()) or "none that torch can use")
    table.add_row("cache folder", platformdirs.user_cache_dir("unvanish"))
    console.print(table)
    if compile_kernels:
        _compile()


def described(compile_kernels: bool) -> dict[str, Any]:
    """The same for machines: versions, threads, compiler, GPUs, folders; with the kernels timed if asked for."""
    found = compiler()
    told = {
        "unvanish": version("unvanish"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "lightning": _version("lightning"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "compiler": found and {"command": list(found.command), "version": found.version},
        "kernels": _kept(),
        "kernels_of_the_package": _brought(),
        "gpus": _gpus(),
        "cache_folder": platformdirs.user_cache_dir("unvanish"),
    }
    if compile_kernels:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            told["cells"] = {name: dataclasses.asdict(timing) for name, timing in _timings(said)}
        told["warnings"] = _texts(said)
    return told


def _compiler() -> str:
    found, asked = compiler(), os.environ.get("CXX", "")
    if found is None:
        return "none found: pip install 'unvanish[compiler]', or install g++"
    unused = asked and command_of(asked) != found.command
    return f"{found}; $CXX ({asked}) is not a compiler that works" if unused else str(found)


def _kernels() -> str:
    kept, brought = _kept(), _brought()
    told = [f"{brought['count']} for {brought['level']} came with the package"] if brought else []
    if "not_kept" in kept:
        return "; ".join([*told, f"not kept: {kept['not_kept']}"])
    return "; ".join([*told, f"{kept['count']} in {kept['folder']}, {kept['bytes'] / 1e6:.1f} MB"])


def _brought() -> dict[str, Any]:
    """The kernels of the package for the best level that this processor has; nothing in a clone."""
    if not ready.any_here():
        return {}
    folders = [ready.FOLDER / level for level in levels_here()]
    found = next((folder for folder in folders if folder.is_dir()), None)
    return {} if found is None else {"count": len(list(found.glob("*.so"))), "level": found.name}


def _kept() -> dict[str, Any]:
    """Where kernels are kept, how many, and how large they are; or why they are not."""
    try:
        folder = cache_folder()
        sizes = [path.stat().st_size for path in folder.glob("[!.]*.so")]
    except OSError as fault:
        return {"not_kept": str(fault)}
    return {"folder": str(folder), "count": len(sizes), "bytes": sum(sizes)}


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in stream if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
        for name, timing in _timings(said):
            table.add_row(name, *timing.row())
    console.print(table)
    plain(
        f"\none training step: {STEPS} time steps, batch {BATCH}, input and hidden {HIDDEN}, float32, "
        f"{torch.get_num_threads()} threads, median of {REPEATS}"
    )
    for text in _texts(said):
        plain(text)


@dataclass(frozen=True, slots=True)
class _Timing:
    """How the kernel of a cell came to be here, and the milliseconds of a training step; or why there is none."""

    kernel: str
    native_ms: float | None
    reference_ms: float
    why: str = ""

    def row(self) -> tuple[str, ...]:
        """The kernel, both times, their ratio, and what is to be said."""
        reference = f"{self.reference_ms:.1f} ms"
        if self.native_ms is None:
            return self.kernel, "", reference, "", self.why
        return self.kernel, f"{self.native_ms:.1f} ms", reference, f"{self.reference_ms / self.native_ms:.1f} ×", ""


def _timings(said: list[warnings.WarningMessage]) -> Iterator[tuple[str, _Timing]]:
    """Time the cells of the catalogue in turn."""
    for cell in CATALOGUE.values():
        yield cell.name, _measured(cell, said)


def _texts(said: list[warnings.WarningMessage]) -> list[str]:
    return list(dict.fromkeys(str(warning.message) for warning in said))


def _measured(cell: Cell, said: list[warnings.WarningMessage]) -> _Timing:
    reference = _milliseconds(cell, "reference")
    refusal = no_compiler() or unsupported_by_native(cell.system())
    if refusal is not None:
        return _Timing("none", None, reference, refusal)
    compiled, warned = len(COMPILED), len(said)
    first = _milliseconds(cell, "native", steps=1, repeats=0)
    seconds = sum(COMPILED[compiled:])
    if not seconds and len(said) > warned:
        return _Timing("none", None, reference, "no library, see below")
    kernel = f"compiled, {seconds:.1f} s" if seconds else f"cached, {first:.0f} ms"
    return _Timing(kernel, _milliseconds(cell, "native"), reference)


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
