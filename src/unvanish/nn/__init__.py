"""torch modules: `Recurrent`, and one thin class per cell."""

from unvanish.nn import init
from unvanish.nn.convert import convert
from unvanish.nn.feedforward import MLP, DenseMLP, HighwayMLP, ResidualMLP
from unvanish.nn.named import CLASSES
from unvanish.nn.part import Part, Ran
from unvanish.nn.recurrent import Layer, Recurrent, States

__all__ = [
    "CLASSES",
    "MLP",
    "DenseMLP",
    "HighwayMLP",
    "Layer",
    "Part",
    "Ran",
    "Recurrent",
    "ResidualMLP",
    "States",
    "convert",
    "init",
    *CLASSES,
]
globals().update(CLASSES)
