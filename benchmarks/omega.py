"""What Ω costs: a training step with it beside the same step without, in turn.

    python benchmarks/omega.py [--rounds 40] [--threads 1] [--quick]

A step is forward, loss, backward and Adam's step of one layer with a linear head. The figure is the median over
rounds of the time with Ω over the time without, of the two next to each other. The result goes to
benchmarks/results/, named by its date; `--quick` runs one small shape and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import nn

import unvanish

RESULTS = Path(__file__).parent / "results"
CELLS = ("rnn", "lstm", "gru", "gru_reset_before", "leaky_rnn", "skip_rnn", "lem", "peephole_lstm")
SHAPES = ((100, 20, 6, 50), (100, 32, 64, 128), (50, 50, 128, 256))  # steps, batch, input, hidden


class Side:
    """A layer that is trained, with Ω or without."""

    def __init__(self, cell: str, shape: tuple[int, int, int, int], weight: float | None) -> None:
        torch.manual_seed(0)
        steps, batch, wide, hidden = shape
        self.layer, self.head = unvanish.Recurrent(cell, wide, hidden), nn.Linear(hidden, 4)
        self.optimizer = torch.optim.Adam([*self.layer.parameters(), *self.head.parameters()], 1e-3)
        self.x_TBI = torch.randn(steps, batch, wide)
        self.omega = None if weight is None else unvanish.penalty.Omega(weight).attach(self.layer)

    def step(self) -> float:
        """Make one step of training; return its seconds."""
        begin = time.perf_counter()
        self.optimizer.zero_grad()
        self.head(self.layer(self.x_TBI)[0][-1]).square().mean().backward()
        if self.omega is not None:
            self.omega()
        self.optimizer.step()
        return time.perf_counter() - begin


def measured(cell: str, shape: tuple[int, int, int, int], rounds: int) -> dict[str, Any]:
    """Time both sides in turn."""
    plain, with_omega = Side(cell, shape, None), Side(cell, shape, 1.0)
    pairs = [(plain.step(), with_omega.step()) for _ in range(rounds + 3)][3:]
    return {
        "cell": cell,
        "shape": shape,
        "plain_ms": 1e3 * statistics.median(before for before, _ in pairs),
        "omega_ms": 1e3 * statistics.median(after for _, after in pairs),
        "more": statistics.median(after / before for before, after in pairs) - 1,
    }


def main() -> None:
    """Run, print a line for each, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = []
    for cell in CELLS[:2] if given.quick else CELLS:
        for shape in SHAPES[:1] if given.quick else SHAPES:
            found.append(measured(cell, shape, 3 if given.quick else given.rounds))
            line = found[-1]
            print(f"{cell:16} {shape!s:20} {line['plain_ms']:8.2f} ms  with Ω {line['more']:+.0%}", flush=True)
    if not given.quick:
        content = {"machine": machine(), "results": found}
        path = RESULTS / f"{machine()['date']}-omega.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
