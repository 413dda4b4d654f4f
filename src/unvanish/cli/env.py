"""`unvanish env`: what this machine offers."""

from __future__ import annotations

from typing import Annotated

import typer

from unvanish.cli.starting import at_once


def env(
    compile_kernels: Annotated[
        bool, typer.Option("--compile", help="Compile the kernel of every cell, and time it.")
    ] = False,
) -> None:
    """Show the versions, the threads, the compiler, the GPU and the cache folder.

    Example: unvanish env --compile
    """
    with at_once():
        from unvanish.cli import machine

    machine.show(compile_kernels)
