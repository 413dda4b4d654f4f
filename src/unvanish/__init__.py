"""Recurrent networks that remember: any cell at full speed, and a measurement of how far its gradient reaches."""

# First, as it sees to a Ctrl-C while the rest is being imported.
from unvanish.cli import starting  # isort: split

from unvanish import errors, flow
from unvanish.cells import CATALOGUE as cells
from unvanish.diagnosis import Diagnosis, diagnose, watch
from unvanish.equations import Cell, Drawn, Grouped
from unvanish.nn import CLASSES, MLP, DenseMLP, HighwayMLP, Recurrent, ResidualMLP, init
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
    """Tell type checkers what a cell's class is; every class that exists is found before this is asked."""
    raise AttributeError(f"module 'unvanish' has no attribute '{name}'")
