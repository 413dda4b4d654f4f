"""A file of C99, compiled by a strict compiler and called step by step."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unvanish.export import to_c

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
STRICT = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
compiled = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler on this machine (cc, gcc, clang)")


class Library:
    """A compiled file, and one state.

    Args:
        model: what is written, or the path of what has been, under the name `model`.
    """

    def __init__(self, model: Any, folder: Path) -> None:
        if isinstance(model, Path):
            path, self.name = model, "model"
        else:
            path, self.name = folder / "net.c", "net"
            to_c(model, path, name=self.name)
        library = folder / "net.so"
        subprocess.run([str(COMPILER), *STRICT, "-shared", "-fPIC", path, "-o", library, "-lm"], check=True)
        self.functions = ctypes.CDLL(str(library))
        self.state = ctypes.create_string_buffer(1 << 16)
        self.init()

    def init(self) -> None:
        """Begin a sequence."""
        self.functions[f"{self.name}_init"](self.state)

    def step(self, x: Tensor | int, width: int, *ahead: Tensor) -> Tensor:
        """Give a step, and what is known of those after it; return so many numbers."""
        y = (ctypes.c_float * width)()
        given = x if isinstance(x, int) else numbers(x)
        self.functions[f"{self.name}_step"](self.state, given, *map(numbers, ahead), y)
        return torch.tensor(list(y))


def numbers(values: Tensor) -> Any:
    """Single numbers in a row, as C has them."""
    return (ctypes.c_float * values.numel())(*values.flatten().tolist())
