"""The pages of the catalogue: equations, parameters, and a card of numbers that are measured here."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import unvanish
from unvanish.equations import Cell
from unvanish.nn.named import class_name

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
HIDDEN, INPUT, STEPS, ROWS = 128, 32, 200, 16
RENAMED, OLD_NAMES = "2026-11-26", {"gru_reset_after": "gru", "gru": "gru_reset_before"}
OTHER_NUMBERS = {"lem": "no: there z of the step before enters the product of h, in the paper that of this step"}
PEERS = {
    "torch": "torch.nn",
    "loops": "a hand-written loop",
    "jax": "a jitted JAX scan",
    "torchrecurrent": "torchrecurrent",
}


@functools.cache
def _reach(name: str) -> tuple[str, int]:
    """The reach of a fresh layer, in words, and how many parameters it has."""
    torch.manual_seed(1)
    layer = unvanish.Recurrent(unvanish.cells[name], INPUT, HIDDEN, engine="reference")
    x_TBI = torch.randn(STEPS + 1, ROWS, INPUT)
    found = unvanish.flow.profile(layer, x_TBI, generator=torch.Generator().manual_seed(1))
    count = sum(parameter.numel() for parameter in layer.parameters())
    return f"{'≥ ' if found.censored else ''}{found.reach}", count


def present_name(cell: str, result: Mapping[str, Any]) -> str:
    """What a cell of a result is called today."""
    return OLD_NAMES.get(cell, cell) if result.get("machine", result)["date"] < RENAMED else cell


@functools.cache
def _timed(table: str) -> list[dict[str, Any]]:
    """What the benchmarks of training beside some peers found, the oldest first; files begin with their day."""
    found: list[dict[str, Any]] = []
    for path in sorted(RESULTS.glob(f"*-engine-training-{table}.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        for one in result["comparisons"]:
            one["cell"] = present_name(one["cell"], result)
        found.append(result)
    return found


def _speeds(name: str) -> list[str]:
    rows = []
    for table, peer in PEERS.items():
        for result in _timed(table):
            what = f"a training step, mean of 8 shapes, {result['capability']}, {result['date']}"
            here = [one for one in result["comparisons"] if one["cell"] == name]
            rows += [
                f"| {what} | {one['mean']:.1f} × as fast as {peer} ({one['worst']:.1f} × the slowest) |"
                for one in here
            ]
    return rows


def _agreement(name: str) -> str:
    """Whether torchrecurrent's cell has the same numbers, which the benchmark sees before it times them."""
    result = _timed("torchrecurrent")[-1]
    compared = {one["cell"] for one in result["comparisons"]}
    equal = OTHER_NUMBERS.get(name, "yes, outputs and gradients, to rounding")
    words = equal if name in compared else "not compared"
    return f"| equal to torchrecurrent {result['versions']['torchrecurrent']} | {words} |"


def cells_page() -> str:
    """Return the list of the catalogue."""
    rows = [
        f"| [`{name}`](cells/{name}.md) | {unvanish.cells[name].note} | {_reach(name)[0]} | {_reach(name)[1]:,} |"
        for name in unvanish.cells
    ]
    return "\n".join(
        [
            "# Cells",
            "",
            "Every cell is a layer (`unvanish.Recurrent(name, …)`, or the class on its page) and a word of "
            "`--cell`. "
            "*Reach*: how many steps back at least 1 % of the gradient is left in a fresh layer of "
            f"{HIDDEN} units on {STEPS} steps of noise; what training makes of it is another matter "
            "([remedies](../remedies.md)).",
            "",
            "| cell | what it is | reach | parameters |",
            "|---|---|---:|---:|",
            *rows,
            "",
            "A cell of your own is written in the same way: [the language of equations](../equations.md).",
        ]
    )


def cell_page(cell: Cell) -> str:
    """Return the page of a cell."""
    reach, count = _reach(cell.name)
    system = cell.system()
    parameters = [
        f"| `{one.name}` | {one.rows}{f' × {one.columns}' if one.columns else ''} |" for one in system.parameters
    ]
    layer = class_name(cell)
    return "\n".join(
        [
            f"# {layer}",
            "",
            cell.note,
            "",
            str(cell._repr_latex_()),
            "",
            "```text",
            *(line.strip() for line in cell.equations.strip().splitlines()),
            "```",
            "",
            "| measured | |",
            "|---|---|",
            f"| reach of a fresh layer, {HIDDEN} units, {STEPS} steps | {reach} steps |",
            f"| parameters, {INPUT} inputs, {HIDDEN} units | {count:,} |",
            *_speeds(cell.name),
            _agreement(cell.name),
            "",
            f"In Python `unvanish.{layer}(input_size, hidden_size)`, on the command line `--cell {cell.name}`.",
            "",
            "| parameter | size |",
            "|---|---|",
            *parameters,
            "",
            f"Source: {cell.cite}",
        ]
    )
