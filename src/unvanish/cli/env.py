"""`unvanish env`: what this machine offers."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import platformdirs
import torch
from rich.table import Table

from unvanish.cli.show import console
from unvanish.engine.native.build import compiler


def env() -> None:
    """Show the versions, the threads, the compiler, the GPU and the cache folder."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("unvanish", version("unvanish"))
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    table.add_row("lightning", _version("lightning"))
    table.add_row("processor", f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    table.add_row("compiler", _compiler())
    table.add_row("GPU", _gpu())
    table.add_row("cache folder", platformdirs.user_cache_dir("unvanish"))
    console.print(table)


def _compiler() -> str:
    found = compiler()
    if found is None:
        return "none found: install g++ (Debian: apt-get install g++)"
    path, version = found
    return f"{path} ({version})"


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
