"""Find where a forward pass makes its first number that is not finite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.flow.finding.trace import Made

LOSSES = frozenset({"cross_entropy", "nll_loss", "nll_loss_nd"})


@dataclass(frozen=True)
class Lost:
    """The first call whose result is not finite.

    Attributes:
        how: `ignored` where a loss has no label left, `target` where a number that is none came in from outside the
            model, else `made`.
        function, module: the call, and the module that it is made in.
        count: how many numbers are not finite.
        value: the label that is left out.
    """

    how: str
    function: str
    module: str
    count: int
    value: int = 0


def first_lost(made: Sequence[Made], known: Iterable[Tensor]) -> Lost | None:
    """Find the first call whose result has a NaN, or, where none has, an infinity.

    Args:
        made: the calls of a forward pass and of the loss.
        known: the parameters, buffers and inputs of the model; what else comes in is from outside.
    """
    for is_lost in (torch.isnan, torch.isinf):
        own = {id(one) for one in known}
        for call in made:
            count = sum(int(is_lost(one).sum()) for one in call.given if one.is_floating_point())
            if count:
                return _told(call, own, count)
            own |= {id(one) for one in call.given}
    return None


def _told(call: Made, own: set[int], count: int) -> Lost:
    module = call.module
    ignored = call.arguments[1].get("ignore_index", -100)
    if call.name in LOSSES and len(call.taken) > 1 and bool((call.taken[1] == ignored).all()):
        return Lost("ignored", call.name, module, count, int(ignored))
    outside = [one for one in call.taken if id(one) not in own and one.is_floating_point()]
    wrong = sum(int((~torch.isfinite(one)).sum()) for one in outside)
    return Lost("target", call.name, module, wrong) if wrong else Lost("made", call.name, module, count)
