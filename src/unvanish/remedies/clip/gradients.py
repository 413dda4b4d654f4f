"""The gradients that a clip is given: found, measured without overflow, scaled in place.

A sparse gradient is coalesced, and stands for its stored values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unvanish.errors import OptionError
from unvanish.torch_internals import foreach_mul_, foreach_norm

Parameters = nn.Module | torch.optim.Optimizer | Tensor | Iterable[Tensor]

_SHOWN = 3  # names in a message
# A sum of squares between these bounds has lost nothing, in single and in double precision.
_RANGE = {torch.float64: (1e-140, 1e140)}
_SINGLE_RANGE = (1e-16, 1e18)
_SMALL_FACTOR = 1e-30  # single precision loses the digits of a factor soon below


@dataclass(frozen=True, eq=False, slots=True)
class Gradients:
    """Parameters that have a gradient, and the numbers of each gradient, to be changed in place.

    Attributes:
        given: what the clip was called with.
        every: all parameters of it.
        parameters: those with a gradient that is not empty.
        tensors: their gradients; of a sparse one, the stored values.
    """

    given: nn.Module | torch.optim.Optimizer | Sequence[Tensor]
    every: list[Tensor]
    parameters: list[Tensor]
    tensors: list[Tensor]

    def drop(self) -> None:
        """Take every gradient away, so that an optimiser makes no step and its running means stay."""
        for parameter in self.every:
            parameter.grad = None

    def names(self, indices: Iterable[int]) -> str:
        """Say which parameters these are: by name where a module was given, else by place and shape."""
        known = _names(self.given)
        chosen = [self.parameters[index] for index in indices]
        shown = [f"{known[id(parameter)]} {tuple(parameter.shape)}" for parameter in chosen[:_SHOWN]]
        more = len(chosen) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


def _names(given: nn.Module | torch.optim.Optimizer | Sequence[Tensor]) -> dict[int, str]:
    if isinstance(given, nn.Module):
        return {id(parameter): name for name, parameter in given.named_parameters()}
    if isinstance(given, torch.optim.Optimizer):
        return {
            id(parameter): f"parameter {place} of group {number}"
            for number, group in enumerate(given.param_groups)
            for place, parameter in enumerate(group["params"])
        }
    return {id(parameter): f"parameter {place}" for place, parameter in enumerate(given)}


def _listed(given: object) -> tuple[nn.Module | torch.optim.Optimizer | Sequence[Tensor], list[Tensor]]:
    """Return what was given, in a form that can be read again, and its parameters, each once."""
    if isinstance(given, nn.Module):
        return given, list(given.parameters())
    if isinstance(given, torch.optim.Optimizer):
        found = [parameter for group in given.param_groups for parameter in group["params"]]
    elif isinstance(given, Tensor):
        found = [given]
    elif isinstance(given, Iterable):
        found = list(given)
    else:
        raise _no_parameters(given)
    for parameter in found:
        if not isinstance(parameter, Tensor):
            raise _no_parameters(parameter)
    every = list({id(parameter): parameter for parameter in found}.values())
    return (given if isinstance(given, torch.optim.Optimizer) else every), every


def _no_parameters(given: object) -> OptionError:
    return OptionError(
        f"a {type(given).__name__} is not a parameter: give a module, an optimiser, or an iterable of parameters"
    )


def collect(given: Parameters) -> Gradients:
    """Find the gradients of a module, an optimiser, or an iterable of parameters.

    Raises:
        OptionError: what was given holds no parameters, or a gradient is complex, split over processes, or of an
            unknown layout.
    """
    source, every = _listed(given)
    parameters, tensors = [], []
    for parameter in every:
        gradient = parameter.grad
        if gradient is None:
            continue
        if type(gradient) is not Tensor and hasattr(gradient, "full_tensor"):
            raise OptionError(
                "a gradient is split over processes (DTensor), and no clip here adds up their norms: use "
                "torch.nn.utils.clip_grad_norm_, or DistributedDataParallel"
            )
        if gradient.layout != torch.strided:
            gradient = _stored_values(parameter, gradient)
        if gradient.numel():
            parameters.append(parameter)
            tensors.append(gradient)
    found = Gradients(source, every, parameters, tensors)
    if any(dtype.is_complex for dtype in {gradient.dtype for gradient in tensors}):
        complex_ = [index for index, gradient in enumerate(tensors) if gradient.is_complex()]
        raise OptionError(
            f"the gradient of {found.names(complex_)} is complex, which no clip here has a meaning for: "
            "clip torch.view_as_real(…) of it, or leave the parameter out"
        )
    return found


def _stored_values(parameter: Tensor, gradient: Tensor) -> Tensor:
    if gradient.layout != torch.sparse_coo:
        raise OptionError(f"a gradient of layout {gradient.layout} cannot be clipped: give dense or COO gradients")
    gradient = gradient.coalesce()  # an entry that is stored twice would be measured twice
    parameter.grad = gradient
    return gradient._values()


def grouped(tensors: Sequence[Tensor]) -> list[tuple[list[int], list[Tensor]]]:
    """Put tensors of one device and dtype together, with the places they had."""
    if not tensors:
        return []
    device, dtype = tensors[0].device, tensors[0].dtype
    if all(tensor.dtype is dtype and tensor.device == device for tensor in tensors):  # as nearly always
        return [(list(range(len(tensors))), list(tensors))]
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[int], list[Tensor]]] = {}
    for index, tensor in enumerate(tensors):
        places, members = groups.setdefault((tensor.device, tensor.dtype), ([], []))
        places.append(index)
        members.append(tensor)
    return list(groups.values())


def tensor_norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the 2-norm of each tensor: NaN or infinite only where an entry is, exact whatever the scale.

    The one place where a clip waits for the device: a number for each tensor, read in one piece.

    >>> norms = tensor_norms([torch.tensor([3e30, 4e30]), torch.tensor([3e-30, -4e-30]), torch.zeros(2)])
    >>> [f"{norm:.6g}" for norm in norms]
    ['5e+30', '5e-30', '0']
    """
    norms = [0.0] * len(tensors)
    for places, members in grouped(tensors):
        for place, norm in zip(places, _exact_norms(members), strict=True):
            norms[place] = norm
    return norms


