"""Time a training step of the native engine beside torch's fused layers and beside an eager loop.

    python benchmarks/native_cells.py [--runs 7]

LSTM, GRU and RNN against torch.nn; other cells against the same equations in plain torch, step by step, with the
input product hoisted out of time. The two run in turn; a row is the median of the ratios, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from machine import machine
from torch import nn

import unvanish

SHAPES = [  # time, batch, input, hidden
    (100, 1, 64, 64),
    (100, 32, 64, 64),
    (100, 32, 128, 128),
    (400, 32, 128, 128),
    (100, 32, 256, 256),
    (35, 20, 650, 650),
    (784, 64, 1, 128),
    (1000, 8, 32, 100),
]
FUSED = {"lstm": nn.LSTM, "gru_reset_after": nn.GRU, "rnn": nn.RNN}
LOOPS = ["peephole_lstm", "gru", "leaky_rnn", "clockwork_rnn"]


def step_seconds(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> float:
    began = time.perf_counter()
    layer(x)[0].backward(gradient)
    return time.perf_counter() - began


def compare(name: str, shape: tuple[int, int, int, int], runs: int) -> dict[str, object]:
    steps, batch, width, hidden = shape
    torch.manual_seed(0)
    x, gradient = torch.randn(steps, batch, width), torch.randn(steps, batch, hidden)
    ours = unvanish.Recurrent(name, width, hidden, engine="native")
    if name in FUSED:
        peer: nn.Module = FUSED[name](width, hidden)
    else:
        peer = unvanish.Recurrent(name, width, hidden, engine="reference")
    for layer in (ours, peer):
        step_seconds(layer, x, gradient)
    pairs = [(step_seconds(ours, x, gradient), step_seconds(peer, x, gradient)) for _ in range(runs)]
    ratio = statistics.median(other / own for own, other in pairs)
    medians = [round(1e3 * statistics.median(side), 3) for side in zip(*pairs, strict=True)]
    return {"cell": name, "shape": shape, "native_ms": medians[0], "peer_ms": medians[1], "ratio": round(ratio, 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    rows = []
    for name in [*FUSED, *LOOPS]:
        found = [compare(name, shape, runs if name in FUSED else max(3, runs // 2)) for shape in SHAPES]
        rows += found
        ratios = [float(str(row["ratio"])) for row in found]
        peer = f"torch.nn.{FUSED[name].__name__}" if name in FUSED else "eager loop"
        mean = statistics.geometric_mean(ratios)
        print(f"{name:16} against {peer:14} geometric mean {mean:5.2f}  worst {min(ratios):5.2f}", flush=True)
    result = {"benchmark": "native_cells", **machine(), "rows": rows}
    path = Path(__file__).parent / "results" / f"{result['date']}-native_cells.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
