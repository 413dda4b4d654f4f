"""What the engine makes of the machine: its arithmetic, the compiler's time, its memory.

The compiler and the memory are measured in processes of their own: `python benchmarks/resources.py kernel` and
`… memory JSON` are those processes, and print one JSON object.
"""

from __future__ import annotations

import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from compare import Case, Shape, TorchSide, pairs
from peers import LSTM
from torch import Tensor, nn

import unvanish

CELL, SHAPE = "lstm", Shape(100, 32, 256, 256)
PRODUCTS = [(3200, 1024, 256), (4096, 4096, 4096)]  # rows, columns, what is summed over: a layer's, and a big one
LONG = Shape(100_000, 8, 1, 128)
MEGABYTE = 1e6


# -- arithmetic --------------------------------------------------------------------------------------------


def onednn(x_NI: Tensor, weight_JI: Tensor) -> Tensor:
    """Return x · weightᵀ from oneDNN, the faster of torch's two libraries on processors of AMD."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_JI, None, "none", [], "")
    return found


def product_rate(rows: int, columns: int, inner: int, tries: int) -> float:
    """Return the best GFLOP/s of oneDNN's product in single precision."""
    x_NI, weight_JI = torch.randn(rows, inner), torch.randn(columns, inner)
    best = float("inf")
    for _ in range(tries + 2):
        began = time.perf_counter()
        onednn(x_NI, weight_JI)
        best = min(best, time.perf_counter() - began)
    return 2e-9 * rows * columns * inner / best


def training_flops(shape: Shape) -> int:
    """Count an LSTM's products: forward, and twice that backward, less the gradient of the input."""
    forward = 2 * shape.steps * shape.batch * 4 * shape.hidden * (shape.width + shape.hidden)
    input_gradient = 2 * shape.steps * shape.batch * 4 * shape.hidden * shape.width
    return 3 * forward - input_gradient


def rate(runs: int, engine: str, *, quick: bool) -> dict[str, Any]:
    """Measure the machine's matrix rate, and the share of it that a whole training step reaches."""
    shape = Shape(10, 4, 16, 16) if quick else SHAPE
    products = [(64, 64, 16), (256, 256, 256)] if quick else PRODUCTS
    rates = {" × ".join(map(str, p)): round(product_rate(*p, 20 * runs), 1) for p in products}
    case = Case(CELL, shape, engine, {})
    timed = pairs(case.ours(), LSTM.make(case, case.arrays(LSTM.holds)), runs)
    seconds = [statistics.median(side) for side in zip(*timed, strict=True)]
    ours, theirs = (1e-9 * training_flops(shape) / second for second in seconds)
    best = max(rates.values())
    return {
        "onednn_gflops": rates,
        "shape": list(shape),
        "training_step_gflops": {"unvanish": round(ours, 1), LSTM.title: round(theirs, 1)},
        "share_of_best_rate": {"unvanish": round(ours / best, 3), LSTM.title: round(theirs / best, 3)},
    }


# -- compiler ----------------------------------------------------------------------------------------------


def compile_time(runs: int, engine: str) -> dict[str, Any]:
    """Measure the first compilation in an empty cache folder, and the load of what lies there."""
    first, again = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            first.append(_child(["kernel", engine], XDG_CACHE_HOME=folder)["load_seconds"])
            again.append(_child(["kernel", engine], XDG_CACHE_HOME=folder)["load_seconds"])
    milliseconds = round(1e3 * statistics.median(again), 2)
    return {"cell": CELL, "compile_seconds": round(statistics.median(first), 2), "load_cached_ms": milliseconds}


def _child(arguments: list[str], **environment: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=surroundings)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _kernel_child(engine: str) -> dict[str, float]:
    """Take one training step, and say how long the calls of `native.kernel.load` took in it."""
    from unvanish.engine.native import kernel

    load, calls = kernel.load, []

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        found = load(*arguments)
        calls.append(time.perf_counter() - began)
        return found

    for name, module in list(sys.modules.items()):
        if name.startswith("unvanish.engine") and getattr(module, "load", None) is load:
            module.load = timed  # type: ignore[attr-defined]
    Case(CELL, Shape(2, 1, 8, 8), engine, {}).ours().run()
    return {"load_seconds": sum(calls)}


# -- memory ------------------------------------------------------------------------------------------------


def memory(engine: str, *, quick: bool) -> dict[str, Any]:
    """Measure the peak memory that one long training step adds to the process."""
    shape = LONG._replace(steps=2_000) if quick else LONG
    rows = [_memory_row(title, shape, engine, option) for title, option in _memory_ways()]
    output = shape.steps * shape.batch * shape.hidden * 4 / MEGABYTE
    return {"shape": list(shape), "output_megabytes": round(output, 1), "rows": rows}


def _memory_ways() -> Iterator[tuple[str, Any]]:
    yield "torch.nn.LSTM", None
    if "memory" in inspect.signature(unvanish.Recurrent.__init__).parameters:
        for option in ("fast", "lean", 316):  # 316 steps a segment: the square root of 100,000
            yield f"memory={option!r}", option
    else:
        yield "unvanish", None


def _memory_row(title: str, shape: Shape, engine: str, option: Any) -> dict[str, Any]:
    asked = {"peer": title.startswith("torch"), "shape": shape, "engine": engine, "memory": option}
    return {"title": title, **_child(["memory", json.dumps(asked)])}


def _memory_child(asked: dict[str, Any]) -> dict[str, float]:
    """Take a step on a short sequence, then one on the long one: what does the second add to the process?"""
    shape = Shape(*asked["shape"])
    options = {} if asked["memory"] is None else {"memory": asked["memory"]}
    if asked["peer"]:
        layer: nn.Module = nn.LSTM(shape.width, shape.hidden)
    else:
        layer = unvanish.Recurrent(CELL, shape.width, shape.hidden, engine=asked["engine"], **options)
    x_TBI = torch.randn(shape.steps, shape.batch, shape.width)
    cotangent_TBH = torch.randn(shape.steps, shape.batch, shape.hidden)
    leaves = dict(layer.named_parameters())
    TorchSide(lambda: layer(x_TBI[:16])[0], leaves, cotangent_TBH[:16]).run()
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    before = _status("VmRSS")
    began = time.perf_counter()
    TorchSide(lambda: layer(x_TBI)[0], leaves, cotangent_TBH).run()
    seconds = time.perf_counter() - began
    return {"extra_megabytes": round((_status("VmHWM") - before) / MEGABYTE, 1), "seconds": round(seconds, 2)}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


CHILDREN: dict[str, Callable[[str], dict[str, float]]] = {
    "kernel": _kernel_child,
    "memory": lambda asked: _memory_child(json.loads(asked)),
}

if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    print(json.dumps(CHILDREN[sys.argv[1]](sys.argv[2])))
