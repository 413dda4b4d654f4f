"""`unvanish train`: from data to a trained network and its report."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from unvanish.cli import options
from unvanish.cli.places import check_folder
from unvanish.cli.seeds import go_on, runs_in, train_seeds
from unvanish.cli.show import console, note, parse_settings, plain
from unvanish.cli.starting import at_once
from unvanish.errors import NonFiniteError, OptionError, RunError
from unvanish.record import RunRecord

if TYPE_CHECKING:  # Lightning takes seconds to import: help and errors come first
    from unvanish.train import Training, TrainSettings

# What the command line calls otherwise than the settings.
SETTING = {"set_": "cell_options"}
LISTS = ("penalty", "init", "target", "known", "words", "ignore", "logger", "pace")


def _with_listed_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that are listed elsewhere: those of data, and the keywords of a layer."""
    whole = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in whole.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    listed = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=usual, annotation=annotation)
        for name, annotation, usual in [*options.OF_DATA, *options.of_layers()]
    ]
    command.__signature__ = whole.replace(parameters=[*own, *listed])  # type: ignore[attr-defined]
    return command


@_with_listed_options
def train(
    context: typer.Context,
    source: options.Source = None,
    cell: options.Cell = "lstm",
    hidden: options.Hidden = 128,
    layers: options.Layers = 2,
    tied: options.Tied = False,
    softmax: options.Softmax = "full",
    length: options.Length = 0,
    random_windows: options.RandomWindows = False,
    batch_size: options.BatchSize = 0,
    epochs: options.Epochs = 0,
    lr: options.Rate = 5e-3,
    lr_find: options.FindRate = False,
    optimizer: options.Optimizer = "adam",
    weight_decay: options.WeightDecay = 0.0,
    schedule: options.Scheduling = "",
    warm_up: options.WarmUp = 0,
    patience: options.Patience = 0,
    time_limit: options.TimeLimit = 0.0,
    clip: options.Clip = "norm:5",
    penalty: options.Penalty = None,
    pace: options.Pacing = None,
    pace_scaled: options.PaceScaled = False,
    seed: options.Seed = 1,
    seeds: options.Seeds = 1,
    config: options.Config = None,
    out: options.Out = None,
    resume: options.Resume = None,
    valid_every: options.ValidEvery = 0,
    probes: options.Probes = 8,
    engine: options.Engine = "auto",
    device: options.Device = "auto",
    strategy: options.Strategy = "auto",
    devices: options.Devices = 1,
    precision: options.Precision = "32",
    accumulate: options.Accumulate = 1,
    logger: options.Logger = None,
    set_: options.Set = None,
    **listed: Any,
) -> None:
    """Train a network on your data; see what they need and how far its gradient reaches; keep the run and a report.

    Text: the next symbol. Sequences with labels: a class or a number, of each sequence or each step. Series with
    --horizon: a forecast.

    Example: unvanish train sales.csv --target y --time ds --group unique_id --horizon 24
    """
    if resume is not None:
        _resume(context, resume)
        return
    _begin(context, config, out, seeds, lr_find)


def _begin(context: typer.Context, config: Path | None, out: Path | None, seeds: int, lr_find: bool) -> None:
    """Train from the start: one network, or one for each of some seeds."""
    if out is not None:
        check_folder(out)
    with at_once():
        from unvanish import train as room

    settings = _settings(context.params)
    found = None if config is None else room.read_settings(config)
    if found is not None:
        beside = {SETTING.get(name, name) for name in context.params if _given(context, name)}
        settings = found.beside({name: getattr(settings, name) for name in beside & set(settings.to_dict())})
    own = found.cell if found is not None and not _given(context, "cell") else None
    own = own or room.own_cell(settings.cell)
    prepare = functools.partial(room.prepare, cell=own, digest="" if found is None else found.digest)
    if seeds != 1:
        train_seeds(settings, seeds, out, prepare, lr_find)
    else:
        _finish(prepare(settings, out, say=plain, lr_find=lr_find))


def _settings(given: dict[str, Any]) -> TrainSettings:
    """Make the settings of a run from the options, which have their names."""
    from unvanish.train import TrainSettings

    names = {field.name for field in dataclasses.fields(TrainSettings)} & set(given)
    asked = {name: given[name] for name in names}
    asked |= {name: list(given[name] or []) for name in LISTS}
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
    if runs_in(folder):
        go_on(folder, changes)
    else:
        _finish(room.prepare_resume(folder, **changes, say=note))


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _shown(name: str) -> str:
    named = {"source": "SOURCE", "kind": "--as", "likelihood": "--loss", "stride": "--step", "proj_size": "--proj"}
    return named.get(name, f"--{name.rstrip('_').replace('_', '-')}")


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
    if outcome.stopped:
        plain(f"stopped and saved: {outcome.stopped}; go on with  unvanish train --resume {folder}")
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
    from unvanish.cli.summary import summary
    from unvanish.record.schema import Sample

    console.print(summary(record))
    for sample in list(map(Sample.read, record.read("sample")))[-1:]:
        plain("")
        plain(sample.prompt + sample.text)
        plain("")
