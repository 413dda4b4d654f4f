"""Matrices that are held where gradients neither vanish nor explode, whatever the optimiser does.

A constrained matrix is stored by itself and parametrised (`torch.nn.utils.parametrize`): what is trained is free,
and what the equations read follows from it, once for each pass.

Shapes: H hidden.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from unvanish.errors import OptionError, nearest

CONSTRAINTS = ("orthogonal", "antisymmetric", "radius", "weight_norm")
Constraints = str | Mapping[str, str] | None


class Antisymmetric(nn.Module):
    """M - Mᵀ - γ I: its eigenvalues have the real part -γ, so that with γ = 0 what it drives only turns.

    Made for equations of the kind h[t] = h[t-1] + ε tanh(U @ h[t-1] + …).

    Source: Chang, B., Chen, M., Haber, E., Chi, E. H. (2019). AntisymmetricRNN: a dynamical system view on
    recurrent neural networks. ICLR 2019, equation (13).

    >>> made = Antisymmetric(0.5)(torch.tensor([[1.0, 2.0], [5.0, 1.0]]))
    >>> made
    tensor([[-0.5000, -3.0000],
            [ 3.0000, -0.5000]])
    """

    def __init__(self, damping: float = 0.0) -> None:
        super().__init__()
        self.damping = damping

    def forward(self, free_HH: Tensor) -> Tensor:
        """Return the antisymmetric matrix."""
        eye_HH = torch.eye(len(free_HH), device=free_HH.device, dtype=free_HH.dtype)
        return free_HH - free_HH.t() - self.damping * eye_HH

    def right_inverse(self, given_HH: Tensor) -> Tensor:
        """Return a free matrix whose antisymmetric part is that of the one given."""
        return (given_HH - given_HH.t()) / 4


class CappedRadius(nn.Module):
    """M · min(1, ρ / ρ(M)), where ρ(M) is the spectral radius: the matrix, scaled down where its radius is over ρ.

    The factor counts as a constant in the backward pass.

    Source: the bound is that of Pascanu, R., Mikolov, T., Bengio, Y. (2013), section 2.1: with a radius under 1
    divided by the steepest slope of the nonlinearity, gradients cannot explode.

    >>> CappedRadius(0.5)(torch.diag(torch.tensor([2.0, 1.0])))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, free_HH: Tensor) -> Tensor:
        """Return the matrix, scaled where it must be."""
        with torch.no_grad():
            kind = free_HH.dtype if free_HH.dtype == torch.float64 else torch.float32
            radius = torch.linalg.eigvals(free_HH.to(kind)).abs().max()
            factor = torch.where(radius > self.cap, self.cap / radius, 1.0).to(free_HH.dtype)
        return free_HH * factor

    def right_inverse(self, given_HH: Tensor) -> Tensor:
        """Return the matrix itself."""
        return given_HH


def resolve_constraints(
    constrain: Constraints, recurrent: Iterable[str], square: Iterable[str]
) -> dict[str, tuple[str, float]]:
    """Say which matrix gets which constraint: one alone goes to every recurrent matrix, a mapping by pattern.

    >>> resolve_constraints({"U_h": "radius:0.9"}, ["U_h", "U_f"], ["U_h", "U_f"])
    {'U_h': ('radius', 0.9)}
    """
    if constrain is None:
        return {}
    recurrent, square, found = list(recurrent), set(square), dict[str, tuple[str, float]]()
    given = constrain if isinstance(constrain, Mapping) else {"*": constrain}
    for pattern, word in given.items():
        met = fnmatch.filter(recurrent, pattern)
        if not recurrent:
            raise OptionError(f"the cell has no recurrent matrix, and constrain={constrain!r} has none to hold")
        if not met:
            known = nearest(pattern, recurrent)
            raise OptionError(f"constrain names '{pattern}', which is not a recurrent matrix: {known}")
        kind, number = _parsed(word)
        for name in met:
            if kind != "weight_norm" and name not in square:
                raise OptionError(f"'{word}' is for square matrices, and {name} is none: name others, {{'U_*': …}}")
            found[name] = kind, number
    return found


def _parsed(word: object) -> tuple[str, float]:
    kind, _, number = str(word).partition(":")
    if not isinstance(word, str) or kind not in CONSTRAINTS:
        raise OptionError(f"unknown constraint {word!r}: {nearest(str(word), CONSTRAINTS)}")
    usual = {"radius": 1.0, "antisymmetric": 0.0}
    try:
        value = float(number) if number else usual.get(kind, math.nan)
    except ValueError:
        value = math.inf
    if number and kind not in usual:
        raise OptionError(f"'{word}': {kind} takes no number")
    lowest = kind == "antisymmetric" and value == 0
    if kind in usual and not (0 < value < math.inf or lowest):
        raise OptionError(f"'{word}' is not understood: write radius:0.95, or antisymmetric:0.01")
    return kind, value


def constrain(layer: nn.Module, array: str, kind: str, number: float) -> None:
    """Constrain one stored matrix of a layer.

    `orthogonal` is torch's parametrisation by matrix exponentials; `weight_norm` splits each row into a length and
    a direction (Salimans, T., Kingma, D. P. (2016). Weight normalization. NIPS 2016).
    """
    if kind == "orthogonal":
        parametrizations.orthogonal(layer, array, "matrix_exp")
    elif kind == "weight_norm":
        parametrizations.weight_norm(layer, array, dim=0)
    else:
        made = Antisymmetric(number) if kind == "antisymmetric" else CappedRadius(number)
        parametrize.register_parametrization(layer, array, made)
