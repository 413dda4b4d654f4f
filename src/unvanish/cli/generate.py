"""`unvanish generate`: let a trained network write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unvanish.cli.show import note, written
from unvanish.cli.starting import at_once


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    length: Annotated[int, typer.Option(help="Characters to write.")] = 400,
    temperature: Annotated[float, typer.Option(help="Under 1 safer, over 1 wilder, 0 the likeliest only.")] = 0.8,
    seed: Annotated[int | None, typer.Option(help="Seed, for the same text again.")] = None,
) -> None:
    """Continue a prompt with a trained network."""
    with at_once():
        from unvanish import train as room

    model, vocabulary, _ = room.load_model(run, say=note)
    written(prompt + room.generate(model, vocabulary, prompt, length, temperature, seed))
