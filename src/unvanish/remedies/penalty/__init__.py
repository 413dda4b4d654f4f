"""Penalties: terms beside the loss that change how gradients flow."""

from unvanish.remedies.penalty.flossing import Flossed, Flossing
from unvanish.remedies.penalty.omega import Omega, OmegaRecord
from unvanish.remedies.penalty.orthogonality import Orthogonality
from unvanish.remedies.penalty.parse import Penalty, parse
from unvanish.remedies.penalty.stabiliser import NormStabiliser

__all__ = [
    "Flossed",
    "Flossing",
    "NormStabiliser",
    "Omega",
    "OmegaRecord",
    "Orthogonality",
    "Penalty",
    "parse",
]
