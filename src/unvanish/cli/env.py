"""`unvanish env`: what this machine offers."""

from __future__ import annotations

from typing import Annotated

import typer

from unvanish.cli.show import document
from unvanish.cli.starting import at_once


def env(
    compile_kernels: Annotated[
        bool, typer.Option("--compile", help="Compile the kernel of every cell, and time it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON, for machines.")] = False,
) -> None:
    """Show the versions, the threads, the compiler, the GPU and the cache folder.

    Example: unvanish env --compile
    """
    with at_once():
        from unvanish.cli import machine

    if as_json:
        document(machine.described(compile_kernels))
    else:
        machine.show(compile_kernels)
