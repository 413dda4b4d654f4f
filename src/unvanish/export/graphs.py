"""Models as graphs: ONNX, and torch.export's own file. Neither needs this package where it is run."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from unvanish.engine import Target, leaving_python
from unvanish.errors import ExportError, MissingExtraError, UnvanishError
from unvanish.export.form import Parts, example_of, file_at, form_of, parts_of, ready

ONE_FILE = 1 << 30  # bytes of weights in an ONNX file, which cannot hold 2 GB: larger ones get a file beside it
Example = Tensor | Sequence[Tensor] | None


def to_onnx(
    model: Any,
    path: str | Path,
    *,
    example: Example = None,
    streaming: bool = False,
    lengths: bool = False,
    dynamic_shapes: Any = None,
) -> None:
    """Write a model as ONNX: RNN, GRU and LSTM as ONNX's own, every other cell as one Scan from its equations.

    Args:
        model: a layer; or what has one as `recurrent`, with or without an `embedding` before it and a `head` behind
            it (modules), which are run one after the other at every step; or any other torch module with layers.
            It is exported as it is in evaluation. One that has `ahead`, (H, K), reads K numbers that are known
            beforehand of each of the next H steps; one that has `mark`, a symbol, resets the states of a row before
            that is read: see docs/export.md.
        path: the file to write.
        example: an input, (T, B, …), or (B, T, …) with `batch_first`, of any number of steps and rows; it is made
            where it can be. Of any other module the argument, or all of them.
        streaming: one step per run, without an axis of time.
        lengths: take an input more, `lengths`, (B,): the number of steps of each row.
        dynamic_shapes: of any other module, as torch.export takes it; if None, whatever can be free is.

    The file takes `input` and the initial states, `h_0`, `c_0`, … (L·R, B, D·W), and gives `output` and the states
    to carry on, `h_n`, `c_n`, …; zeros start a sequence. The numbers of steps and of rows are free. What is known
    beforehand is one input more, `ahead`, (B, H, K).

    Raises:
        ExportError: what cannot be exported.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as fault:
            raise MissingExtraError(f"ONNX is written with {package}: pip install 'unvanish[export]'") from fault
    file = file_at(path)
    program, names = _exported(model, "onnx", example, streaming, lengths, dynamic_shapes)
    with _in_one_line(), _quiet():
        found = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            input_names=names.inputs,
            output_names=names.outputs,
            dynamic_shapes=names.axes,
        )
    assert found is not None
    weights = sum(value.nbytes for value in program.state_dict.values())
    with _quiet():
        found.save(str(file), external_data=weights > ONE_FILE)


def to_torch(
    model: Any,
    path: str | Path,
    *,
    example: Example = None,
    streaming: bool = False,
    lengths: bool = False,
    dynamic_shapes: Any = None,
) -> None:
    """Write a model as a file of torch.export (`.pt2`), for torch.export.load in a process without this package.

    Takes what `to_onnx` takes. `torch.export.load(path).module()(input, states)` returns output and states, both
    times a tuple of all states; behind these come `ahead` and `lengths`, each where there is such an input.

    Raises:
        ExportError: what cannot be exported.
    """
    file = file_at(path)
    program, _ = _exported(model, "torch", example, streaming, lengths, dynamic_shapes)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # the paths of whoever exports are nobody else's
    with _in_one_line(), _quiet():
        torch.export.save(program, file)


@dataclass(frozen=True)
class _Names:
    """What the inputs, outputs and free axes of a graph are called; None where torch names them."""

    inputs: list[str] | None = None
    outputs: list[str] | None = None
    axes: Any = None


def _exported(
    model: Any, target: Target, example: Example, streaming: bool, lengths: bool, dynamic_shapes: Any
) -> tuple[ExportedProgram, _Names]:
    parts = parts_of(model)
    if parts is None:
        if streaming or lengths:
            raise ExportError(
                f"what a step of a {type(model).__name__} is, is not known: give a layer, or a module that has one "
                "as `recurrent` between an `embedding` and a `head`"
            )
        given = (example,) if isinstance(example, Tensor) else tuple(example or ())
        if not given:
            raise ExportError(
                f"what a {type(model).__name__} reads is not known: give example=, what it is called with"
            )
        free = dynamic_shapes or tuple(dict.fromkeys(range(one.dim()), Dim.AUTO) for one in given)
        return _graph(ready(model), target, tuple(one.detach().cpu() for one in given), free), _Names()
    if dynamic_shapes is not None or not isinstance(example, Tensor | None):
        raise ExportError("a layer takes one input, whose time and batch are free: give one example, and no shapes")
    if streaming and lengths:
        raise ExportError("one step has no length: use lengths=False, or streaming=False")
    return _parts_as_graph(parts, target, example, streaming, lengths)


def _parts_as_graph(
    parts: Parts, target: Target, example: Tensor | None, streaming: bool, lengths: bool
) -> tuple[ExportedProgram, _Names]:
    layer, batch = parts.recurrent, Dim("batch")
    time = int(layer.batch_first)
    x, states = example_of(parts, example, streaming)
    given: tuple[Any, ...] = (x, tuple(states.values()))
    axes = {0: batch} if streaming else {time: Dim("time"), 1 - time: batch}
    free: tuple[Any, ...] = (axes, tuple({1: batch} for _ in states))
    inputs = ["input", *(f"{name}_0" for name in states)]
    rows = x.shape[0 if streaming else 1 - time]
    if parts.ahead is not None:
        like = next(layer.parameters())
        ahead_BHK = torch.zeros(rows, *parts.ahead, dtype=like.dtype, device="cpu")
        given, free, inputs = (*given, ahead_BHK), (*free, {0: batch}), [*inputs, "ahead"]
    if lengths:
        lengths_B = torch.full((rows,), x.shape[time], device="cpu")
        given, free, inputs = (*given, lengths_B), (*free, {0: batch}), [*inputs, "lengths"]
    program = _graph(form_of(parts, streaming), target, given, free)
    return program, _Names(inputs, ["output", *(f"{name}_n" for name in states)], free)


def _graph(model: nn.Module, target: Target, given: tuple[Any, ...], free: Any) -> ExportedProgram:
    with leaving_python(target), _in_one_line(), _quiet():
        return torch.export.export(model, given, dynamic_shapes=free, strict=False)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Say in one line what torch has against a model; its own words stay the cause."""
    try:
        yield
    except Exception as fault:
        causes = [fault]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)  # type: ignore[arg-type]
        for one in causes:
            if isinstance(one, UnvanishError):
                raise one from None
        reason = next(iter(str(causes[-1]).strip().splitlines()), type(causes[-1]).__name__)
        raise ExportError(f"torch cannot export this model: {reason}") from fault


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch's exporter says of its own code, and of packages that nobody asked for."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in (r"torch\.", "copyreg", r"onnx"):
            warnings.filterwarnings("ignore", module=module)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
