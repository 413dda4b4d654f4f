"""Run an emitted kernel: pack the weights, lend it memory, give autograd its derivatives.

What is hoisted out of time is worked out by torch and differentiated by it; the kernel takes the hoisted arrays,
the vectors, the recurrent weights and the initial states, and gives the states of all steps.

Shapes: T time, B batch, W width, D depth in time, G products of a group, K width of their operand.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unvanish.engine.native.build import BuildError, library
from unvanish.engine.native.emit import Emitted, aliased_stream, emit
from unvanish.engine.native.lower import Kernel
from unvanish.engine.native.product import weight_gradient
from unvanish.engine.plan import Group

_FORWARD = ("stream", "vector", "panel", "state", "saved", "time")
_BACKWARD = ("stream", "vector", "back", "state", "saved", "time", "carry", "scratch", "adjoint")
LANES = {torch.float32: 16, torch.float64: 8}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A kernel, its text, its two functions, and the structure that they take."""

    kernel: Kernel
    emitted: Emitted
    library: ctypes.CDLL
    call: type[ctypes.Structure]


@functools.lru_cache(maxsize=512)
def load(kernel: Kernel, dtype: torch.dtype) -> Loaded | None:
    """Return the compiled kernel for a number type; None, after one warning, where none can be made."""
    emitted = emit(kernel, dtype is torch.float64)
    try:
        return Loaded(kernel, emitted, library(emitted.text), _call_structure(emitted))
    except BuildError as fault:
        warnings.warn(f"no native kernel, running in plain torch instead: {fault}", stacklevel=2)
        return None


def _call_structure(emitted: Emitted) -> type[ctypes.Structure]:
    """The struct Call of the text: its pointers, then its sizes."""
    fields: list[tuple[str, Any]] = [(f"p{i}", ctypes.c_void_p) for i in range(len(emitted.pointers))]
    fields += [(f"s{i}", ctypes.c_long) for i in range(len(emitted.sizes))]
    return type("Call", (ctypes.Structure,), {"_fields_": fields})


