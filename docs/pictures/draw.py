"""Draw the pictures of the README and of the documentation: `make pictures`.

One is computed here, by the package; the others are drawn from the dated results of benchmarks/. The same input
gives the same bytes, and a test says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import unvanish

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
ENGINE, REMEDIES = "2026-11-21-engine-training-{}.json", "2026-11-21-remedies.json"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "unvanish",
}
INK, QUIET, GRID = "#1f2328", "#656d76", "#e6e8eb"
BLUE, ORANGE, GREEN, PURPLE = "#1f6fb2", "#c8611a", "#1b8a5a", "#8a4a9e"  # told apart without red and green
WIDTH = 7.6


def gradient() -> Figure:
    """How much of a gradient is left so many steps back, in networks as they are made, and in one that is told."""
    torch.manual_seed(1)
    x_TBI, lags = torch.randn(241, 16, 8), 240
    networks = [
        ("tanh RNN", torch.nn.RNN(8, 64), ORANGE, (36, 0.05)),
        ("LSTM, as PyTorch makes it", torch.nn.LSTM(8, 64), PURPLE, (36, 0.002)),
        (
            "the same LSTM, begun with slow gates",
            unvanish.LSTM(8, 64, init="chrono:200"),
            BLUE,
            (36, 9),
        ),
    ]
    figure, (axes,) = made(3.1, 1)
    for name, network, colour, at in networks:
        found = unvanish.flow.profile(network, x_TBI, generator=torch.Generator().manual_seed(1), draws=4)
        shares = found.norms[: lags + 1] / found.norms[0]
        axes.plot(range(len(shares)), 100 * shares, color=colour, linewidth=2.2)
        reach = f"reaches {'at least ' if found.censored else ''}{found.reach} steps"
        axes.text(*at, f"{name}: {reach}", color=colour, va="center", in_layout=False)
    axes.axhline(1, color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
    axes.text(
        lags, 0.85, "1 %: below it next to nothing is learnt", color=QUIET, ha="right", va="top", fontsize=9.5
    )
    axes.set(yscale="log", ylim=(1e-4, 300), xlim=(0, lags))
    axes.set_yticks([100, 1, 0.01, 0.0001], ["100 %", "1 %", "0.01 %", "0.0001 %"])
    axes.minorticks_off()
    axes.set_xlabel("steps back in time")
    axes.set_ylabel("gradient left")
    return figure


def speed() -> Figure:
    """How many times as fast a training step is as that of the peers of benchmarks/, over eight shapes."""
    rows: list[tuple[str, dict[str, Any], str]] = []
    for table, peer, colour in (
        ("torch", "torch.nn", BLUE),
        ("loops", "a hand-written loop", GREEN),
        ("jax", "a jitted JAX scan", ORANGE),
        ("torchrecurrent", "torchrecurrent", PURPLE),
    ):
        found = json.loads((RESULTS / ENGINE.format(table)).read_text(encoding="utf-8"))
        rows += [
            (f"{TITLES.get(one['cell'], one['cell'])}  /  {peer}", one, colour) for one in found["comparisons"]
        ]
    figure, (axes,) = made(0.29 * len(rows) + 0.7, 1)
    for place, (_, one, colour) in enumerate(rows):
        ratios = [shape["ratio"] for shape in one["rows"]]
        axes.barh(place, one["mean"] - 1, left=1, color=colour, height=0.62)
        axes.plot([min(ratios), max(ratios)], [place, place], color=INK, linewidth=0.9)
        axes.text(max(ratios) * 1.06, place, f"{one['mean']:.1f} ×", va="center", fontsize=10)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=10)
    axes.invert_yaxis()
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set(xscale="log", xlim=(0.85, 90))
    axes.set_xticks([1, 2, 5, 10, 20, 50], [f"{tick} ×" for tick in (1, 2, 5, 10, 20, 50)])
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("times as fast: mean, slowest and fastest of eight shapes")
    return figure


TITLES = {
    "lstm": "LSTM",
    "gru": "GRU, reset before",  # the results bear the names of before
    "rnn": "RNN",
    "gru_reset_after": "GRU",
    "peephole_lstm": "peephole LSTM",
    "leaky_rnn": "leaky RNN",
    "clockwork_rnn": "clockwork RNN",
    "mgu": "MGU",
    "indrnn": "IndRNN",
    "lem": "LEM",
    "cornn": "coRNN",
}
SHOWN = {
    "nothing": "nothing",
    "clip norm:1": "clipping",
    "init orthogonal": "orthogonal start",
    "penalty omega:2": "the penalty Ω",
    "init chrono:100": "chrono start",
    "layer norm": "layer normalisation",
    "skips 10,50": "skips of 10 and 50 steps",
}


def remembers() -> Figure:
    """How far the gradient reaches before and after training, by remedy, and whether the task was solved."""
    results = json.loads((RESULTS / REMEDIES).read_text(encoding="utf-8"))["results"]
    figure, panels = made(0.33 * len(SHOWN) + 1.0, 2)
    for axes, cell, colour in zip(panels, ("rnn", "lstm"), (ORANGE, BLUE), strict=True):
        for place, remedy in enumerate(SHOWN):
            here = [one for one in results if (one["cell"], one["remedy"]) == (cell, remedy)]
            if "refused" in here[0]:
                axes.text(2, place, "has no gates to set", va="center", color=QUIET, fontsize=9.5)
                continue
            before, after = (statistics.median(one[when] for one in here) for when in ("reach_start", "reach_end"))
            solved = sum(one["solved"] for one in here)
            axes.plot([before, after], [place, place], color=colour, linewidth=1.6, alpha=0.55)
            axes.plot(before, place, "|", color=colour, markersize=9, markeredgewidth=1.6)
            face = colour if solved else "white"
            axes.plot(after, place, "o", color=colour, markerfacecolor=face, markersize=8, clip_on=False)
            if solved:
                told = "solved" if solved == len(here) else f"solved, {solved} of {len(here)}"
                axes.annotate(told, (after, place), (8, 0), textcoords="offset points", va="center", fontsize=9.5)
        axes.set(xlim=(0, 126), ylim=(len(SHOWN) - 0.5, -0.5), title=TITLES[cell])
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.axvline(99, color=GRID, linewidth=1, zorder=0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("reach, steps: start (bar) to end (dot)", fontsize=10)
    panels[0].set_yticks(range(len(SHOWN)), list(SHOWN.values()))
    panels[1].set_yticks([])
    return figure


def made(height: float, across: int) -> tuple[Figure, list[Axes]]:
    """Make a white figure with panels side by side."""
    figure = Figure(figsize=(WIDTH, height), facecolor="white", layout="constrained")
    found = figure.subplots(1, across, squeeze=False)[0]
    for axes in found:
        axes.tick_params(colors=INK, labelsize=10)
    return figure, list(found)


PICTURES = {"gradient": gradient, "speed": speed, "remembers": remembers}


def write(folder: Path) -> list[Path]:
    """Write all pictures into a folder."""
    paths = []
    with rc_context(STYLE):
        for name, draw in PICTURES.items():
            paths.append(folder / f"{name}.svg")
            draw().savefig(paths[-1], metadata={"Date": None})
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    for path in write(parser.parse_args().out):
        print(path)  # noqa: T201
