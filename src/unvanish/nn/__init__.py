"""torch modules: `Recurrent`, and one thin class per cell."""

from unvanish.nn import init
from unvanish.nn.convert import convert
from unvanish.nn.feedforward import MLP, DenseMLP, HighwayMLP, ResidualMLP
from unvanish.nn.named import CLASSES
from unvanish.nn.recurrent import Recurrent, States, Watch

__all__ = [
    "CLASSES",
    "MLP",
    "DenseMLP",
    "HighwayMLP",
    "Recurrent",
    "ResidualMLP",
    "States",
    "Watch",
    "convert",
    "init",
    *CLASSES,
]
globals().update(CLASSES)
