"""What every clip has: one call, a policy for gradients that are not finite, counters, and a state."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from unvanish.errors import NonFiniteError, OptionError, nearest
from unvanish.remedies.clip.gradients import Gradients, Parameters, collect, tensor_norms, together
from unvanish.remedies.clip.record import ClipRecord

POLICIES = ("skip", "zero", "raise")
_COUNTERS = ("calls", "acted", "nonfinite", "skipped")


class Clip(abc.ABC):
    """Changes gradients in place between the backward pass and the optimiser's step, and counts what it did.

    A gradient that holds NaN or infinity has no direction. What happens then is `nonfinite`:

    - `skip`: every gradient becomes None. The optimiser makes no step, and its running means stay as they are.
    - `zero`: the entries that are not finite become 0, the rest is clipped as usual.
    - `raise`: a NonFiniteError that names the parameters. Nothing is changed.

    A norm is measured without overflow: gradients of 1e30 in single precision are large, not infinite (beyond
    1.8e308 a norm counts as infinite). Each call waits once for the device, to read the norms. With
    torch.amp.GradScaler call `scaler.unscale_(optimizer)` before. Gradients that are the same on all processes, as
    DistributedDataParallel makes them, are clipped to the same. Those that are split over processes (FSDP) would be
    measured piece by piece: a DTensor is refused.

    Attributes:
        calls: how often it was called.
        acted: in how many calls it changed a gradient because of the threshold.
        nonfinite: in how many calls a gradient was not finite.
        skipped: in how many calls every gradient was taken away.
        policy: `skip`, `zero` or `raise`.
    """

    policies: tuple[str, ...] = POLICIES

    def __init__(self, *, nonfinite: str = "skip") -> None:
        if nonfinite not in self.policies:
            known = nearest(str(nonfinite), self.policies)
            raise OptionError(f"nonfinite={nonfinite!r} is not a way to treat NaN and infinity: {known}")
        self.policy = nonfinite
        self.calls = self.acted = self.nonfinite = self.skipped = 0

    @property
    @abc.abstractmethod
    def threshold(self) -> float:
        """The threshold that holds now."""

    @abc.abstractmethod
    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        """Clip finite gradients; `norms` are theirs one by one, `norm` that of all together."""

    def __call__(self, parameters: Parameters) -> ClipRecord:
        """Clip the gradients of a module, an optimiser, or an iterable of parameters.

        Raises:
            NonFiniteError: a gradient is not finite, and the policy is `raise`.
            OptionError: what was given is not a parameter, or a gradient is complex.
        """
        with torch.no_grad():
            gradients = collect(parameters)
            norms = tensor_norms(gradients.tensors)
            norm = together(norms)
            self.calls += 1
            if math.isfinite(norm):
                record = self._clip(gradients, norms, norm)
            else:
                self.nonfinite += 1
                record = self._mend(gradients, norms, norm)
        self.acted += record.acted
        return record

    def __repr__(self) -> str:
        done = f"{self.acted} of {self.calls} calls acted, {self.nonfinite} not finite"
        return f"{type(self).__name__}({self._options()}: {done})"

    def _options(self) -> str:
        return f"{self.threshold:g}"

    def _mend(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        bad = [index for index, one in enumerate(norms) if not math.isfinite(one)]
        if self.policy == "raise":
            raise NonFiniteError(_message(gradients, bad))
        if self.policy == "zero" and bad:
            for index in bad:
                gradients.tensors[index].nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            mended = tensor_norms([gradients.tensors[index] for index in bad])
            for index, one in zip(bad, mended, strict=True):
                norms[index] = one
            norm = together(norms)
            if math.isfinite(norm):
                return dataclasses.replace(self._clip(gradients, norms, norm), nonfinite=True)
        return self._skip(gradients, norm)

    def _skip(self, gradients: Gradients, norm: float) -> ClipRecord:
        gradients.drop()
        self.skipped += 1
        return ClipRecord(norm, self.threshold, factor=0.0, acted=False, nonfinite=True)

    # -- to be saved with a run ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and statistics: numbers and tensors, which torch loads with weights_only."""
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return {"kind": type(self).__name__, **counters, **self._statistics()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was called: a resumed run does what the whole one does.

        Raises:
            OptionError: the state is that of another kind of clip, or lacks something.
        """
        missing = [name for name in self.state_dict() if name not in state]
        kind = state.get("kind")
        if kind != type(self).__name__ or missing:
            why = f"it lacks {', '.join(missing)}" if missing else f"it is that of {kind}"
            raise OptionError(
                f"this is not a state of {type(self).__name__}: {why}; create the clip that was saved, or restart"
            )
        for name in _COUNTERS:
            setattr(self, name, int(state[name]))
        self._restore(state)

    def _statistics(self) -> dict[str, Any]:
        """Return what must be kept beside the counters."""
        return {}

    def _restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027  most clips have no statistics
        """Take `_statistics` in again."""


def _message(gradients: Gradients, bad: list[int]) -> str:
    if not bad:
        return "the norm of all gradients together is beyond 1.8e308: the loss explodes; lower the learning rate"
    return (
        f"{len(bad)} of {len(gradients.tensors)} gradients hold NaN or infinity: {gradients.names(bad)}; the loss "
        "or a step of the backward pass overflowed: lower the learning rate, or take nonfinite='skip'"
    )
