"""Penalties: terms beside the loss that change how gradients flow."""

from unvanish.remedies.penalty.omega import Omega, OmegaRecord

__all__ = ["Omega", "OmegaRecord"]
