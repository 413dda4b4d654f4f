"""Clipping inside the backward pass: the adjoint of the state, at every time step."""

from __future__ import annotations

import dataclasses
from types import TracebackType
from typing import Literal

import torch
from torch import nn

from unvanish.engine import StepClip, Tap
from unvanish.errors import NonFiniteError, OptionError
from unvanish.nn import Recurrent
from unvanish.remedies.clip.base import Clip
from unvanish.remedies.clip.gradients import Gradients
from unvanish.remedies.clip.record import ClipRecord


class PerStep(Clip):
    """Clip the adjoint of the full state while it goes back through time, at every step and in every row.

        by value:  δ_t ← max(−threshold, min(threshold, δ_t)),  δ_t = ∂L/∂s_t as it leaves step t + 1
        by norm:   δ_t ← δ_t · min(1, threshold / ‖δ_t‖₂),  of each row by itself

    So an explosion is stopped where it begins, and does not drown what else the gradient holds. The idea is that of
    Graves 2013, Generating sequences with recurrent neural networks, section 2.1, who clips by value what arrives
    at the inputs of the gates; here it is what arrives at the state. Give the model once, then call the clip after
    each backward pass, as the others:

    - `PerStep(10.0).attach(model)` sets it on every `Recurrent` of the model; `detach()` gives back what was there.
    - `with PerStep(10.0).attach(model) as clip:` detaches at the end.
    - `clip(model)` returns what was done since the last call. It multiplies nothing itself, so `factor` is 1: by
      how much the gradient of the parameters would have been longer is not known. An adjoint that was not finite
      has become zero, and nothing of it reached the steps before: `zero` takes what is left, `skip` takes all
      gradients away, `raise` is an error.

    Args:
        threshold: the largest absolute value, or norm, of an adjoint; positive.
        by: `value` or `norm`.
        nonfinite: `skip`, `zero` or `raise`: see `Clip`.

    >>> import torch
    >>> layer = Recurrent("rnn", 1, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer["U_h"].fill_(3.0), layer["W_h"].fill_(0.0)
    >>> with PerStep(2.0).attach(layer) as clip:
    ...     layer(torch.zeros(5, 1, 1))[0][-1].sum().backward()  # the adjoint is 1, 3, 9, … without a clip
    ...     record = clip(layer)
    >>> record.acted, clip.adjoints
    (True, (5, 4, 0))
    """

    def __init__(
        self, threshold: float, by: Literal["value", "norm"] = "value", *, nonfinite: str = "skip"
    ) -> None:
        super().__init__(nonfinite=nonfinite)
        self._step_clip = StepClip(threshold, by)
        self._before: list[tuple[Recurrent, tuple[Tap, ...]]] = []
        self.adjoints = (0, 0, 0)

    @property
    def threshold(self) -> float:
        """The largest absolute value, or norm, of an adjoint."""
        return float(self._step_clip.threshold)

    @property
    def by(self) -> str:
        """`value` or `norm`."""
        return self._step_clip.by

    def attach(self, model: nn.Module, scaler: torch.amp.GradScaler | None = None) -> PerStep:
        """Let the passes of every `Recurrent` in a model be clipped from now on.

        With `scaler` the threshold is of the adjoints of the loss as it is, before the scaler multiplies it.

        Raises:
            OptionError: the model has none, or this clip is attached already.
        """
        self._step_clip.scale = None if scaler is None else scaler.get_scale
        if self._before:
            raise OptionError("this clip is attached already: call detach() first, or make a second one")
        layers = [module for module in model.modules() if isinstance(module, Recurrent)]
        if not layers:
            raise OptionError(
                "the model has no Recurrent, and only its steps can be reached: put unvanish.flow.as_ours(layer), "
                "which shares the parameters of torch's layer, in that one's place, or use ByNorm"
            )
        for layer in layers:
            before = tuple(tap for tap in layer.taps if isinstance(tap, StepClip))
            self._before.append((layer, before))
            layer.taps = (*(tap for tap in layer.taps if tap not in before), self._step_clip)
        self._step_clip.reset()
        return self

    def detach(self) -> None:
        """Give every layer back what it had before `attach`."""
        for layer, before in self._before:
            layer.taps = (*(tap for tap in layer.taps if tap is not self._step_clip), *before)
        self._before = []

    def __enter__(self) -> PerStep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def _options(self) -> str:
        return f"{self.threshold:g}, by {self.by}"

    def _clip(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        if not self._before:
            raise OptionError(
                "this clip acts inside the backward pass and is attached to no model: call attach(model) before it"
            )
        clipped, lost = self._read()
        record = ClipRecord(norm, self.threshold, factor=1.0, acted=clipped, nonfinite=lost)
        if not lost:
            return record
        self.nonfinite += 1
        if self.policy == "raise":
            raise NonFiniteError(
                f"{self.adjoints[2]} of {self.adjoints[0]} adjoints of the state held NaN or infinity: a single "
                "step overflowed; look at the states and the input of that batch, or take nonfinite='zero'"
            )
        return self._skip(gradients, norm) if self.policy == "skip" else record

    def _mend(self, gradients: Gradients, norms: list[float], norm: float) -> ClipRecord:
        clipped, _ = self._read()
        adjoints = self.adjoints
        record = super()._mend(gradients, norms, norm)
        self.adjoints = adjoints
        return dataclasses.replace(record, acted=clipped and record.factor > 0)

    def _read(self) -> tuple[bool, bool]:
        """Take the counts since the last call; return whether an adjoint was clipped, and whether one was lost."""
        found = self._step_clip
        self.adjoints = (found.seen, found.clipped, found.nonfinite)
        found.reset()
        return self.adjoints[1] > 0, self.adjoints[2] > 0
