"""Time the engine: our layers beside their peers, what they make of the machine, and what they cost.

    python benchmarks/engine.py [--table NAME ...] [--runs 7] [--quick]

Tables: `training-torch`, `-loops`, `-jax`, `-torchrecurrent` (forward and backward pass from a given cotangent; the
input wants no gradient), `inference` (forward pass in no_grad), `streaming` (one step at a time), `telemetry` (a
recorded training step), `rate` (the machine's matrix rate, and how much of it a training step reaches), `compile`
(compiler and cache), `memory` (a sequence of 100,000 steps). A figure is the median of the ratios of `--runs` pairs
taken in turn, peer over ours; beside the geometric mean and the worst over the shapes stands the bar that they are
meant to clear. Results and their pictures go to benchmarks/results/, named by date and table. `--quick` runs small
shapes and writes nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import resources
import torch
from compare import Case, Comparison, Shape, TorchSide, pairs, row, same
from jax_scan import PEEPHOLE_SCAN
from machine import machine
from svg import Panel, draw
from torch import Tensor, nn

import unvanish

SHAPES = [
    Shape(100, 1, 64, 64),
    Shape(100, 32, 64, 64),
    Shape(100, 32, 128, 128),
    Shape(400, 32, 128, 128),
    Shape(100, 32, 256, 256),
    Shape(35, 20, 650, 650),
    Shape(784, 64, 1, 128),
    Shape(1000, 8, 32, 100),
]
QUICK_SHAPES = [Shape(12, 1, 8, 16), Shape(20, 4, 1, 24)]
TRAINING = {
    "torch": [
        Comparison("lstm", peers.LSTM, 1.4, 0.95),
        Comparison("gru", peers.GRU, 4.0, 2.0),
        Comparison("rnn", peers.RNN, 3.5, 1.7),
    ],
    "loops": [
        Comparison("peephole_lstm", peers.PEEPHOLE_LOOP, 6.0, 2.2),
        Comparison("gru_reset_before", peers.GRU_LOOP, 6.0, 2.2),
        Comparison("leaky_rnn", peers.LEAKY_LOOP, 6.0, 2.2),
        Comparison("clockwork_rnn", peers.CLOCKWORK_LOOP, 6.0, 2.2),
        Comparison("trained_leaky_rnn", peers.TRAINED_LEAKY_LOOP, 6.0, 2.2),
        Comparison("simple_gru", peers.SIMPLE_GRU_LOOP, 6.0, 2.2),
        Comparison("skip_rnn", peers.SKIP_LOOP, 6.0, 2.2),
        Comparison("delayed_rnn", peers.DELAYED_LOOP, 6.0, 2.2),
    ],
    "jax": [Comparison("peephole_lstm", PEEPHOLE_SCAN, 2.5, 1.3)],
    "torchrecurrent": [
        Comparison("peephole_lstm", peers.PEEPHOLE_LIBRARY, 8.0, 3.0),
        Comparison("mgu", peers.MGU_LIBRARY, 8.0, 3.0),
        Comparison("indrnn", peers.INDRNN_LIBRARY, 8.0, 3.0),
        Comparison("lem", peers.LEM_LIBRARY, 8.0, 3.0),
        Comparison("cornn", peers.CORNN_LIBRARY, 8.0, 3.0, peers.OSCILLATOR),
    ],
}
INFERENCE = [Comparison("lstm", peers.LSTM, 1.2, 0.9)]
STREAM = Shape(1, 1, 64, 64)
STREAM_BAR = 2.0  # half of the peer's time
TELEMETRY_BAR = 0.97  # at most 3 % slower


@dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    runs: int
    quick: bool
    engine: str

    @property
    def shapes(self) -> list[Shape]:
        return QUICK_SHAPES if self.quick else SHAPES


@dataclass(frozen=True)
class Table:
    """What one table found: figures for the file, panels for the picture."""

    title: str
    figures: dict[str, Any]
    panels: list[Panel]


def _told(figures: dict[str, Any], *, quick: bool) -> str:
    """Return a comparison in one line; small shapes are not what the bars are for."""
    mean, worst = (f"{figures[name]:6.2f}" for name in ("mean", "worst"))
    words = f"{figures['cell']:16} {figures['peer']:28} geometric mean {mean}"
    if quick:
        return f"{words}  worst {worst}"
    cleared = figures["mean"] >= figures["bar_mean"] and figures["worst"] >= figures["bar_worst"]
    words += f" (bar {figures['bar_mean']:3.1f})  worst {worst} (bar {figures['bar_worst']:4.2f})"
    return f"{words}  {'clears' if cleared else 'MISSES'}"


def _compare(comparison: Comparison, settings: Settings, *, backward: bool) -> dict[str, Any]:
    comparison.check(settings.engine)
    rows = []
    for shape in settings.shapes:
        ours, theirs = comparison.sides(shape, settings.engine, backward=backward)
        rows.append(row(shape, pairs(ours, theirs, settings.runs)))
    ratios = [found["ratio"] for found in rows]
    figures: dict[str, Any] = {"cell": comparison.cell, "peer": comparison.peer.title, "rows": rows}
    figures |= {"mean": round(statistics.geometric_mean(ratios), 3), "worst": min(ratios)}
    figures |= {"bar_mean": comparison.bar_mean, "bar_worst": comparison.bar_worst}
    print(_told(figures, quick=settings.quick), flush=True)
    return figures


def _comparisons(title: str, comparisons: list[Comparison], settings: Settings, *, backward: bool) -> Table:
    absent = [c for c in comparisons if not c.can_run]
    for package in dict.fromkeys(c.peer.package for c in absent):
        left = ", ".join(c.peer.title for c in absent if c.peer.package == package)
        print(f"{package} is not installed (pip install 'unvanish[bench]'), left out: {left}")
    found = [_compare(c, settings, backward=backward) for c in comparisons if c.can_run]
    return Table(title, {"comparisons": found}, [_panel(figures) for figures in found])


def _panel(figures: dict[str, Any]) -> Panel:
    bars = [(str(Shape(*found["shape"])), found["ratio"]) for found in figures["rows"]]
    title = f"{figures['cell']} / {figures['peer']}: {figures['mean']:.2f} × (bar {figures['bar_mean']:g})"
    return Panel(title, bars, goal=figures["bar_mean"])


def training(settings: Settings, peer: str) -> Table:
    """Training steps beside one kind of peer."""
    title = "Training step: how many times as fast as the peer"
    return _comparisons(title, TRAINING[peer], settings, backward=True)


def inference(settings: Settings) -> Table:
    """Forward passes beside their peers."""
    title = "Inference: how many times as fast as the peer"
    return _comparisons(title, INFERENCE, settings, backward=False)


class Stream:
    """One step a run, the states carried from run to run."""

    def __init__(self, step: Callable[[Any], tuple[Tensor, Any]], states: Any) -> None:
        self.step, self.states = step, states

    def run(self) -> Tensor:
        with torch.no_grad():
            output_BH, self.states = self.step(self.states)
        return output_BH


def _streams(engine: str) -> tuple[Stream, Stream]:
    torch.manual_seed(0)
    layer = unvanish.Recurrent("lstm", STREAM.width, STREAM.hidden, engine=engine).eval()
    cell = nn.LSTMCell(STREAM.width, STREAM.hidden).eval()
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    x_BI = torch.randn(STREAM.batch, STREAM.width)

    def cell_step(states: Any) -> tuple[Tensor, Any]:
        states = cell(x_BI, states)
        return states[0], states

    stream, zero = layer.stream(STREAM.batch), torch.zeros(STREAM.batch, STREAM.hidden)
    return Stream(lambda _: (stream(x_BI), None), None), Stream(cell_step, (zero, zero))


def streaming(settings: Settings) -> Table:
    """One step of an LSTM that is fed as its input comes."""
    ours, theirs = _streams(settings.engine)
    for _ in range(9):
        same("lstm: a step of torch.nn.LSTMCell", ours.run(), theirs.run())
    found = row(STREAM, pairs(*_streams(settings.engine), settings.runs))
    figures: dict[str, Any] = {"cell": "lstm", "peer": "torch.nn.LSTMCell", "rows": [found]}
    figures |= {"mean": found["ratio"], "worst": found["ratio"], "bar_mean": STREAM_BAR, "bar_worst": STREAM_BAR}
    told = _told(figures, quick=settings.quick)
    print(f"{told}  {1e3 * found['ours_ms']:.1f} µs, {1e3 * found['peer_ms']:.1f} µs", flush=True)
    title = "One streaming step: how many times as fast as the peer"
    return Table(title, {"comparisons": [figures]}, [_panel(figures)])


class Recorded(TorchSide):
    """A training step whose gradient norms are recorded."""

    def __init__(self, case: Case) -> None:
        ours = case.ours()
        super().__init__(ours.forward, ours.leaves, ours.cotangent_TBH)
        self.layer = case.layer

    def run(self) -> Tensor:
        with unvanish.flow.record(self.layer) as recording:
            output_TBH = super().run()
            recording["l0"].norms  # noqa: B018 - they are there, not only promised
        return output_TBH


def telemetry(settings: Settings) -> Table:
    """A recorded training step beside an unrecorded one."""
    rows = []
    for shape in settings.shapes:
        case = Case("lstm", shape, settings.engine, {})
        rows.append(row(shape, pairs(Recorded(case), case.ours(), settings.runs)))
    ratios = [found["ratio"] for found in rows]
    figures: dict[str, Any] = {"cell": "lstm", "peer": "without a recording", "rows": rows}
    figures |= {"mean": round(statistics.geometric_mean(ratios), 3), "worst": min(ratios)}
    figures |= {"bar_mean": TELEMETRY_BAR, "bar_worst": TELEMETRY_BAR}
    print(_told(figures, quick=settings.quick), flush=True)
    title = "A recorded training step: its speed, an unrecorded one being 1"
    return Table(title, {"comparisons": [figures]}, [_panel(figures)])


def rate(settings: Settings) -> Table:
    """The machine's matrix rate, and the share of it that a training step reaches."""
    figures = resources.rate(settings.runs, settings.engine, quick=settings.quick)
    for product, gflops in figures["onednn_gflops"].items():
        print(f"oneDNN, single precision, {product:20} {gflops:8.1f} GFLOP/s")
    for who, gflops in figures["training_step_gflops"].items():
        share = figures["share_of_best_rate"][who]
        print(
            f"training step, {who:15} {Shape(*figures['shape'])!s:20} {gflops:8.1f} GFLOP/s, {share:.0%}",
            flush=True,
        )
    bars = [*figures["onednn_gflops"].items(), *figures["training_step_gflops"].items()]
    panel = Panel("oneDNN's product, and the LSTM's training step", bars, "GFLOP/s")
    return Table("Arithmetic in single precision", figures, [panel])


