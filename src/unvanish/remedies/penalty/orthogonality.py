"""Soft orthogonality: recurrent matrices whose singular values are drawn to 1.

Shapes: H hidden.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from unvanish.errors import OptionError, nearest
from unvanish.nn import Recurrent
from unvanish.remedies.penalty.weight import check_weight


class Orthogonality:
    """How far recurrent matrices are from orthogonal ones, to be added to the loss.

        weight · Σ_U ‖Uᵀ U - I‖²_F  =  weight · Σ_U Σ_i (σ_i² - 1)²,   σ_i the singular values of U

    over the square recurrent matrices of a model, each gate's by itself. An orthogonal matrix keeps the norm of
    every gradient that goes back through it; what an activation's slope takes away stays away. The penalty is soft:
    the matrix may leave where the loss wants it to (`constrain="orthogonal"` does not let it). It costs one product
    of H³ for each matrix and update, whatever the length of the sequences.

    Args:
        weight: of the penalty.
        matrices: which ones, a name or pattern of the equations, such as `"U_*"` or `"U_h"`; all if left out.

    Raises:
        OptionError: the weight is negative or no number.

    Source: Vorontsov, E., Trabelsi, C., Kadoury, S., Pal, C. (2017). On orthogonality and learning recurrent
    networks with long term dependencies. ICML 2017; the form with UᵀU and for every matrix of a network, Xie, D.,
    Xiong, J., Pu, S. (2017). All you need is beyond a good init. CVPR 2017.

    >>> import unvanish
    >>> layer = unvanish.RNN(2, 3, init={"U_h": "identity:0.5"})
    >>> round(Orthogonality(1.0)(layer).item(), 4), 3 * (0.25 - 1) ** 2
    (1.6875, 1.6875)
    """

    def __init__(self, weight: float = 1e-2, matrices: str = "*") -> None:
        self.weight, self.matrices = check_weight("Orthogonality", weight), matrices

    def __call__(self, model: nn.Module) -> Tensor:
        """Return the weighted penalty, a number with a graph, to be added to the loss.

        Args:
            model: any module; all its `Recurrent` layers count, with all their parts.

        Raises:
            OptionError: the model has no such matrix, or a cell takes entries of it away.
        """
        found = list(self._chosen(model))
        return self.weight * torch.stack([_distance(matrix_HH) for matrix_HH in found]).sum()

    def _chosen(self, model: nn.Module) -> Iterator[Tensor]:
        known, met = list[str](), False
        for layer in model.modules():
            if not isinstance(layer, Recurrent):
                continue
            names = _square(layer)
            known += names
            for name in fnmatch.filter(names, self.matrices):
                if name in layer.cell.slower_to_faster:
                    raise OptionError(
                        f"{layer.cell.name} takes entries of {name} away, and what is left cannot be orthogonal: "
                        "leave Orthogonality out"
                    )
                for part in layer.parts():
                    met = True
                    yield part[name]
        if not met:
            found = f"'{self.matrices}' is none: {nearest(self.matrices, set(known))}" if known else "there is none"
            raise OptionError(
                f"Orthogonality is for square recurrent matrices of unvanish.Recurrent layers, and {found}"
            )


def _square(layer: Recurrent) -> list[str]:
    """The names of the matrices that lead from a state to as many numbers."""
    recurrent = [p.name for p in layer.system.parameters if p.role == "recurrent" and p.columns is not None]
    return [name for name in recurrent if layer[name].shape[0] == layer[name].shape[1]]


def _distance(matrix_HH: Tensor) -> Tensor:
    eye_HH = torch.eye(len(matrix_HH), dtype=matrix_HH.dtype, device=matrix_HH.device)
    return (matrix_HH.t() @ matrix_HH - eye_HH).square().sum()
