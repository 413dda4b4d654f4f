"""Clipping the gradient of every output unit against the size of its weights.

Shapes: U output units of all tensors, one after the other; N units of one tensor, J numbers of a unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unvanish.checks import positive
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients, grouped, together
from unvanish.remedies.clip.record import ClipRecord

_LARGE, _SMALL = 1e18, 1e-15  # the squares of norms beyond these do not fit into single precision
_SMALLEST = 1e-30  # factors
_FEW = 16384  # numbers


class UnitWise(Clip):
    """Bring the gradient of each output unit to a share of its weights' size where it is larger.

        G_i ← G_i · min(1, factor · max(‖W_i‖, eps) / ‖G_i‖)  for each unit i

    Brock, De, Smith, Simonyan 2021, High-performance large-scale image recognition without normalization, eq. 3
    (adaptive gradient clipping, AGC). A unit is a slice of the first axis: a row of a matrix, a filter of a
    convolution; a stacked recurrent matrix has one for each gate and hidden unit. A vector (a bias, a gain) counts
    as one unit, as in the authors' code. The paper leaves the last layer out: do not give its parameters.

    Args:
        factor: the share λ, positive; the paper takes 0.01 for its largest batches, and more for smaller ones.
        eps: the least size of a unit's weights, so that weights that begin at zero can move.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [3.0, 4.0]]))
    >>> weight.grad = torch.tensor([[6.0, 8.0], [0.01, 0.0]])
    >>> UnitWise(0.01)([weight]).acted, weight.grad
    (True, tensor([[0.0300, 0.0400], [0.0100, 0.0000]]))
    """

    def __init__(self, factor: float = 0.01, *, eps: float = 1e-3, nonfinite: str = "skip") -> None:
        super().__init__(nonfinite=nonfinite)
        self._factor, self.eps = positive(factor, "factor"), positive(eps, "eps")

    @property
    def threshold(self) -> float:
        """The largest share of its weights' size that a unit's gradient may have."""
        return self._factor

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        after, acted = [], False
        for places, members in grouped(gradients.tensors):
            weights = [_beside(gradients.parameters[place]) for place in places]
            careful = [self._needs_care(norms[place]) for place in places]
            left = self._clip_group(members, weights, careful)
            after.append(together([norms[place] for place in places]) if left is None else left)
            acted = acted or left is not None
        return ClipRecord(norm, self._factor, together(after) / norm if acted else 1.0, acted, nonfinite=False)

    def _needs_care(self, norm: float) -> bool:
        """Whether squares may overflow, or vanish, where it decides; a weight's do only beside such a gradient."""
        return norm > _LARGE * min(1.0, self._factor) or self._factor * self.eps < _SMALL

    def _clip_group(self, members: list[Tensor], weights: list[Tensor], careful: list[bool]) -> float | None:
        """Clip gradients of one device and dtype; return their norm after that, None where none was too large."""
        batches = _alike(members, careful)
        gradient_U = _unit_norms(members, batches)
        limit_U = self._factor * _unit_norms(weights, batches).clamp_min(self.eps)
        scale_U = torch.where(gradient_U > limit_U, limit_U / gradient_U, 1.0)
        smallest = float(scale_U.min())
        if smallest == 1.0:
            return None
        ordered = [members[index] for indices, _ in batches for index in indices]
        if smallest < _SMALLEST:  # a factor of 1e-40 has lost its digits in single precision, its root has not
            _scale_units_(ordered, scale_U.sqrt())
            _scale_units_(ordered, scale_U.sqrt())
        else:
            _scale_units_(ordered, scale_U)
        return together((gradient_U * scale_U).tolist())


def _beside(parameter: Tensor) -> Tensor:
    """Return the weights that a gradient belongs to: of a sparse one, those of the places that it stores."""
    stored = parameter.grad
    if stored is None or stored.layout == torch.strided:
        return parameter
    return parameter[tuple(stored._indices())]


def _units(tensor: Tensor) -> Tensor:
    """Return a tensor with a row for each unit; a vector is one unit."""
    dimensions = tensor.dim()
    if dimensions == 2:
        return tensor
    return tensor.flatten(1) if dimensions > 2 else tensor.reshape(1, -1)


def _alike(tensors: Sequence[Tensor], careful: Sequence[bool]) -> list[tuple[list[int], bool]]:
    """Put small tensors with units of one width together, to be measured in one go, with whether to take care.

    To copy large ones side by side would cost more than it saves.
    """
    found: dict[tuple[int, bool, int], list[int]] = {}
    for index, (tensor, care) in enumerate(zip(tensors, careful, strict=True)):
        numbers, shape = tensor.numel(), tensor.shape
        width = numbers // shape[0] if len(shape) > 1 else numbers
        found.setdefault((width, care, index if numbers > _FEW else -1), []).append(index)
    return [(indices, care) for (_, care, _), indices in found.items()]


def _unit_norms(tensors: Sequence[Tensor], batches: list[tuple[list[int], bool]]) -> Tensor:
    """Return the norms of all units, batch after batch, in double precision where the device has it."""
    found = []
    for indices, care in batches:
        units = [_units(tensors[index]) for index in indices]
        found.append(_norms(torch.cat(units) if len(units) > 1 else units[0], care))
    return torch.cat(found).to(_widest(tensors[0]))


def _norms(x_NJ: Tensor, careful: bool) -> Tensor:
    if careful:
        x_NJ = x_NJ.to(_widest(x_NJ))
        largest_N1 = x_NJ.abs().amax(1, keepdim=True)
        scale_N1 = torch.where(largest_N1 > 0, largest_N1, 1.0)
        scaled_N: Tensor = torch.linalg.vector_norm(x_NJ / scale_N1, dim=1)
        return scaled_N * scale_N1[:, 0]
    half = x_NJ.dtype in (torch.float16, torch.bfloat16)
    found_N: Tensor = torch.linalg.vector_norm(x_NJ, dim=1, dtype=torch.float32 if half else None)
    return found_N


def _widest(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _scale_units_(tensors: Sequence[Tensor], scale_U: Tensor) -> None:
    """Multiply each unit with its factor; in half precision the factor keeps its digits."""
    half = tensors[0].dtype in (torch.float16, torch.bfloat16)
    shapes = [tensor.shape for tensor in tensors]
    counts = [shape[0] if len(shape) > 1 else 1 for shape in shapes]
    parts = torch.split(scale_U.to(torch.float32 if half else tensors[0].dtype), counts)
    for tensor, shape, scale_N in zip(tensors, shapes, parts, strict=True):
        scale = scale_N.view(-1, *(1,) * (len(shape) - 1)) if len(shape) > 1 else scale_N.view((1,) * len(shape))
        if half:
            tensor.copy_(tensor * scale)
        else:
            tensor.mul_(scale)
