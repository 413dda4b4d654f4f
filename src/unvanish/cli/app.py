"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from unvanish.cli import cells, compare, completion, diagnose, env, export, generate, predict, report, train
from unvanish.cli.show import plain
from unvanish.errors import OptionError

app = typer.Typer(
    name="unvanish",
    help="Recurrent networks that remember: train any cell, and see how far its gradient reaches.",
    epilog="--debug anywhere on the line shows the traceback of a fault.",
    add_completion=False,  # two more options on the first page: `unvanish completion` prints the script
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # torch itself takes a second to import
        from platform import python_version

        plain(f"unvanish {version('unvanish')} (torch {version('torch')}, python {python_version()})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the versions.")
    ] = False,
) -> None:
    pass


app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("predict")(predict.predict)
app.command("evaluate")(predict.evaluate)
app.command("export")(export.export)
app.command("diagnose")(diagnose.diagnose)
app.command("cells")(cells.cells)
app.command("env")(env.env)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("completion")(completion.completion)


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit status."""
    if instruction := completion.asked():
        return completion.answer(app, instruction)
    try:
        status = app(arguments or ["--help"], prog_name="unvanish", standalone_mode=False)
    except typer.TyperException as fault:
        raise OptionError(f"{fault.format_message()} (unvanish COMMAND --help shows what it takes)") from fault
    except SystemExit:  # typer's answer to a reader of our output who has gone away
        raise BrokenPipeError from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0
