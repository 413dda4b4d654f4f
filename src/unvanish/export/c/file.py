"""The whole file: what it is, its state, the functions of the layers, and the step that calls them in turn."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from torch import nn

from unvanish.errors import ExportError
from unvanish.export.c.around import Chain
from unvanish.export.c.arrays import Arrays
from unvanish.export.c.part import Step, step_of
from unvanish.export.c.template import NUMBERS, SYMBOLS
from unvanish.export.c.text import Functions
from unvanish.export.form import Parts, file_at, parts_of, ready
from unvanish.record.files import write_atomically


def to_c(model: Any, path: str | Path, *, name: str = "model") -> None:
    """Write layers, with what stands before and behind them, as one file of C99 that runs one step per call.

    Args:
        model: a layer; or what has one as `recurrent`, and may have an `embedding` (torch.nn.Embedding: an input is
            then the number of a symbol) and a `head`. Linear maps and activations of torch do for both. `ahead`,
            (H, K), and `mark` are what `to_onnx` takes them for.
        path: the file to write.
        name: what its functions begin with.

    The file has `NAME_state`, `NAME_init(&state)` and `NAME_step(&state, x, y)`; its first lines say how to use and
    to compile it. Where numbers are known beforehand a step is `NAME_step(&state, x, ahead, y)`. Numbers are in
    single precision.

    Raises:
        ExportError: what no step can run (two directions), or C does not have.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
        raise ExportError(f"name={name!r} is not a name in C: use letters, digits and underscores")
    parts = parts_of(model)
    if parts is None:
        raise ExportError(
            f"what a step of a {type(model).__name__} is, is not known: give a layer, or a module that has one as "
            "`recurrent` between an `embedding` and a `head`; to_onnx takes any module"
        )
    layer = parts.recurrent
    if layer.bidirectional:
        raise ExportError(
            "a layer with two directions reads its input to the end, and a step has none: use to_onnx"
        )
    write_atomically(file_at(path), _File(parts, name).text().encode())


class _File:
    def __init__(self, parts: Parts, name: str) -> None:
        self.name, self.prefix = name, f"{name}_"
        self.arrays, self.functions = Arrays(self.prefix), Functions(self.prefix)
        self.layer = ready(parts.recurrent)
        self.symbols, self.mark = 0, parts.mark
        self.steps: list[Step] = []
        self.chain = self.begun(parts.embedding)
        self.input = self.chain.wide if parts.embedding is None else _first_width(parts.embedding, self.chain.wide)
        if parts.embedding is not None and not self.symbols:
            self.chain.wide = self.input
            self.chain.module(ready(parts.embedding), "embedding")
        if self.chain.wide != self.layer.input_size:
            raise ExportError(f"the layers read {self.layer.input_size} numbers and are given {self.chain.wide}")
        self.through_layers()
        self.ahead = 0 if parts.ahead is None else math.prod(parts.ahead)
        if self.ahead:
            self.chain.beside("ahead", self.ahead)
        if parts.head is not None:
            self.chain.module(ready(parts.head), "head")

    def begun(self, embedding: nn.Module | None) -> Chain:
        """Where the numbers of an input are."""
        if not isinstance(embedding, nn.Embedding):
            return Chain("x", self.layer.input_size, self.arrays, self.functions)
        if embedding.max_norm is not None:
            raise ExportError("an embedding with max_norm changes while it is read: set it to None")
        self.symbols, wide = embedding.num_embeddings, embedding.embedding_dim
        found = Chain("row", wide, self.arrays, self.functions)
        array = self.arrays.rows("embedding", embedding.weight)
        if self.mark is not None:
            found.lines += [f"if (x == {self.mark}) {self.name}_init(s);"]
        found.lines += [f"const float *row = {array} + (long)x * {wide};"]
        return found

    def through_layers(self) -> None:
        """Call one function for each layer, and hand on as the stack does."""
        for number, part in enumerate(self.layer.parts(training=False)):
            called = f"{self.prefix}layer_{part.name}"
            step = step_of(part, called, self.chain.wide, self.arrays, self.functions, f"{self.prefix}state")
            self.steps.append(step)
            x, wide = self.chain.operand, self.chain.wide
            y = self.chain.fresh(step.width)
            self.chain.lines.append(f"{called}(s, {x}, {y});")
            self.chain.operand, self.chain.wide = y, step.width
            self.hand_on(number, x, wide, y)

    def hand_on(self, number: int, x: str, wide: int, y: str) -> None:
        """What the layer above reads, of what a layer was given and what it gave (`nn.connect.Connection`)."""
        chain, width, connect = self.chain, self.chain.wide, self.layer.connect
        if connect == "dense" and number < self.layer.num_layers - 1:
            chain.operand, chain.wide = x, wide
            chain.beside(y, width)
        elif connect == "residual" and number > 0:
            chain.each(y, width, "+=", f"{x}[u]")
        elif connect == "highway" and number > 0:
            gate = self.layer.highways[number - 1]
            assert isinstance(gate, nn.Linear)
            chain.operand, chain.wide = x, wide
            chain.linear(gate, f"highway{number}")
            share = f"{self.functions('sigmoid')}({chain.operand}[u])"
            chain.each(y, width, "=", f"{x}[u] + {share} * ({y}[u] - {x}[u])")
            chain.operand, chain.wide = y, width

    # -- text ------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The file."""
        fields = [field for step in self.steps for field in step.fields]
        values = {
            "name": self.name,
            "upper": self.name.upper(),
            "cell": f"{self.layer.cell.name}, {self.layer.extra_repr()}",
            "input": self.symbols or self.input,
            "output": self.chain.wide,
            "ahead": self.ahead,
            "mark": self.mark,
            "fields": "\n".join(f"    {field}" for field in fields),
            "arrays": self.arrays.text(),
            "functions": "\n".join(filter(None, [self.functions.text(), *(step.text for step in self.steps)])),
            "lines": "\n".join(f"    {line}" for line in self.chain.lines),
            "operand": self.chain.operand,
        }
        return (SYMBOLS if self.symbols else NUMBERS).fill(values)


def _first_width(module: nn.Module, usual: int) -> int:
    """How many numbers a module reads: what its first linear map does."""
    return next((one.in_features for one in module.modules() if isinstance(one, nn.Linear)), usual)
