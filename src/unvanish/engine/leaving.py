"""Graphs that leave Python: there a pass is written in operators that others have, not as one of ours.

torch.onnx.export asks for it by itself; whoever exports otherwise says so by `leaving_python`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

import torch

from unvanish.engine.onnx import has_node, run_as_node
from unvanish.engine.scan import run_as_scan
from unvanish.engine.sequence import Pass, Result
from unvanish.errors import ExportError

Target = Literal["torch", "onnx"]
_leaving: ContextVar[Target | None] = ContextVar("leaving", default=None)


@contextlib.contextmanager
def leaving_python(target: Target) -> Iterator[None]:
    """Inside the block, an exported graph needs nothing of ours to run, in torch or once it has become ONNX."""
    token = _leaving.set(target)
    try:
        yield
    finally:
        _leaving.reset(token)


def leaves_python() -> bool:
    """Whether the graph that is being traced is for others to run."""
    # Dynamo cannot trace these questions, and what it traces runs in Python.
    traced = torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
    return traced and (_leaving.get() is not None or torch.onnx.is_in_onnx_export())


def write_out(job: Pass) -> Result:
    """Run a pass so that its graph needs nothing of ours.

    Raises:
        ExportError: batch normalisation in training.
    """
    if any(normaliser.training for normaliser in job.normalisers.values()):
        raise ExportError(
            f"a layer of {job.name} with batch_norm is in training, where the rows of a batch tell its statistics: "
            "call .eval() first"
        )
    if (_leaving.get() == "onnx" or torch.onnx.is_in_onnx_export()) and has_node(job):
        return run_as_node(job)
    return run_as_scan(job)
