"""The public names. `unvanish` loads them when the first of them is asked for, as they need torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from unvanish import errors, export, flow, tasks
from unvanish.cells import CATALOGUE as cells
from unvanish.diagnosis import Diagnosis, diagnose, watch
from unvanish.equations import Cell, Drawn, Grouped
from unvanish.nn import CLASSES, MLP, DenseMLP, HighwayMLP, Recurrent, ResidualMLP, convert, init
from unvanish.remedies import clip, pace, penalty

if TYPE_CHECKING:
    from unvanish.train import Loaded

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
    "load",
    "pace",
    "penalty",
    "tasks",
    "watch",
    *CLASSES,
]
globals().update(CLASSES)


def load(run: str | os.PathLike[str]) -> Loaded:
    """Load the trained network of a run, to ask it: nothing of the folder is executed or unpickled.

    Returns:
        `Loaded`: the `model`, the `question` that it answers, its `vocabulary`, `classes` or `scalers`; `predict`,
        `evaluate` and, of a run on text, `generate`; what was `measured`, and whether the gradient is `held_back`.

    Raises:
        RunError: the folder is not a run, or is damaged.
        MissingExtraError: runs are read with the extra `app`.
    """
    try:
        from unvanish.train import load_run
    except ImportError as fault:
        raise errors.MissingExtraError(f"a run is read with {fault.name}: pip install 'unvanish[app]'") from fault
    return load_run(Path(run))
