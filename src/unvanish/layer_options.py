"""The keywords of every layer, each once: its usual value, of what kind it is, and how it shows.

Whoever needs the list reads it here: a layer's `repr` and refusals, `unvanish.convert`, the settings of a training,
the command line, the report. `Recurrent.__init__` spells the same names for whoever reads its signature; a test
keeps the two in step. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["any", "flag", "share", "delays", "word", "word or none", "words", "size or none"]


@dataclass(frozen=True, slots=True)
class LayerOption:
    """One keyword of every layer.

    Attributes:
        usual: its value where it is not given.
        kind: what the settings of a training and the command line take.
        help: what the command line says of it; empty for what `unvanish train` does not take.
        title: what the report calls it, where it is a remedy.
        draws: whether it acts in training alone, by chance.
        ours: whether torch.nn's layers do not have it.
        shown: whether `repr` shows it where it is not as usual.
        flag: its name on the command line, where that is another.
    """

    usual: Any
    kind: Kind = "any"
    help: str = ""
    title: str = ""
    draws: bool = False
    ours: bool = False
    shown: bool = True
    flag: str = ""


LAYER_OPTIONS: dict[str, LayerOption] = {
    "num_layers": LayerOption(1),
    "bias": LayerOption(True),
    "batch_first": LayerOption(False),
    "dropout": LayerOption(0.0, "share", "Dropout between layers."),
    "bidirectional": LayerOption(False, "flag", "Read in both directions: for whole sequences, not for text."),
    "proj_size": LayerOption(0, "size or none", "Project the outputs to so many units.", flag="--proj"),
    "device": LayerOption(None, shown=False),
    "dtype": LayerOption(None, shown=False),
    "recurrent_dropout": LayerOption(
        0.0,
        "share",
        "Share of the states hidden from the recurrent matrices, one mask per window.",
        "Recurrent dropout",
        draws=True,
        ours=True,
    ),
    "zoneout": LayerOption(
        0.0, "share", "Probability with which a unit keeps its old value.", "Zoneout", draws=True, ours=True
    ),
    "weight_drop": LayerOption(
        0.0,
        "share",
        "Fraction of the recurrent weights to drop, redrawn for each window.",
        "Weight drop",
        draws=True,
        ours=True,
    ),
    "layer_norm": LayerOption(False, "flag", "Normalise what each matrix gives.", "Layer normalisation", ours=True),
    "batch_norm": LayerOption(0, ours=True),
    "skips": LayerOption(
        (), "delays", "Connections from so many steps back too: 5,25.", "Skip connections through time", ours=True
    ),
    "connect": LayerOption(
        "plain",
        "word",
        "What joins the layers: plain, residual, dense or highway.",
        "Connection between layers",
        ours=True,
    ),
    "constrain": LayerOption(
        None,
        "word or none",
        "Hold recurrent matrices: orthogonal, antisymmetric:0.01, radius:0.95 or weight_norm.",
        "Constraint on recurrent matrices",
        ours=True,
    ),
    "engine": LayerOption("auto"),
    "memory": LayerOption("fast"),
    "init": LayerOption(
        None,
        "words",
        "orthogonal, identity, radius:1.1, chrono:784, forget:2, … Repeatable.",
        "Initialiser",
        shown=False,
    ),
}
TRAINED = {name: option for name, option in LAYER_OPTIONS.items() if option.help}  # what `unvanish train` takes
