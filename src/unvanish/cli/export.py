"""`unvanish export`: a trained network taken out of Python."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from unvanish.cli.completion import runs, words
from unvanish.cli.places import check_file
from unvanish.cli.show import note, plain
from unvanish.cli.starting import at_once
from unvanish.errors import OptionError, nearest

ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "c": ".c"}


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=runs)],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="onnx, torch (torch.export's file) or c (one file of C99). Default: as --out ends, else onnx.",
            autocompletion=words(*ENDINGS),
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write. Default: beside the run.")
    ] = None,
    streaming: Annotated[bool, typer.Option("--streaming", help="One step per run; C always is.")] = False,
    lengths: Annotated[bool, typer.Option("--lengths", help="Take the length of each row too.")] = False,
) -> None:
    """Write the network of a run as ONNX, torch.export's file, or C99, and beside it what its numbers mean.

    Example: unvanish export runs/plays -o speller.c
    """
    to = to or _as_it_ends(out)
    if to not in ENDINGS:
        raise OptionError(f"--to {to} is not known: {nearest(to, ENDINGS)}")
    if to == "c" and (streaming or lengths):
        raise OptionError("--streaming and --lengths are for onnx and torch: a file of C runs step by step")
    path = out or run / f"model{ENDINGS[to]}"
    if out is not None or run.is_dir():
        check_file(path, f"model{ENDINGS[to]}")
    with at_once():
        from unvanish import export as room
        from unvanish import train
        from unvanish.train.parts import beside, parts_of_run

    loaded = train.load_run(run, say=note)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts, described = parts_of_run(loaded), path.with_name(f"{path.name}.json")
    with _whole_or_not_at_all(path) as file:
        if to == "c":
            name = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in path.stem)
            room.to_c(parts, file, name=name if name[:1].isalpha() else f"model_{name}")
        else:
            write = room.to_onnx if to == "onnx" else room.to_torch
            write(parts, file, streaming=streaming, lengths=lengths)
        beside_it = json.dumps(beside(loaded), ensure_ascii=False) + "\n"
        file.with_name(described.name).write_text(beside_it, encoding="utf-8")
    plain(f"{path}, and what its numbers mean: {described}")


def _as_it_ends(out: Path | None) -> str:
    """The format that the ending of a name means."""
    if out is None or not out.suffix:
        return "onnx"
    found = next((name for name, ending in ENDINGS.items() if ending == out.suffix.lower()), None)
    if found is None:
        raise OptionError(
            f"--out {out} ends like no format: give --to onnx, torch or c, or end it with .onnx, .pt2 or .c"
        )
    return found


@contextlib.contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """Lend a place of the same name; what was written there, and beside it, is moved where all of it is there."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / path.name
        for file in Path(folder).iterdir():
            file.replace(path.with_name(file.name))
