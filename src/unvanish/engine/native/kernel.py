"""A compiled kernel, the structure that it takes, and the memory that it works in."""

from __future__ import annotations

import ctypes
import functools
import threading
import warnings
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unvanish.engine.ir.lower import Kernel
from unvanish.engine.native.build import is_ready, library, vector_bytes
from unvanish.engine.native.emit import Emitted, emit
from unvanish.engine.native.places import Slot
from unvanish.engine.native.workshop import BuildError
from unvanish.engine.shared import shared
from unvanish.torch_internals import holders

DTYPES = (torch.float32, torch.float64)


class Arena:
    """Memory that is used again: fresh pages cost as much as the work that is done in them.

    A block is free when nobody but the arena holds it. Every pass lays all its arrays into one block, so there
    are as many blocks as passes that wait for their backward pass, each as large as the largest of them.
    """

    def __init__(self) -> None:
        self.blocks: list[torch.UntypedStorage] = []
        self.lock = threading.Lock()  # between finding a free block and holding it no other thread may find it

    def take(self, count: int, like: Tensor) -> Tensor:
        """Return an uninitialised array of so many numbers."""
        with self.lock:
            return self._taken(count, count * like.element_size(), like)

    def _taken(self, count: int, wanted: int, like: Tensor) -> Tensor:
        free = [block for block in self.blocks if holders(block) == 1]
        fitting = [block for block in free if block.nbytes() >= wanted]
        if fitting:
            block = min(fitting, key=lambda block: block.nbytes())
        else:
            if free:  # too small: one of them is given up for a larger one
                self.blocks.remove(max(free, key=lambda block: block.nbytes()))
            block = torch.UntypedStorage(wanted)  # type: ignore[no-untyped-call]
            self.blocks.append(block)
        return like.new_empty(0).set_(block, 0, (count,), (1,))


class _Outer(ctypes.Structure):
    """The struct Outer of the runtime."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("adjoint", "x", "target")),
        *((name, ctypes.c_int64) for name in ("adjoint_ld", "x_ld", "rows", "height", "width", "add", "threads")),
    )


@dataclass(frozen=True, eq=False)
class Loaded:
    """A kernel, its text, and its functions. Two of them take a call: the struct Call of the text, whose fields
    (pointers, tables, sizes) are eight bytes each.
    """

    kernel: Kernel
    emitted: Emitted
    forward: Any
    backward: Any
    outer: Any
    arena: Arena = field(default_factory=Arena)

    @functools.cached_property
    def slots(self) -> dict[Slot, int]:
        """Where a call holds the address of what a pointer means, or a size."""
        fields = list(self.emitted.pointers)
        fields += [Slot("table", table) for table in self.emitted.tables]
        fields += [Slot("size", size) for size in self.emitted.sizes]
        return {slot: place for place, slot in enumerate(fields)}

    def new_call(self, tables: Sequence[int], sizes: Mapping[str, int]) -> array[int]:
        """Return a call that points to nothing yet."""
        emitted = self.emitted
        return array("q", [0] * len(emitted.pointers) + [*tables, *(sizes.get(size, 0) for size in emitted.sizes)])

    def run(self, function: Any, call: array[int]) -> None:
        """Run one of the two functions."""
        function(ctypes.c_void_p(call.buffer_info()[0]))

    def add_outer(self, adjoint_NJ: Tensor, x_NK: Tensor, target_JK: Tensor, add: bool, threads: int) -> None:
        """target (+)= Σ over the rows of adjoint ⊗ x; all contiguous."""
        rows, height = adjoint_NJ.shape
        width = x_NK.shape[1]
        pointers = adjoint_NJ.data_ptr(), x_NK.data_ptr(), target_JK.data_ptr()
        self.outer(ctypes.byref(_Outer(*pointers, height, width, rows, height, width, add, threads)))


def comes_with_the_package(kernel: Kernel) -> bool:
    """Whether a kernel can be had without a compiler."""
    return all(is_ready(emit(kernel, double, vector_bytes()).text) for double in (False, True))


@shared(256)
def load(kernel: Kernel, dtype: torch.dtype, name: str = "a") -> Loaded | None:
    """Return the compiled kernel for a number type; None, after one warning, where none can be made."""
    emitted = emit(kernel, dtype is torch.float64, vector_bytes())
    try:
        found = library(emitted.text, name, in_two=torch.get_num_threads() > 1)
    except BuildError as fault:
        warnings.warn(f"no native kernel, running in plain torch instead: {fault}", stacklevel=2)
        return None
    return Loaded(kernel, emitted, found.forward, found.backward, found.outer)
