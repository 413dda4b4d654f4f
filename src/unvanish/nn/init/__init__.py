"""Initialisers: each function returns one, for `init=` of a layer, or to be called with any tensor.

Those of arrays fill one matrix or vector. Those of layers (`forget_bias`, `chrono`, `leaks`) find from the
equations of a cell what keeps its states, and set that. A layer takes words for all: `init="chrono:784"`.
"""

from unvanish.nn.init.arrays import (
    ArrayInitialiser,
    constant,
    depth,
    he,
    identity,
    orthogonal,
    radius,
    scaled,
    sparse,
    uniform,
    xavier,
)
from unvanish.nn.init.timescales import LayerInitialiser, chrono, forget_bias, leaks
from unvanish.nn.init.words import WORDS, from_word

__all__ = [
    "WORDS",
    "ArrayInitialiser",
    "LayerInitialiser",
    "chrono",
    "constant",
    "depth",
    "forget_bias",
    "from_word",
    "he",
    "identity",
    "leaks",
    "orthogonal",
    "radius",
    "scaled",
    "sparse",
    "uniform",
    "xavier",
]