def panel(weight_JK: Tensor, products: int) -> Tensor:
    """Pack a group's weights for the forward pass: [block of units][k][product][unit]."""
    lanes, width = LANES[weight_JK.dtype], weight_JK.shape[0] // products
    blocks = -(-width // lanes)
    padded = weight_JK.new_zeros(products, blocks * lanes, weight_JK.shape[1])
    padded[:, :width] = weight_JK.view(products, width, -1)
    return padded.view(products, blocks, lanes, -1).permute(1, 3, 0, 2).contiguous()


def back_panel(weight_JK: Tensor) -> Tensor:
    """Pack a group's weights for the backward pass: [block of k][row][k]."""
    lanes = LANES[weight_JK.dtype]
    blocks = -(-weight_JK.shape[1] // lanes)
    padded = weight_JK.new_zeros(weight_JK.shape[0], blocks * lanes)
    padded[:, : weight_JK.shape[1]] = weight_JK
    return padded.view(-1, blocks, lanes).permute(1, 0, 2).contiguous()


class Buffers:
    """The arrays of one pass, by what they mean to the kernel."""

    def __init__(self, loaded: Loaded, like: Tensor, steps: int, batch: int, sizes: Mapping[str, int]) -> None:
        self.loaded, self.like, self.steps, self.batch, self.sizes = loaded, like, steps, batch, sizes
        self.arrays: dict[str, Tensor] = {}

    def width(self, name: str) -> int:
        return self.sizes[self.loaded.kernel.widths[name]]

    def empty(self, meaning: str, *shape: int) -> Tensor:
        self.arrays[meaning] = self.like.new_empty(shape)
        return self.arrays[meaning]

    def zeros(self, meaning: str, *shape: int) -> Tensor:
        self.arrays[meaning] = self.like.new_zeros(shape)
        return self.arrays[meaning]

    def call(self, function: Any, needed: tuple[str, ...]) -> None:
        """Run one of the kernel's functions; arrays whose meaning begins with a word of `needed` must be there."""
        emitted = self.loaded.emitted
        missing = [m for m in emitted.pointers if m not in self.arrays and m.split()[0] in needed]
        if missing:  # a null pointer would end the process
            raise AssertionError(f"the kernel needs {', '.join(missing)}")  # pragma: no cover
        pointers = [self.arrays[m].data_ptr() if m in self.arrays else None for m in emitted.pointers]
        sizes = {"T": self.steps, "B": self.batch} | {f"w_{label}": size for label, size in self.sizes.items()}
        values = self.loaded.call(*pointers, *(sizes.get(size, 0) for size in emitted.sizes))
        function(ctypes.byref(values), torch.get_num_threads())


class NativePass(torch.autograd.Function):
    """Forward and backward pass of a kernel over a sequence."""

    @staticmethod
    def forward(ctx: Any, loaded: Loaded, shape: tuple[int, int], time: Tensor | None, *given: Tensor) -> Any:
        kernel = loaded.kernel
        streams, vectors, weights, states = _sorted(kernel, given)
        steps, batch = shape
        buffers = Buffers(loaded, given[0], steps, batch, _sizes(kernel, streams, vectors, weights, states))
        for index, stream in enumerate(streams):
            buffers.arrays[f"stream {index}"] = stream
        for name, vector in zip(kernel.vectors, vectors, strict=True):
            buffers.arrays[f"vector {name}"] = vector
        for index, (group, weight) in enumerate(zip(kernel.groups, weights, strict=True)):
            buffers.arrays[f"panel {index}"] = panel(weight, len(group.products))
        if time is not None:
            buffers.arrays["time"] = time
        system = kernel.plan.system
        for state, initial in zip(system.states, states, strict=True):
            past = buffers.empty(f"state {state.name}", state.depth + steps, batch, buffers.width(state.name))
            past[: state.depth] = torch.stack(initial.chunk(state.depth, -1)[::-1])
        for ref in kernel.saved:
            buffers.empty(f"saved {ref.name}", steps, batch, buffers.width(ref.name))
        buffers.call(loaded.library.forward, _FORWARD)
        ctx.buffers = buffers
        ctx.save_for_backward(*weights)
        ctx.set_materialize_grads(False)
        outputs = []
        for state in system.states:
            past = buffers.arrays[f"state {state.name}"]
            outputs += [past[state.depth :], torch.cat(past[-state.depth :].unbind()[::-1], -1)]
        if system.output.name not in {state.name for state in system.states}:
            outputs.append(buffers.arrays[f"saved {system.output.name}"])
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        forward: Buffers = ctx.buffers
        kernel, states = forward.loaded.kernel, forward.loaded.kernel.plan.system.states
        buffers = _backward_buffers(forward, ctx.saved_tensors)
        _take_gradients(buffers, gradients)
        buffers.call(forward.loaded.library.backward, _BACKWARD)
        found = [buffers.arrays[f"adjoint stream {index}"] for index in range(len(kernel.streams))]
        found += [buffers.arrays[f"adjoint vector {name}"].sum(0) for name in kernel.vectors]
        found += [_weight_gradient(buffers, index, group) for index, group in enumerate(kernel.groups)]
        for state in states:
            carry = buffers.arrays[f"carry {state.name}"]
            found.append(torch.cat([carry[(-1 - back) % (state.depth + 1)] for back in range(state.depth)], -1))
        return (None, None, None, *found)


def _backward_buffers(forward: Buffers, weights: tuple[Tensor, ...]) -> Buffers:
    """The arrays of the forward pass, and those that the backward pass fills."""
    kernel, steps, batch = forward.loaded.kernel, forward.steps, forward.batch
    buffers = Buffers(forward.loaded, forward.like, steps, batch, forward.sizes)
    buffers.arrays |= {name: array for name, array in forward.arrays.items() if not name.startswith("panel")}
    for meaning in forward.loaded.emitted.pointers:
        if meaning.startswith("scratch "):
            buffers.zeros(meaning, batch, buffers.width(meaning.removeprefix("scratch ")))
    for index in range(len(kernel.streams)):
        buffers.zeros(f"adjoint stream {index}", *forward.arrays[f"stream {index}"].shape)
    for name in kernel.vectors:
        vector = forward.arrays[f"vector {name}"]
        buffers.zeros(f"adjoint vector {name}", torch.get_num_threads(), vector.shape[0])
    for index, (group, weight) in enumerate(zip(kernel.groups, weights, strict=True)):
        buffers.arrays[f"back panel {index}"] = back_panel(weight)
        if aliased_stream(kernel, group) is None:
            buffers.empty(f"adjoint group {index}", steps, batch, weight.shape[0])
    return buffers


def _take_gradients(buffers: Buffers, gradients: tuple[Tensor | None, ...]) -> None:
    """Put the gradients of the states of all steps, and of the final ones, where the kernel finds them."""
    system = buffers.loaded.kernel.plan.system
    for index, state in enumerate(system.states):
        of_steps, final = gradients[2 * index], gradients[2 * index + 1]
        if of_steps is not None:
            buffers.arrays[f"gradient {state.name}"] = of_steps.contiguous()
        ring = state.depth + 1
        carry = buffers.zeros(f"carry {state.name}", ring, buffers.batch, buffers.width(state.name))
        for back, part in enumerate(() if final is None else final.chunk(state.depth, -1)):
            carry[(buffers.steps - 1 - back) % ring] = part
    of_output = gradients[-1] if len(gradients) > 2 * len(system.states) else None
    if of_output is not None:
        buffers.arrays[f"gradient {system.output.name}"] = of_output.contiguous()


def _weight_gradient(buffers: Buffers, index: int, group: Group) -> Tensor:
    """∂L/∂M = Σ_t adjoint_t ⊗ operand_t, as one product over all steps and rows."""
    kernel, operand = buffers.loaded.kernel, group.operand
    stream = aliased_stream(kernel, group)
    adjoint = buffers.arrays[f"adjoint group {index}" if stream is None else f"adjoint stream {stream}"]
    depth = {state.name: state.depth for state in kernel.plan.system.states}
    if operand.name in depth:
        start = depth[operand.name] - int(operand.delay or 0)
        operand_TBK = buffers.arrays[f"state {operand.name}"][start : start + buffers.steps]
    else:
        operand_TBK = buffers.arrays[f"saved {operand.name}"]
    return weight_gradient(adjoint.flatten(0, 1), operand_TBK.flatten(0, 1))


def _sorted(kernel: Kernel, given: tuple[Tensor, ...]) -> list[list[Tensor]]:
    """The streams, the vectors, the weights and the states."""
    parts, start = [], 0
    for count in (len(kernel.streams), len(kernel.vectors), len(kernel.groups), len(kernel.plan.system.states)):
        parts.append([array.contiguous() for array in given[start : start + count]])
        start += count
    return parts


def _sizes(
    kernel: Kernel, streams: list[Tensor], vectors: list[Tensor], weights: list[Tensor], states: list[Tensor]
) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for state, initial in zip(kernel.plan.system.states, states, strict=True):
        sizes[state.width] = initial.shape[-1] // state.depth
    for group, weight in zip(kernel.groups, weights, strict=True):
        sizes[group.products[0].width] = weight.shape[0] // len(group.products)
        sizes[kernel.widths[group.operand.name]] = weight.shape[1]
    for stream, array in zip(kernel.streams, streams, strict=True):
        if isinstance(stream, Group):
            sizes[stream.products[0].width] = array.shape[-1] // len(stream.products)
        else:
            sizes[kernel.widths[stream.name]] = array.shape[-1]
    return sizes
