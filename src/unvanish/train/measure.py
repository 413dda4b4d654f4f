"""The profile of a network in training, measured without touching the training.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unvanish import flow
from unvanish.train.model import Network, on, unheard

RECORDED = ("lags", "norms", "rate", "level", "reach", "censored")  # of a profile


def measure(model: Network, x: Any, seed: int, *, draws_noise: bool = False) -> dict[str, flow.Profile]:
    """Measure the profile of each part on a stretch of data, of the network by itself: no clip, no penalty.

    The random directions come from a generator of the seed, so that training's random numbers stay as they are;
    `draws_noise`, which measures the layer as it is in training, draws from those.
    """
    generator, layer = torch.Generator().manual_seed(seed), model.recurrent
    x_TBH = _embedded(model, x)
    was_training = layer.training
    layer.train(draws_noise)
    try:
        with unheard(layer):
            return flow.profiles(layer, x_TBH, generator=generator)
    finally:
        layer.train(was_training)


@torch.no_grad()
def _embedded(model: Network, x: Any) -> Tensor:
    """What the layers read of an input."""
    found: Tensor = model.embedding(on(model, x))
    return found


def along_depth(model: Network, x: Any, seed: int) -> dict[str, Any]:
    """Measure how much of a gradient is left so many layers below the last one, as a record keeps it."""
    with unheard(model.recurrent):
        return flow.depth(
            model.recurrent, _embedded(model, x), generator=torch.Generator().manual_seed(seed)
        ).to_dict()


def probe_seed(seed: int, step: int) -> int:
    """Return the seed of the random directions at a step of a run."""
    return seed * 1_000_003 + step


def plain_profiles(found: dict[str, flow.Profile]) -> dict[str, Any]:
    """Return profiles as a record keeps them."""
    plain = {name: profile.to_dict() for name, profile in found.items()}
    return {name: {field: one[field] for field in RECORDED} for name, one in plain.items()}
