"""`unvanish train`: from a text to a trained network and its report."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from unvanish.cli.show import console, note, parse_settings, plain
from unvanish.cli.starting import at_once
from unvanish.errors import NonFiniteError, OptionError, RunError, printable
from unvanish.layer_options import TRAINED, LayerOption
from unvanish.record import RunRecord

if TYPE_CHECKING:  # Lightning takes seconds to import: help and errors come first
    from unvanish.train import Training, TrainSettings


Cell = Annotated[str, typer.Option(help="A cell of the catalogue (see: unvanish cells).")]
Clip = Annotated[
    str,
    typer.Option(
        help="norm:5, value:1, layer:1, unit:0.01, percentile:10, zscore:2.5, random:1; at every time step of the "
        "backward pass step:10 (by value), step-norm:1; or none."
    ),
]
Penalty = Annotated[
    list[str] | None,
    typer.Option(help="omega:2, omega-paper:2, orthogonal:0.01, stabilise:50 or flossing:1. Repeatable."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="An option of the cell: d=9, period=1,2,4. Repeatable.")
]
Source = Annotated[
    str | None,
    typer.Argument(help="A UTF-8 text, or a folder with train.txt and valid.txt. Default: Python's own library."),
]
Resume = Annotated[
    Path | None,
    typer.Option(help="Go on with this run from its last checkpoint; --epochs, --lr and --clip may change."),
]


def _with_layer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the keywords of a layer as options, each of its kind."""
    whole = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in whole.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    of_layer = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=usual, annotation=Annotated[kind, _option(name, option)])
        for name, option in TRAINED.items()
        for kind, usual in [_TYPED.get(option.kind, (str, option.usual))]
    ]
    command.__signature__ = whole.replace(parameters=[*own, *of_layer])  # type: ignore[attr-defined]
    return command


# What the command line takes of a kind: its type, and its value where it is not given.
_TYPED: dict[str, tuple[Any, Any]] = {
    "share": (float, 0.0),
    "flag": (bool, False),
    "delays": (str, ""),
    "word or none": (str | None, None),
    "words": (list[str] | None, None),
}


def _option(name: str, option: LayerOption) -> Any:
    named = [f"--{name.replace('_', '-')}"] if option.kind == "flag" else []  # without its --no-…
    return typer.Option(*named, help=option.help)


