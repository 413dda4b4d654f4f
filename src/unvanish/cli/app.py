"""The commands, put together."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unvanish.cli import (
    bench,
    cells,
    cite,
    compare,
    completion,
    diagnose,
    env,
    export,
    generate,
    predict,
    report,
    train,
)
from unvanish.cli.meant import COMMANDS, OPTIONS, meant
from unvanish.cli.show import plain
from unvanish.errors import OptionError


class _Commands(TyperGroup):
    """The commands, which tell what was meant by one that does not exist."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word in self.commands or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = meant(word, {name: f"unvanish {name}" for name in (*self.commands, *COMMANDS)}, COMMANDS)
        raise OptionError(f"no command is called {word!r}: {near or 'unvanish --help lists them'}")


app = typer.Typer(
    name="unvanish",
    cls=_Commands,
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
app.command("cite")(cite.cite)
app.command("bench")(bench.bench)
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
        raise OptionError(_in_words(fault, arguments)) from fault
    except SystemExit:  # typer's answer to a reader of our output who has gone away
        raise BrokenPipeError from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0


def _in_words(fault: typer.TyperException, arguments: list[str]) -> str:
    """Say what typer refuses, and what was probably meant by an option that there is not."""
    context = getattr(fault, "ctx", None)
    told = f"({context.command_path if context else 'unvanish COMMAND'} --help shows what it takes)"
    if context is None or type(fault).__name__ != "NoSuchOption":  # a class that typer keeps to itself
        return f"{fault.format_message()} {told}"
    given = str(getattr(fault, "option_name", ""))
    if len(given) == 2:  # -lr is read as -l -r
        given = next((one for one in arguments if one.startswith(given) and len(one) > 2), given)
    given = given.partition("=")[0]
    known = {}
    for one in context.command.params:
        if one.param_type_name == "argument":
            known[one.name] = f"{one.name.upper()}, without an option before it"
        else:
            known |= {option.removeprefix("--"): option for option in one.opts if option.startswith("--")}
    near = meant(given, known, OPTIONS) if len(given) > 2 else ""
    return f"no option is called {given}{near and f': {near}'} {told}"
