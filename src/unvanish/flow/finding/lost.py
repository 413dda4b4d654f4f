"""Find where a forward pass makes its first number that is not finite.

Shapes: T time, B batch, N full state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unvanish.flow.finding.calls import MODULE, Made
from unvanish.flow.finding.graph import GraphPart
from unvanish.flow.finding.parts import Part, SteppedPart

LOSSES = frozenset({"cross_entropy", "nll_loss", "nll_loss_nd"})
FILLS = frozenset({"masked_fill", "masked_fill_", "full", "full_like", "new_full", "where", "fill_"})  # a mask's −∞
# What is infinite of numbers that need not be large.
POLES = frozenset(
    {"div", "true_divide", "__truediv__", "__rtruediv__", "log", "log2", "log10", "rsqrt", "reciprocal"}
)


@dataclass(frozen=True)
class Lost:
    """The first call whose result is not finite.

    Attributes:
        how: `ignored` where a loss has no label left, `target` where a number that is none came in from outside the
            model, `overflow` where a step of a recurrence makes an infinite number of large ones, else `made`.
        function, module: the call, and the module that it is made in; None where that is outside the model.
        count: how many numbers are not finite.
        value: the label that is left out.
        part, step: the recurrence that overflows, and in which of its steps, from 1 on.
    """

    how: str
    function: str
    module: str | None
    count: int
    value: int = 0
    part: str = ""
    step: int = 0
    call: Made | None = field(default=None, repr=False)


def first_lost(made: Sequence[Made], known: Iterable[Tensor]) -> Lost | None:
    """Find the call that makes the first NaN, or the infinity that it is made of; where there is no NaN, infinity.

    Args:
        made: the calls of a forward pass and of the loss.
        known: the parameters, buffers and inputs of the model; what else comes in is from outside.
    """
    known = list(known)
    for is_lost in (torch.isnan, torch.isinf):
        own = {id(one) for one in known}
        for at, call in enumerate(made):
            if any(bool(is_lost(one).any()) for one in call.given if one.is_floating_point()):
                return _told(made[: at + 1], own)
            own |= {id(one) for one in call.given}
    return None


def _told(made: Sequence[Made], own: set[int]) -> Lost:
    call = made[-1]
    module = _module(call)
    ignored = call.arguments[1].get("ignore_index", -100)
    if call.name in LOSSES and len(call.taken) > 1 and bool((call.taken[1] == ignored).all()):
        return Lost("ignored", call.name, module, _count(call.given), int(ignored))
    outside = [one for one in call.taken if id(one) not in own]
    if _count(outside):
        return Lost("target", call.name, module, _count(outside))
    first = _origin(made)
    return Lost("made", first.name.removeprefix(MODULE), _module(first), _count(first.given), call=first)


def _module(call: Made) -> str | None:
    """The module that a call is, or is made in; None where that is outside the model."""
    if call.name.startswith(MODULE):
        return call.name.removeprefix(MODULE)
    return call.module if call.inside else None


def _origin(made: Sequence[Made]) -> Made:
    """Go back from the last call to the one that made the first of the infinite numbers that it takes."""
    makers = {id(one): call for call in made[:-1] for one in call.given}
    call, seen = made[-1], {id(made[-1])}
    while True:
        before = [makers[id(one)] for one in call.taken if id(one) in makers and _count([one])]
        before = [one for one in before if id(one) not in seen and one.name not in FILLS]
        if not before:
            return call
        call = before[0]
        seen.add(id(call))


def _count(values: Iterable[Tensor]) -> int:
    return sum(int((~torch.isfinite(one)).sum()) for one in values if one.is_floating_point())


def located(lost: Lost, parts: Mapping[str, Part]) -> Lost:
    """Say which step of which recurrence overflows, if one does."""
    call = lost.call
    if call is None or call.name in POLES:
        return lost
    for name, part in parts.items():
        step = _step_of(call, part)
        if step is not None:
            return replace(lost, how="overflow", part=name, step=step)
    return lost


def _step_of(call: Made, part: Part) -> int | None:
    """The first step after which the state of a recurrence is not finite; None if the call is not part of it."""
    if isinstance(part, GraphPart):
        steps = part.loop.calls if part.loop is not None else []
        return next((t for t, step in enumerate(steps, 1) if any(one is call for one in step)), None)
    inside = _module(call) in (part.name, part.name.rpartition(".")[0])
    if not inside or not isinstance(part, SteppedPart):
        return None
    lost_T = ~torch.isfinite(part.trajectory()).flatten(1).all(1)
    return int(lost_T.nonzero()[0]) if bool(lost_T.any()) else None
