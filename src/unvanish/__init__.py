"""Recurrent networks that remember: any cell at full speed, and a measurement of how far its gradient reaches."""

# First, as it sees to a Ctrl-C while the rest is being imported.
from unvanish.cli import starting  # isort: split

from unvanish import errors, flow
from unvanish.cells import CATALOGUE as cells
from unvanish.diagnosis import Diagnosis, diagnose, watch
from unvanish.equations import Cell, Drawn, Grouped
from unvanish.nn import CLASSES, MLP, DenseMLP, HighwayMLP, Recurrent, ResidualMLP, convert, init
from unvanish.nn.named import class_named
from unvanish.remedies import clip, penalty

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "Cell",
    "DenseMLP",
    "Diagnosis",
    "Drawn",
    "Grouped",
    "HighwayMLP",
    "Recurrent",
    "ResidualMLP",
    "cells",
    "clip",
    "convert",
    "diagnose",
    "errors",
    "flow",
    "init",
    "penalty",
    "watch",
    *CLASSES,
]
globals().update(CLASSES)
del starting


def __getattr__(name: str) -> type[Recurrent]:
    """Return a class by its name of before; every class that exists is found before this is asked."""
    return class_named(name)