@_with_layer_options
def train(
    context: typer.Context,
    source: Source = None,
    cell: Cell = "lstm",
    hidden: Annotated[int, typer.Option(help="Units per layer.")] = 128,
    layers: Annotated[int, typer.Option(help="Layers.")] = 2,
    length: Annotated[int, typer.Option(help="Steps per window of truncated backpropagation.")] = 50,
    batch_size: Annotated[int, typer.Option(help="Parallel streams of text.")] = 50,
    epochs: Annotated[int, typer.Option(help="Times over the text.")] = 3,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 5e-3,
    optimizer: Annotated[str, typer.Option(help="adam, sgd or rmsprop.")] = "adam",
    clip: Clip = "norm:5",
    penalty: Penalty = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. Default: runs/CELL-DATE-TIME.")] = None,
    resume: Resume = None,
    valid_every: Annotated[int, typer.Option(help="Steps between validations; 0: once an epoch.")] = 0,
    probes: Annotated[int, typer.Option(help="Measurements of the gradient, beside one a validation.")] = 8,
    engine: Annotated[str, typer.Option(help="auto, reference, builtin or native.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    set_: Set = None,
    **layer: Any,
) -> None:
    """Train a network on text; watch its loss and how far its gradient reaches; keep the run and a report."""
    if resume is not None:
        _resume(context, resume)
        return
    with at_once():
        from unvanish import train as room

    _finish(room.prepare(_settings(context.params), out))


def _settings(given: dict[str, Any]) -> TrainSettings:
    """Make the settings of a run from the options, which have their names."""
    from unvanish.train import TrainSettings

    names = {field.name for field in dataclasses.fields(TrainSettings)} & set(given)
    asked = {name: given[name] for name in names}
    asked |= {name: list(given[name] or []) for name in ("penalty", "init")}
    return TrainSettings(
        **{**asked, "skips": _delays(given["skips"]), "cell_options": parse_settings(list(given["set_"] or []))}
    )


def _delays(text: str) -> list[int]:
    try:
        return [int(delay) for delay in text.split(",")] if text else []
    except ValueError:
        raise OptionError(f"--skips {text} is not understood: write delays of 2 steps or more, 5,25") from None


def _resume(context: typer.Context, folder: Path) -> None:
    """Go on with a run; only what may change on the way can be given beside it."""
    with at_once():
        from unvanish import train as room

    changes = {name: value for name, value in context.params.items() if _given(context, name)}
    changes.pop("resume")
    if fixed := set(changes) - {"epochs", "lr", "clip"}:
        raise OptionError(
            f"--resume goes on with a run as it was begun: leave {_shown(sorted(fixed)[0])} away "
            "(--epochs, --lr and --clip may change)"
        )
    _finish(room.prepare_resume(folder, **changes, say=note))


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _shown(name: str) -> str:
    return "SOURCE" if name == "source" else f"--{name.rstrip('_').replace('_', '-')}"


def _finish(training: Training) -> None:
    """Run, and whatever comes of it write the report of what there is."""
    from unvanish.report import write_report

    folder = training.folder
    try:
        outcome = training.run(plain, progress=sys.stdout.isatty())
    except (NonFiniteError, OSError):
        _report_if_possible(folder)
        raise
    except KeyboardInterrupt:
        plain(f"stopped at once; go on from the last checkpoint with  unvanish train --resume {folder}")
        raise
    if outcome.interrupted:
        plain(f"stopped and saved; go on with  unvanish train --resume {folder}")
        plain(f"report  {write_report(folder)}")
        raise typer.Exit(128 + outcome.interrupted)
    _summary(RunRecord.open(folder))
    plain(f"report  {write_report(folder)}")


def _report_if_possible(folder: Path) -> None:
    from unvanish.report import write_report

    try:
        plain(f"report  {write_report(folder)}")
    except (OSError, RunError):
        plain(f"the report could not be written; write it later with  unvanish report {folder}")


def _summary(record: RunRecord) -> None:
    """Show what the run reached in a short table, and what the network writes."""
    from unvanish.record.reaching import held_back
    from unvanish.record.schema import Need, Sample, Valid
    from unvanish.train.callback import perplexity_text

    valid = [line for line in map(Valid.read, record.read("valid")) if line.loss is not None]
    config = record.read_config()
    need = next((line for line in map(Need.read, record.read("need")) if line.lag is not None), None)
    if valid:
        last, best = valid[-1], min(valid, key=lambda line: line.loss or 0.0)
        loss, speed = last.loss or 0.0, last.tokens_per_second or 0.0
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_row("cell", f"{printable(config.cell.name)}, {config.parameters:,} parameters")
        table.add_row("validation loss", f"{loss:.3f} nats = {loss / math.log(2):.3f} bits per character")
        table.add_row("perplexity", perplexity_text(last.perplexity))
        table.add_row("best", f"{best.loss:.3f} nats at step {best.step:,}")
        for part, found in last.reach.items():
            rate = "no rate" if found.rate is None else f"{found.rate:+.4f} nats per step"
            reach = f"{'≥ ' if found.censored else ''}{found.steps} steps ({rate})"
            told = "" if need is None else held_back(found.steps, config.settings.get("length"), need.lag)
            table.add_row(f"reach of {printable(part)}", f"{reach}{', ' if told else ''}{told}")
        if need is not None:
            table.add_row("needed", f"{'≥ ' if need.censored else ''}{need.lag:,} steps of context")
        table.add_row("time", f"{last.seconds or 0.0:.0f} s, {speed:,.0f} characters a second")
        console.print(table)
    for sample in list(map(Sample.read, record.read("sample")))[-1:]:
        plain("")
        plain(sample.prompt + sample.text)
        plain("")