def compile_time(settings: Settings) -> Table:
    """The compiler's time at the first use of a cell, and the load of a cached kernel."""
    figures = resources.compile_time(min(3, settings.runs), settings.engine)
    print(
        f"first compilation {figures['compile_seconds']:.2f} s, cached {figures['load_cached_ms']:.2f} ms",
        flush=True,
    )
    panels = [
        Panel("First use: compilation", [("lstm", figures["compile_seconds"])], "s"),
        Panel("Later: load from the cache", [("lstm", figures["load_cached_ms"])], "ms"),
    ]
    return Table("The kernel of an LSTM", figures, panels)


def memory(settings: Settings) -> Table:
    """The memory of a training step on a very long sequence."""
    figures = resources.memory(settings.engine, quick=settings.quick)
    for found in figures["rows"]:
        print(f"{found['title']:20} {found['extra_megabytes']:10.1f} MB  {found['seconds']:8.2f} s", flush=True)
    bars = [("its output alone", figures["output_megabytes"])]
    bars += [(found["title"], found["extra_megabytes"]) for found in figures["rows"]]
    title = f"LSTM training step, {Shape(*figures['shape'])}"
    return Table("Peak memory beyond the input", figures, [Panel(title, bars, "MB")])


TABLES: dict[str, Callable[[Settings], Table]] = {
    **{f"training-{peer}": functools.partial(training, peer=peer) for peer in TRAINING},
    "inference": inference,
    "streaming": streaming,
    "telemetry": telemetry,
    "rate": rate,
    "compile": compile_time,
    "memory": memory,
}


