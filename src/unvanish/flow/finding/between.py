"""What stands between the calls of a module that is called once a step: a dropout, a factor, a second layer.

The module by itself is then not the recurrence, so that what comes back is measured in the model, through its own
graph. The same holds where a call takes, beside its states, what was made of them: its last word, an attention.

Shapes: L layers, D directions or draws, B batch, H hidden, K lags, S states.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.flow.finding.calling import random_like
from unvanish.flow.finding.graph import DRAWS, norms_along
from unvanish.flow.finding.parts import size_of
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
    """Send random directions from the last call's states back through the model's graph; None where nothing stands
    between the calls and none takes what was made of an earlier state, or where no gradient comes back.

    Returns by how much of its norm a state is changed between two calls, and squares like `norms_along`, (D, K, S).
    """
    returned = [leaves_at(leaves_of(output), outputs) for _, _, output in calls]
    leaves = [leaves_of((args, keywords)) for args, keywords, _ in calls]
    taken = [leaves_at(of_call, inputs) for of_call in leaves]
    pairs = [
        pair
        for before, after in zip(returned, taken[1:], strict=False)
        for pair in zip(before, after, strict=False)
        if isinstance(pair[0], Tensor) and isinstance(pair[1], Tensor)
    ]
    changed = max((_difference(before, after) for before, after in pairs), default=0.0)
    joined = any(after.requires_grad for _, after in pairs)
    if not joined or not returned[-1] or not all(state.requires_grad for state in returned[-1]):
        return None
    others = [one for of_call in leaves for place, one in enumerate(of_call) if place not in inputs]
    if changed <= SAME and not _is_made_of(others, [state for states in returned[:-1] for state in states]):
        return None
    return changed, norms_along(returned)[0]


@dataclass(frozen=True)
class Piece:
    """One call of a layer over one step: the input, the states that go in, (L·D, B, H), the output, those after."""

    x: Tensor
    taken: tuple[Tensor, ...]
    y: Tensor
    returned: tuple[Tensor, ...]


def back_through_pieces(
    pieces: Sequence[Piece], rows: int, draws: int = DRAWS
) -> tuple[float, list[NDArray[np.float64]]] | None:
    """Do what `back_through` does for a layer that is called step by step, for each of its rows (layer, direction).

    A state that is read from the layer's output counts like the one that is handed on: (D, K, S) by row.
    """
    pairs = [
        pair
        for before, after in itertools.pairwise(pieces)
        for pair in zip(before.returned, after.taken, strict=False)
    ]
    changed = max(_difference(before, after) for before, after in pairs)
    earlier = [one for piece in pieces[:-1] for one in (*piece.returned, piece.y)]
    joined = any(after.requires_grad for _, after in pairs)
    if not joined or not all(state.requires_grad for state in pieces[-1].returned):
        return None
    if changed <= SAME and not _is_made_of([piece.x for piece in pieces[1:]], earlier):
        return None
    return changed, [_row_back(pieces, row, draws) for row in range(rows)]


def _row_back(pieces: Sequence[Piece], row: int, draws: int) -> NDArray[np.float64]:
    generator, ends = torch.Generator().manual_seed(0), pieces[-1].returned
    sizes = [size_of(torch.stack([piece.returned[s][row] for piece in pieces])) for s in range(len(ends))]
    own = _of_output(pieces[-1], row)
    earlier = [one for piece in pieces[:-1] for one in (*piece.returned, piece.y)]
    squares_DKS = np.zeros((draws, len(pieces), len(ends)))
    for squares_KS in squares_DKS:
        directions = [random_like(state[row], generator) for state in ends]
        sent = sum(_square(v) for v in directions)
        scaled = [v / size for v, size in zip(directions, sizes, strict=True)]
        found = torch.autograd.grad(
            [state[row] for state in ends], earlier, scaled, retain_graph=True, allow_unused=True
        )
        squares_KS[0] = [_square(v) / sent for v in directions]
        of_pieces = [found[at : at + len(ends) + 1] for at in range(0, len(found), len(ends) + 1)]
        for k, (*gradients, of_y) in enumerate(reversed(of_pieces), 1):
            for s, gradient in enumerate(gradients):
                come = None if gradient is None else gradient[row]
                if own is not None and s == own[0] and of_y is not None:
                    read = of_y.reshape(*ends[s].shape[1:-1], -1, ends[s].shape[-1])[..., own[1], :]
                    come = read if come is None else come + read
                squares_KS[k, s] = 0.0 if come is None else _square(come) * sizes[s] ** 2 / sent
    return squares_DKS


def _of_output(piece: Piece, row: int) -> tuple[int, int] | None:
    """Which state of a row the layer's output is, and in which direction of it; None where it is none."""
    for s, state in enumerate(piece.returned):
        width = state.shape[-1]
        for direction, read in enumerate(torch.split(piece.y, width, -1)):
            if read.numel() == state[row].numel() and bool((read.reshape_as(state[row]) == state[row]).all()):
                return s, direction
    return None


def _is_made_of(values: Sequence[Any], states: Sequence[Any]) -> bool:
    """Whether a gradient comes from what calls take to the states of earlier ones."""
    ends = [one for one in values if is_state(one) and one.requires_grad]
    earlier = [one for one in states if is_state(one) and one.requires_grad]
    if not ends or not earlier:
        return False
    sent = [random_like(one, torch.Generator().manual_seed(0)) for one in ends]
    found = torch.autograd.grad(ends, earlier, sent, retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in found)


def _square(value: Tensor) -> float:
    return float(value.detach().double().square().sum())


def _difference(before: Tensor, after: Tensor) -> float:
    if before.numel() != after.numel():
        return 0.0
    return float((after.reshape_as(before) - before).detach().norm() / before.detach().norm().clamp_min(1e-12))
