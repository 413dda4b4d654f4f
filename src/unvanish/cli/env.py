"""`unvanish env`: what this machine offers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import platformdirs
import torch
from rich.table import Table

from unvanish.cli.show import console

COMPILERS = ("c++", "g++", "clang++")


def env() -> None:
    """Show the versions, the threads, the compiler, the GPU and the cache folder."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("unvanish", version("unvanish"))
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    table.add_row("lightning", _version("lightning"))
    table.add_row("processor", f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    table.add_row("compiler", compiler() or "none found: install g++ (Debian: apt-get install g++)")
    table.add_row("GPU", _gpu())
    table.add_row("cache folder", platformdirs.user_cache_dir("unvanish"))
    console.print(table)


def compiler() -> str | None:
    """Return the first C++ compiler found ($CXX first), with its version."""
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        path = shutil.which(name) if name else None
        if path is None:
            continue
        try:
            shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return f"{path} ({shown.stdout.splitlines()[0]})"
    return None


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
