"""`unvanish bench`: how fast cells are on this machine."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from unvanish.cli import completion
from unvanish.cli.places import check_file
from unvanish.cli.show import console, document, doing, is_narrow, parse_settings, plain
from unvanish.cli.starting import at_once
from unvanish.errors import OptionError, printable

MACHINE = ("processor", "cores", "threads", "vectors", "torch", "python", "unvanish")


def bench(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            help="Cells of the catalogue, or of your own: FILE.py:NAME, or FILE.yaml. Default: lstm.",
            autocompletion=completion.cells,
        ),
    ] = None,
    length: Annotated[int, typer.Option(min=1, help="Time steps.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences in a batch.")] = 32,
    input_size: Annotated[int, typer.Option("--input", min=1, help="Inputs of a step.")] = 64,
    hidden: Annotated[int, typer.Option(min=1, help="Units per layer.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads. 0: as torch has them.")] = 0,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds in which all are timed in turns.")] = 15,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the cell: d=9, period=1,2,4. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report, one HTML file, to this path.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON, for machines.")] = False,
) -> None:
    """Time cells on this machine, beside the same in plain PyTorch and beside torch.nn.LSTM.

    Example: unvanish bench lstm my_cell.py:MINE --hidden 128 --out bench.html
    """
    if out is not None:
        check_file(out, "bench.html")
    with at_once():
        import torch

        from unvanish.bench import Shape
    if threads:
        torch.set_num_threads(threads)
    shape = Shape(length, batch_size, input_size, hidden, layers)
    found = _timed(cells or ["lstm"], shape, rounds, parse_settings(settings or []), as_json)
    if out is not None:
        from unvanish.report import write_bench

        write_bench(found, out)
    if as_json:
        document(found)
    else:
        _show(found, out)


def _timed(names: Sequence[str], shape: Any, rounds: int, options: dict[str, Any], as_json: bool) -> dict[str, Any]:
    from unvanish.bench import contest
    from unvanish.cells import find
    from unvanish.cli.machine import described
    from unvanish.train.owncell import own_cell

    cells = [own_cell(name) or find(name) for name in names]
    if len({cell.name for cell in cells}) < len(cells):
        raise OptionError(f"CELLS {' '.join(names)}: two of them have one name; give each a name of its own")
    if options and len(cells) > 1:
        raise OptionError("--set is of one cell: time each with its options by itself")
    machine = described(compile_kernels=False)
    timed = []
    with doing(as_json) as say:
        for cell in cells:
            say(f"{cell.name}: {rounds} rounds")
            timed.append(contest(cell, shape, rounds=rounds, **options).to_dict())
    return {
        "when": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "shape": {"time steps": shape.length, "batch": shape.batch_size, "input": shape.input}
        | {"hidden": shape.hidden, "layers": shape.layers, "numbers": "float32"},
        "shape_text": str(shape),
        "options": options,
        "machine": {name: machine[name] for name in MACHINE},
        "cells": timed,
    }


# -- on a terminal -----------------------------------------------------------------------------------------------


def _show(found: dict[str, Any], out: Path | None) -> None:
    from unvanish.report import bench_finding

    machine = found["machine"]
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    plain(f"{found['shape_text']}, float32, {threads}, {machine['processor']}\n")
    for of in found["cells"][0]["ratios"]:
        console.print(_table(found["cells"], of))
        plain("")
    for cell in found["cells"]:
        if cell["first"]:
            plain(f"{cell['cell']}: compiled in {cell['first']:.1f} s, once")
    plain(bench_finding(found))
    if out is not None:
        plain(f"page    {out}")


def _table(cells: Sequence[dict[str, Any]], of: str) -> Table:
    peers = list(dict.fromkeys(peer for cell in cells for peer in cell["ratios"][of]))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(of, no_wrap=True)
    for column in ("unvanish", *(f"× {peer}" for peer in peers), *(() if is_narrow() else ("same numbers",))):
        table.add_column(column, justify="right")
    for cell in cells:
        ratios = cell["ratios"][of]
        row = [_spread(cell["milliseconds"][of]["unvanish"], " ms")]
        row += [_spread(ratios[peer], " ×") if peer in ratios else "" for peer in peers]
        same = f"to {cell['difference']:.0e}" if cell["is_same"] else f"no: {cell['difference']:.0e}"
        table.add_row(printable(cell["cell"]), *row, *(() if is_narrow() else (same,)))
    return table


def _spread(span: dict[str, float], unit: str) -> str:
    if is_narrow():
        return f"{span['median']:.3g}{unit}"
    return f"{span['median']:.3g}{unit} ({span['low']:.3g}–{span['high']:.3g})"
