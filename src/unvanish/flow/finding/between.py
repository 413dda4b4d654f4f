"""What stands between the calls of a module that is called once a step: a dropout, a factor, a second layer.

The module by itself is then not the recurrence, so that what comes back is measured in the model, through its own
graph. The same holds where a call takes, beside its states, what was made of them: its last word, an attention.

Shapes: L layers, D directions or draws, B batch, H hidden, K lags, S states.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unvanish.flow.finding.calling import edges, random_like
from unvanish.flow.finding.graph import Norms, drawn, square
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
    calls: Calls, outputs: tuple[int, ...], inputs: tuple[int, ...], need: int | None
) -> tuple[float, Norms] | None:
    """Send random directions from the last call's states back through the model's graph; None where nothing stands
    between the calls and none takes what was made of an earlier state, or where no gradient comes back.

    Returns by how much of its norm a state is changed between two calls, and squares of what is left, (D, K, S).
    """
    returned = [tuple(leaves_at(leaves_of(output), outputs)) for _, _, output in calls]
    leaves = [leaves_of((args, keywords)) for args, keywords, _ in calls]
    taken = [tuple(leaves_at(of_call, inputs)) for of_call in leaves]
    if not returned[-1] or not all(is_state(state) for states in returned for state in states):
        return None
    others = [one for of_call in leaves for place, one in enumerate(of_call) if place not in inputs]
    changed = _stands_between(returned, taken, others, [state for states in returned for state in states])
    if changed is None:
        return None
    pieces = [Piece(None, (), None, states) for states in returned]
    return changed, drawn(functools.partial(_back, pieces, None), need)


@dataclass(frozen=True)
class Piece:
    """One call over one step: the input, the states that go in, (L·D, B, H), the output, the states after it."""

    x: Tensor | None
    taken: tuple[Tensor, ...]
    y: Tensor | None
    returned: tuple[Tensor, ...]


def back_through_pieces(pieces: Sequence[Piece], rows: int, need: int | None) -> tuple[float, list[Norms]] | None:
    """Do what `back_through` does for a layer that is called step by step, for each of its rows (layer, direction).

    A state that is read from the layer's output counts like the one that is handed on: (D, K, S) by row.
    """
    earlier = [one for piece in pieces[:-1] for one in (*piece.returned, piece.y)]
    changed = _stands_between(
        [piece.returned for piece in pieces],
        [piece.taken for piece in pieces],
        [piece.x for piece in pieces[1:]],
        earlier,
    )
    if changed is None:
        return None
    return changed, [drawn(functools.partial(_back, pieces, row), need) for row in range(rows)]


def _stands_between(
    returned: Sequence[tuple[Any, ...]],
    taken: Sequence[tuple[Any, ...]],
    others: Sequence[Any],
    earlier: Sequence[Any],
) -> float | None:
    """By how much of its norm a state is changed between two calls; None where what returns is what is taken, and
    no other input is made of an earlier state."""
    pairs = [
        pair
        for before, after in zip(returned, taken[1:], strict=False)
        for pair in zip(before, after, strict=False)
        if isinstance(pair[0], Tensor) and isinstance(pair[1], Tensor)
    ]
    changed = max((_difference(before, after) for before, after in pairs), default=0.0)
    last = pairs[-len(returned[-1]) :]
    torn = {after.requires_grad for before, after in last if before.requires_grad}  # one of several states is cut
    bent = len(torn) > 1 or any(_bends(before, after) for before, after in last)
    joined = any(after.requires_grad for _, after in pairs) and all(one.requires_grad for one in returned[-1])
    return changed if joined and (changed > SAME or bent or comes_from(others, earlier)) else None


def _bends(before: Tensor, after: Tensor) -> bool:
    """Whether a gradient is changed between two calls, though the numbers are not: by a hook, by half a detach."""
    if not (before.requires_grad and after.requires_grad) or before.shape != after.shape:
        return False
    if after is before:
        return bool(before._backward_hooks)
    sent = random_like(after, torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad(after, before, sent, retain_graph=True, allow_unused=True)
    return found is not None and not torch.allclose(found, sent)


def _back(pieces: Sequence[Piece], row: int | None, draws: int, seed: int) -> Norms:
    """Send directions from the last states (of one row) to all earlier ones: squares, each in its own size."""

    def own(state: Tensor) -> Tensor:
        return state if row is None else state[row]

    generator, ends = torch.Generator().manual_seed(seed), [own(state) for state in pieces[-1].returned]
    sizes = [size_of(torch.stack([own(piece.returned[s]) for piece in pieces])) for s in range(len(ends))]
    read = None if row is None else _of_output(pieces[-1], row)
    earlier = [one for piece in pieces[:-1] for one in (*piece.returned, piece.y)]
    sources = [one for one in earlier if one is not None and one.requires_grad]
    squares_DKS = np.zeros((draws, len(pieces), len(ends)))
    for squares_KS in squares_DKS if sources else ():
        directions = [random_like(state, generator) for state in ends]
        sent = sum(square(v) for v in directions)
        scaled = [v / size for v, size in zip(directions, sizes, strict=True)]
        found = torch.autograd.grad(ends, sources, scaled, retain_graph=True, allow_unused=True)
        come = {id(one): gradient for one, gradient in zip(sources, found, strict=True) if gradient is not None}
        squares_KS[0] = [square(v) / sent for v in directions]
        for k, piece in enumerate(reversed(pieces[:-1]), 1):
            for s, end in enumerate(ends):
                gradient = come.get(id(piece.returned[s]))
                total = torch.zeros_like(end) if gradient is None else own(gradient)
                if read is not None and read[0] == s and id(piece.y) in come:
                    of_y = come[id(piece.y)]
                    total = total + of_y.reshape(*end.shape[:-1], -1, end.shape[-1])[..., read[1], :]
                squares_KS[k, s] = square(total) * sizes[s] ** 2 / sent
    return squares_DKS


def _of_output(piece: Piece, row: int) -> tuple[int, int] | None:
    """Which state of a row the layer's output is, and in which direction of it; None where it is none."""
    for s, state in enumerate(piece.returned if piece.y is not None else ()):
        assert piece.y is not None
        width = state.shape[-1]
        for direction, read in enumerate(torch.split(piece.y, width, -1)):
            if read.numel() == state[row].numel() and bool((read.reshape_as(state[row]) == state[row]).all()):
                return s, direction
    return None


def comes_from(values: Sequence[Any], states: Sequence[Any]) -> bool:
    """Whether a gradient comes from what calls take to the states of earlier ones."""
    ends = [one for one in values if is_state(one) and one.requires_grad and one.grad_fn is not None]
    earlier = [one for one in states if is_state(one) and one.requires_grad]
    if not ends or not earlier:
        return False
    sent = [random_like(one, torch.Generator().manual_seed(0)) for one in ends]
    found = torch.autograd.grad(ends, edges(earlier), sent, retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in found)


def _difference(before: Tensor, after: Tensor) -> float:
    if before.numel() != after.numel():
        return 0.0
    return float((after.reshape_as(before) - before).detach().norm() / before.detach().norm().clamp_min(1e-12))
