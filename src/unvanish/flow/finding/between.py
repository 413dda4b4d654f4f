"""What stands between the calls of a module that is called once a step: a dropout, a factor, a second layer.

The module by itself is then not the recurrence, so that what comes back is measured in the model, through its own
graph.

Shapes: K lags, S states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.torch_internals import pytree

SAME = 1e-5  # of the norm: as much is rounding
Calls = list[tuple[Any, Any, Any]]  # arguments, keywords, what was returned


@dataclass
class Link:
    """How a module that is called once a step hands its states on: leaves of its output, leaves of its input."""

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


def leaves_of(value: Any) -> list[Any]:
    """Return the leaves of nested tuples, lists and mappings, in order."""
    found: list[Any] = pytree.tree_leaves(value)
    return found


def is_state(leaf: Any) -> bool:
    """Say whether a leaf can be a state."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() >= 1


def by_shape(call: tuple[Any, Any, Any]) -> Link:
    """Without a chain of the same tensors: what is returned goes to the last inputs of the same shape, in order."""
    args, keywords, output = call
    given, outputs, inputs = leaves_of((args, keywords)), list[int](), list[int]()
    for position, returned in enumerate(leaves_of(output)):
        for place, one in enumerate(given):
            fits = is_state(returned) and is_state(one) and one.shape == returned.shape
            if fits and place > 0 and place not in inputs:
                outputs.append(position)
                inputs.append(place)
                break
    return Link(tuple(outputs), tuple(inputs))


def leaves_at(leaves: list[Any], places: tuple[int, ...]) -> list[Any]:
    """The leaves at some places; none where a call left its states out."""
    return [leaves[place] for place in places] if all(place < len(leaves) for place in places) else []


def back_through(
    calls: Calls, outputs: tuple[int, ...], inputs: tuple[int, ...]
) -> tuple[float, NDArray[np.float64]] | None:
    """Send a random direction from the last call's states back through the model's graph; None where nothing stands
    between the calls, or where the states do not bring their gradient along.

    Returns by how much of its norm a state is changed between two calls, and what is left k calls back, (K, S).
    """
    returned = [leaves_at(leaves_of(output), outputs) for _, _, output in calls]
    taken = [leaves_at(leaves_of((args, keywords)), inputs) for args, keywords, _ in calls]
    pairs = [
        pair
        for before, after in zip(returned, taken[1:], strict=False)
        for pair in zip(before, after, strict=False)
    ]
    changed = max((_difference(before, after) for before, after in pairs), default=0.0)
    joined = any(after.requires_grad for _, after in pairs)
    ends = [state for state in returned[-1] if state.requires_grad]
    if changed <= SAME or not joined or not ends or len(ends) != len(returned[-1]):
        return None
    directions = [torch.randn_like(end) for end in ends]
    earlier = [state for states in returned[:-1] for state in states]
    found = torch.autograd.grad(ends, earlier, directions, retain_graph=True, allow_unused=True)
    sent = sum(float(direction.double().square().sum()) for direction in directions)
    squares = [0.0 if gradient is None else float(gradient.double().square().sum()) for gradient in found]
    rows = [squares[at : at + len(ends)] for at in range(0, len(squares), len(ends))]
    first = [float(direction.double().square().sum()) for direction in directions]
    return changed, np.sqrt(np.asarray([first, *reversed(rows)]) / sent)


def _difference(before: Tensor, after: Tensor) -> float:
    if before.shape != after.shape:
        return 0.0
    return float((after - before).detach().norm() / before.detach().norm().clamp_min(1e-12))
