"""The options of `unvanish train`, by what they are about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from unvanish.cli.completion import cells, runs, words
from unvanish.layer_options import TRAINED, LayerOption

DATA, TRAINING, NETWORK = "Data", "Training", "Network"


Values = Callable[[str], list[str]] | None  # what completes to the values of an option


def _data(text: str, *names: str, values: Values = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=DATA, autocompletion=values)


def _training(text: str, *names: str, values: Values = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=TRAINING, autocompletion=values)


def _network(text: str, *names: str, values: Values = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=NETWORK, autocompletion=values)


Source = Annotated[
    str | None,
    typer.Argument(
        help="A text, a table (CSV, TSV, JSON lines, Parquet), arrays (NPY, NPZ), a .ts file, or a folder with "
        "train.txt and valid.txt or with the files of MNIST. Default: Python's own library."
    ),
]
Kind = Annotated[
    str | None,
    _data(
        "What the source is: text, bytes, words, bpe, table, arrays, archive or images. Default: looks.",
        "--as",
        values=words("text", "bytes", "words", "bpe", "table", "arrays", "archive", "images"),
    ),
]
Vocabulary = Annotated[int, _data("How many words are told apart, or pieces are made. 0: as usual.")]
Mark = Annotated[str | None, _data(r"Symbol that starts a document; states are reset there: '\n', <eos>.")]
Target = Annotated[list[str] | None, _data("Column to predict. Repeatable.")]
Time = Annotated[str | None, _data("Column that orders the rows. Default: ds, time, date and the like.")]
Group = Annotated[str | None, _data("Column that tells series apart. Default: unique_id and the like.")]
Horizon = Annotated[int, _data("Forecast the target so many steps ahead.")]
Known = Annotated[list[str] | None, _data("Column that is known beforehand. Repeatable.")]
Words = Annotated[list[str] | None, _data("Column that holds words, whatever it looks like. Repeatable.")]
Ignore = Annotated[list[str] | None, _data("Column to leave out. Repeatable.")]
Decimal = Annotated[str | None, _data("The mark before decimals, . or , where the values do not tell it.")]
Scale = Annotated[
    str | None,
    _data(
        "Divide numbers by the spread of the part to train on (standard, robust), of each series (series), of "
        "each window (window), or not at all (none).",
        values=words("standard", "robust", "series", "window", "none"),
    ),
]
Loss = Annotated[
    str,
    _data(
        "Of a forecast: quantiles, point, gaussian, student or negbin (counts).",
        "--loss",
        values=words("quantiles", "point", "gaussian", "student", "negbin"),
    ),
]
Season = Annotated[int, _data("Steps after which a series repeats, for the naive forecast. 0: by the time step.")]
Windows = Annotated[int, _data("Forecasts at the end of each series to test on.")]
Stride = Annotated[int, _data("Steps between these. Default: the horizon.", "--step")]
Valid = Annotated[float, _data("Share to validate on, where the source does not say.")]
Task = Annotated[
    str | None,
    _data("A long-range problem instead of data: agreement. With a source, its corpus.", values=words("agreement")),
]
Distance = Annotated[int, _data("Of agreement: steps from the subject to its verb.")]
Attractors = Annotated[int, _data("Of agreement: nouns of the other number between them.")]
Images = Annotated[str, _data("A step of an image: rows or pixels.", values=words("rows", "pixels"))]
Pool = Annotated[
    str,
    _data(
        "Judge a sequence by its last output (last), or by the mean of all (mean).", values=words("last", "mean")
    ),
]

Cell = Annotated[
    str,
    _network(
        "A cell of the catalogue (see: unvanish cells), or of your own: FILE.py:NAME, or FILE.yaml.", values=cells
    ),
]
Hidden = Annotated[int, _network("Units per layer.")]
Layers = Annotated[int, _network("Layers.")]
Tied = Annotated[bool, _network("Predict symbols with the matrix that embeds them.", "--tied")]
Softmax = Annotated[str, _network("full, or adaptive for large vocabularies.", values=words("full", "adaptive"))]
Set = Annotated[list[str] | None, _network("An option of the cell: d=9, period=1,2,4. Repeatable.", "--set")]

Length = Annotated[int, _training("Steps per window: of text, and of series. Default: what fits the data.")]
RandomWindows = Annotated[
    bool, _training("Of text: windows of random lengths, cut elsewhere each epoch.", "--random-windows")
]
BatchSize = Annotated[int, _training("Streams of text, or sequences in a batch. Default: what fits the data.")]
Epochs = Annotated[int, _training("Times over the data. Default: 3 of text, else some 1,500 steps.")]
Rate = Annotated[float, _training("Learning rate.")]
Optimizer = Annotated[
    str, _training("adam, adamw, sgd or rmsprop.", values=words("adam", "adamw", "sgd", "rmsprop"))
]
WeightDecay = Annotated[float, _training("Weight decay.")]
Scheduling = Annotated[
    str,
    _training(
        "constant, cosine, one-cycle or plateau. Default: constant for text, else cosine.",
        values=words("constant", "cosine", "one-cycle", "plateau"),
    ),
]
WarmUp = Annotated[int, _training("Steps over which the learning rate rises to its height.")]
Patience = Annotated[int, _training("End after so many validations without a better one; keep the best. 0: never.")]
TimeLimit = Annotated[float, _training("Stop and save after so many minutes. 0: never.")]
Clip = Annotated[
    str,
    _training(
        "norm:5, value:1, layer:1, unit:0.01, percentile:10, zscore:2.5, random:1; at every time step of the "
        "backward pass step:10 (by value), step-norm:1; or none."
    ),
]
Penalty = Annotated[
    list[str] | None,
    _training("omega:2, omega-paper:2, orthogonal:0.01, stabilise:50 or flossing:1. Repeatable."),
]
Pacing = Annotated[
    list[str] | None,
    _training(
        "NAME=RATES, as U_*=1,2,4: update parameters every so many steps, by groups of units. Repeatable.",
        "--pace",
    ),
]
PaceScaled = Annotated[bool, _training("Divide their learning rate instead.", "--pace-scaled")]
Seed = Annotated[int, _training("Seed of everything random.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the run. Default: runs/CELL-DATE-TIME.")]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Go on with this run from its last checkpoint; --epochs, --lr and --clip may change.",
        autocompletion=runs,
    ),
]
ValidEvery = Annotated[int, _training("Steps between validations; 0: once an epoch.")]
Probes = Annotated[int, _training("Measurements of the gradient, beside one a validation.")]
Precision = Annotated[
    str,
    _training(
        "Bits of the numbers: 32, 64, or bf16 or 16 with parameters of 32.", values=words("32", "64", "bf16", "16")
    ),
]
Accumulate = Annotated[int, _training("Batches whose gradients are gathered for one step.")]
Strategy = Annotated[str, _training("How several devices share a batch: ddp.", values=words("auto", "ddp"))]
Devices = Annotated[int, _training("GPUs, or processes, that share each batch, with --batch-size rows each.")]
Logger = Annotated[
    list[str] | None,
    _training(
        "Beside the record: tensorboard, csv, wandb or mlflow. Repeatable.",
        values=words("tensorboard", "csv", "wandb", "mlflow"),
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="Settings from a YAML file, or of a run, which makes it again; options beside it win.",
        autocompletion=runs,
    ),
]
FindRate = Annotated[bool, _training("Look for the learning rate in a short trial.", "--lr-find")]
Seeds = Annotated[int, _training("Train so many networks, from one seed after the other, and compare them.")]
Engine = Annotated[
    str, _training("auto, reference, builtin or native.", values=words("auto", "reference", "builtin", "native"))
]
Device = Annotated[str, _training("auto, cpu or cuda.", values=words("auto", "cpu", "cuda"))]

# What is asked of the data: name, annotation, value where it is not given.
OF_DATA: list[tuple[str, Any, Any]] = [
    ("kind", Kind, None),
    ("vocabulary", Vocabulary, 0),
    ("document_mark", Mark, None),
    ("target", Target, None),
    ("time", Time, None),
    ("group", Group, None),
    ("horizon", Horizon, 0),
    ("known", Known, None),
    ("words", Words, None),
    ("ignore", Ignore, None),
    ("decimal", Decimal, None),
    ("scale", Scale, None),
    ("likelihood", Loss, "quantiles"),
    ("season", Season, 0),
    ("windows", Windows, 1),
    ("stride", Stride, 0),
    ("valid", Valid, 0.1),
    ("images", Images, "rows"),
    ("pool", Pool, "last"),
    ("task", Task, None),
    ("distance", Distance, 40),
    ("attractors", Attractors, 2),
]

# What the command line takes of a kind: its type, and its value where it is not given.
TYPED: dict[str, tuple[Any, Any]] = {
    "share": (float, 0.0),
    "flag": (bool, False),
    "delays": (str, ""),
    "word or none": (str | None, None),
    "words": (list[str] | None, None),
    "size or none": (int, 0),
}


def of_layers() -> list[tuple[str, Any, Any]]:
    """Return the keywords of a layer as options: name, annotation, default."""
    found = []
    for name, option in TRAINED.items():
        kind, usual = TYPED.get(option.kind, (str, option.usual))
        found.append((name, Annotated[kind, _of_layer(name, option)], usual))
    return found


def _of_layer(name: str, option: LayerOption) -> Any:
    # A flag without its --no-…
    named = [option.flag or f"--{name.replace('_', '-')}"] if option.kind == "flag" or option.flag else []
    return _network(option.help, *named)
