"""Gradient clipping: by value, by norm, per layer, unit or time step, adaptive, or a random step; each counted."""

from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.bias import Bias, bias
from unvanish.remedies.clip.layer import PerLayer
from unvanish.remedies.clip.norm import ByNorm
from unvanish.remedies.clip.parse import parse
from unvanish.remedies.clip.percentile import Percentile
from unvanish.remedies.clip.random import RandomStep
from unvanish.remedies.clip.record import ClipRecord
from unvanish.remedies.clip.step import PerStep
from unvanish.remedies.clip.suggest import Suggestion, suggest
from unvanish.remedies.clip.unitwise import UnitWise
from unvanish.remedies.clip.value import ByValue
from unvanish.remedies.clip.zscore import ZScore

__all__ = [
    "Bias",
    "ByNorm",
    "ByValue",
    "Clip",
    "ClipRecord",
    "PerLayer",
    "PerStep",
    "Percentile",
    "RandomStep",
    "Suggestion",
    "UnitWise",
    "ZScore",
    "bias",
    "parse",
    "suggest",
]