def _write(name: str, table: Table, settings: Settings) -> None:
    facts = machine()
    result = {"benchmark": "engine", "table": name, **facts, "engine": settings.engine, "runs": settings.runs}
    path = Path(__file__).parent / "results" / f"{facts['date']}-engine-{name}"
    path.with_suffix(".json").write_text(json.dumps({**result, **table.figures}, indent=1) + "\n", encoding="utf-8")
    on = f"{facts['processor']}, {facts['capability']}, {facts['threads']} threads, torch {facts['torch']}"
    on = f"{on}, {facts['date']}"
    path.with_suffix(".svg").write_text(draw(table.title, on, table.panels), encoding="utf-8")
    print(f"written to {path}.json and .svg\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME")
    parser.add_argument("--runs", type=int, default=7, help="pairs a row (7)")
    parser.add_argument("--quick", action="store_true", help="two small shapes, 3 pairs, nothing written")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (2)")
    parser.add_argument("--engine", default="native", help="ours (native)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    settings = Settings(3 if asked.quick else asked.runs, asked.quick, asked.engine)
    for name in asked.table:
        print(f"-- {name}", flush=True)
        table = TABLES[name](settings)
        if not table.panels:  # none of its peers is installed
            continue
        if asked.quick:
            draw(table.title, "quick", table.panels)
        else:
            _write(name, table, settings)


if __name__ == "__main__":
    main()
