"""`unvanish generate`: let a trained network write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unvanish.cli.completion import runs
from unvanish.cli.show import going_on, note
from unvanish.cli.starting import at_once


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run on text.", autocompletion=runs)],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    length: Annotated[int, typer.Option(help="Symbols to write: characters, words, …")] = 400,
    temperature: Annotated[float, typer.Option(help="Under 1 safer, over 1 wilder, 0 the likeliest only.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw among so many of the likeliest; 0: among all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest of this probability together.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed, for the same text again.")] = None,
) -> None:
    """Continue a prompt with a trained network, symbol by symbol.

    Example: unvanish generate runs/plays --prompt "KING:" --temperature 0.7 --top-p 0.9
    """
    with at_once():
        from unvanish import train as room

    model, symbols, _ = room.load_model(run, say=note)
    numbers = room.stream(model, symbols, prompt, length, temperature, seed, top_k=top_k, top_p=top_p)
    going_on(prompt)
    for text in room.written(symbols, prompt, numbers):
        going_on(text)
    going_on("\n")
