"""The public names. `unvanish` loads them when the first of them is asked for, as they need torch."""

from unvanish import errors, export, flow, tasks
from unvanish.cells import CATALOGUE as cells
from unvanish.diagnosis import Diagnosis, diagnose, watch
from unvanish.equations import Cell, Drawn, Grouped
from unvanish.nn import CLASSES, MLP, DenseMLP, HighwayMLP, Recurrent, ResidualMLP, convert, init
from unvanish.remedies import clip, pace, penalty

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
    "export",
    "flow",
    "init",
    "pace",
    "penalty",
    "tasks",
    "watch",
    *CLASSES,
]
globals().update(CLASSES)