def _exact_norms(members: list[Tensor]) -> list[float]:
    found = _norms_of(members, 2.0)
    low, high = _RANGE.get(members[0].dtype, _SINGLE_RANGE)
    doubtful = [index for index, norm in enumerate(found) if not low < norm < high]
    for index, norm in zip(doubtful, _scaled_norms([members[index] for index in doubtful]), strict=True):
        found[index] = norm
    return found


def _norms_of(members: list[Tensor], order: float) -> list[float]:
    """Return the norms of tensors of one device and dtype; those of half precision are summed in single."""
    half = members[0].dtype in (torch.float16, torch.bfloat16)
    found = foreach_norm(members, order, dtype=torch.float32 if half else None)
    norms: list[float] = torch.stack(found).tolist()
    return norms


def _scaled_norms(members: list[Tensor]) -> list[float]:
    """Return norms whose squares do not fit: the largest entry is brought to 1 before."""
    if not members:
        return []
    norms = []
    for tensor, largest in zip(members, _norms_of(members, math.inf), strict=True):
        if largest == 0 or not math.isfinite(largest):
            norms.append(largest)
            continue
        wide = tensor.double() if tensor.device.type != "mps" else tensor.float()
        norms.append(largest * float(torch.linalg.vector_norm(wide / largest)))
    return norms


def together(norms: Iterable[float]) -> float:
    """Return the norm of all tensors together: the root of the sum of squares, without overflow on the way."""
    return math.hypot(*norms)


def scale_(tensors: Sequence[Tensor], factors: float | Sequence[float]) -> None:
    """Multiply tensors in place with one number from 0 to 1, or each with its own."""
    smallest = factors if isinstance(factors, float) else min(factors, default=1.0)
    if 0 < smallest < _SMALL_FACTOR:
        factors = math.sqrt(factors) if isinstance(factors, float) else [math.sqrt(factor) for factor in factors]
        scale_(tensors, factors)
    for places, members in grouped(tensors):
        _multiply_(members, factors if isinstance(factors, float) else [factors[place] for place in places])


def _multiply_(members: list[Tensor], factors: float | list[float]) -> None:
    dtype = members[0].dtype
    if members[0].device.type != "cpu":
        foreach_mul_(members, factors)
        return
    # On the CPU each number would be made a tensor anew: to make them all at once is three times as fast. In half
    # precision the number keeps its digits, which the gradient's own type has not.
    half = dtype in (torch.float16, torch.bfloat16)
    numbers = torch.tensor(factors, dtype=torch.float32 if half else dtype, device="cpu")
    foreach_mul_(members, numbers.unbind() if numbers.dim() else numbers)


def shorten(tensors: Sequence[Tensor], norm: float, threshold: float) -> float:
    """Bring tensors of this norm to the threshold where they are longer; return the factor."""
    if norm <= threshold:
        return 1.0
    scale_(tensors, threshold / norm)
    return threshold / norm
