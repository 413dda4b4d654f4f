"""Clipping the gradient of every layer by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.checks import positive
from unvanish.errors import OptionError
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients, scale_, together
from unvanish.remedies.clip.record import ClipRecord

Group = nn.Module | Tensor | Iterable[Tensor]


class PerLayer(Clip):
    """Bring the gradient of each layer to the threshold's length where it is longer.

        g_l ← g_l · min(1, threshold / ‖g_l‖₂)  for each layer l

    One layer that explodes then leaves the steps of the others as they are; the direction of the whole turns.
    Algorithm 1 of Pascanu, Mikolov, Bengio 2013, for each layer by itself.

    A layer is what `groups` says. Without: where a module is given, the parameters that each of its modules holds
    itself; where an optimiser is given, each of its groups; of a bare list of parameters, each by itself.

    Args:
        threshold: the largest norm of a layer's gradient, positive.
        groups: modules, or lists of parameters. What is in none of them forms one more group.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    >>> for parameter, slope in zip(model.parameters(), (100.0, 0.5)):
    ...     parameter.grad = torch.tensor([[slope]])
    >>> clip = PerLayer(1.0)
    >>> clip(model).acted, [parameter.grad.item() for parameter in model.parameters()]
    (True, [1.0, 0.5])
    """

    def __init__(self, threshold: float, groups: Sequence[Group] | None = None, *, nonfinite: str = "skip") -> None:
        super().__init__(nonfinite=nonfinite)
        self._threshold = positive(threshold, "threshold")
        self._groups = None if groups is None else [_members(group) for group in groups]
        members = [id(parameter) for group in self._groups or [] for parameter in group]
        if len(set(members)) < len(members):
            raise OptionError(
                "a parameter is in two of the groups: which threshold would hold for it? Name it once"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> PerLayer:
        """Copy the clip, not the parameters of its groups, unless they are copied along."""
        twin = copy.copy(self)
        if self._groups is not None:
            twin._groups = [[memo.get(id(one), one) for one in group] for group in self._groups]
        return twin

    @property
    def threshold(self) -> float:
        """The largest norm of a layer's gradient."""
        return self._threshold

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        place = {id(parameter): index for index, parameter in enumerate(gradients.parameters)}
        layers = [
            [place.pop(id(parameter)) for parameter in group if id(parameter) in place]
            for group in self._layers(gradients)
        ]
        after, long, factors = [], [], []
        for layer in [*layers, list(place.values())]:
            its = together([norms[index] for index in layer])
            after.append(min(its, self._threshold))
            if its > self._threshold:
                long += [gradients.tensors[index] for index in layer]
                factors += [self._threshold / its] * len(layer)
        scale_(long, factors)
        factor = together(after) / norm if long else 1.0
        return ClipRecord(norm, self._threshold, factor, acted=bool(long), nonfinite=False)

    def _layers(self, gradients: Gradients) -> Iterable[Iterable[Tensor]]:
        if self._groups is not None:
            return self._groups
        given = gradients.given
        if isinstance(given, nn.Module):
            return [list(module.parameters(recurse=False)) for module in given.modules()]
        if isinstance(given, torch.optim.Optimizer):
            return [group["params"] for group in given.param_groups]
        return [[parameter] for parameter in given]


def _members(group: Group) -> list[Tensor]:
    if isinstance(group, nn.Module):
        return list(group.parameters())
    found = [group] if isinstance(group, Tensor) else list(group)
    if not all(isinstance(parameter, Tensor) for parameter in found):
        raise OptionError("a group is a module, or a list of parameters: give model.encoder, or its parameters()")
    return found
