"""Ω: keep the norm of the gradient from step to step, by changing the recurrent weights alone.

Shapes: T time, B batch, N full state (all states side by side).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unvanish.engine import Tap, Tape
from unvanish.engine.steps import Steps, put_together
from unvanish.errors import FlowError, OptionError
from unvanish.nn import Part, Recurrent
from unvanish.remedies.penalty.weight import check_weight

SILENT = 1e-20  # a squared norm under it is not a gradient: its step counts for nothing
Schedule = Literal["constant", "1/t"] | Callable[[int], float]


@dataclass(frozen=True)
class OmegaRecord:
    """What one call of `Omega` found and did.

    Attributes:
        value: Ω, the sum over all parts, before its weight.
        by_part: Ω of each part.
        spread: of each part, the standard deviation of log(‖J ᵀd‖ / ‖d‖) over all active steps and rows.
        weight: α_t, by which the gradient of Ω was multiplied.
        added: whether that gradient went into the parameters' `.grad`; one that is not finite does not.
    """

    value: float
    by_part: dict[str, float]
    spread: dict[str, float]
    weight: float
    added: bool


@dataclass(eq=False)
class _Listener(Tap):
    """Keeps the tapes of a layer's passes until Ω is worked out."""

    layer: Recurrent
    name: str
    tapes: list[tuple[str, Tape]] = field(default_factory=list)

    def start(self, part: Part) -> Tape | None:
        if not torch.is_grad_enabled():
            return None
        tape = Tape()
        self.tapes.append((part.name, tape))
        return tape


class Omega:
    """The regulariser of Pascanu et al., for any cell and all its states.

    With d_t = ∂L/∂s_t, the gradient that reaches the full state after step t, and J_t = ∂s_{t+1}/∂s_t,

        Ω = Σ_t Ω_t,   Ω_t = (‖J_tᵀ d_{t+1}‖² / ‖d_{t+1}‖² - 1)²       form="coded", as in its authors' code
                       Ω_t = (‖J_tᵀ d_{t+1}‖ / ‖d_{t+1}‖ - 1)²         form="paper", equation (9)

    in the mean over the batch, divided by the mean number of active steps: those where ‖d_{t+1}‖² ≥ 1e-20.
    (Equation (10) of the paper squares the norms, as the code does.) The gradient of Ω is the immediate one: d, the
    states and all values of the equations are held constant, and what is left are the parameters that stand in J
    itself: U in diag(φ′) U. Of a state that is read several steps back, J_tᵀ d_{t+1} is the sum over all of them.

    Call it after `loss.backward()` (with torch.amp.GradScaler after `scaler.unscale_(optimizer)`, for Ω does not
    know of the scale), and before clipping: it adds α_t ∂Ω/∂U to the gradients.

    Args:
        weight: α.
        form: `coded` or `paper`.
        schedule: of α_t, for the calls t = 1, 2, …: `constant`, `1/t` (α/t), or a function of t that α is
            multiplied with.

    Raises:
        OptionError: the weight is negative or no number, or a word is unknown.

    Source: Pascanu, R., Mikolov, T., Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
    ICML 2013, section 3.3.

    >>> import unvanish
    >>> layer = unvanish.RNN(2, 8)
    >>> omega = Omega(2.0).attach(layer)
    >>> layer(torch.randn(20, 4, 2))[0][-1].square().sum().backward()
    >>> before = layer.weight_hh_l0.grad.clone()
    >>> record = omega()
    >>> record.value > 0, torch.equal(layer.weight_hh_l0.grad, before), record.weight
    (True, False, 2.0)
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        form: Literal["coded", "paper"] = "coded",
        schedule: Schedule = "constant",
    ) -> None:
        if form not in ("coded", "paper"):
            raise OptionError(f"form={form!r}: Omega is 'coded' (norms squared) or as in the 'paper' (equation 9)")
        if schedule not in ("constant", "1/t") and not callable(schedule):
            raise OptionError(f"schedule={schedule!r}: write 'constant', '1/t', or give a function of t")
        self.weight, self.form, self.schedule = check_weight("Omega", weight), form, schedule
        self.calls = self.refused = 0
        self._listeners: list[_Listener] = []

    def attach(self, model: nn.Module) -> Omega:
        """Listen to every recurrent layer of a model from now on.

        Raises:
            OptionError: there is none, weight drop would change what is differentiated by, or batch normalisation
                joins the rows.
        """
        layers = {name: module for name, module in model.named_modules() if isinstance(module, Recurrent)}
        if not layers:
            raise OptionError(
                "the model has no unvanish.Recurrent for Omega to listen to: put unvanish.flow.as_ours(layer), "
                "which shares the parameters of torch's layer, in that one's place"
            )
        for name, layer in layers.items():
            if layer.weight_drop:
                raise OptionError("Omega differentiates by matrices that weight_drop thins: take one of the two")
            if layer.batch_norm:
                raise OptionError("Omega looks at each row by itself, and batch_norm joins them: take layer_norm")
            listener = _Listener(layer, name)
            layer.taps = (*layer.taps, listener)
            self._listeners.append(listener)
        return self

    def detach(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            listener.layer.taps = tuple(tap for tap in listener.layer.taps if tap is not listener)
        self._listeners.clear()

    def __repr__(self) -> str:
        form = "" if self.form == "coded" else f", form={self.form!r}"
        refused = f", {self.refused} not finite" if self.refused else ""
        return f"Omega({self.weight:g}{form}: {self.calls} calls{refused})"

    def __enter__(self) -> Omega:
        return self

    def __exit__(self, *_: Any) -> None:
        self.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, on which the schedule depends."""
        return {"calls": self.calls, "refused": self.refused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.calls, self.refused = int(state["calls"]), int(state["refused"])

    @property
    def alpha(self) -> float:
        """The weight of the next call, α_t."""
        call = self.calls + 1
        if self.schedule == "constant":
            return self.weight
        return self.weight / call if self.schedule == "1/t" else self.weight * float(self.schedule(call))

    def __call__(self) -> OmegaRecord:
        """Work Ω out from the backward pass that has just run, and add its gradient.

        Raises:
            FlowError: no backward pass has run since the last call.
        """
        alpha, total = self.alpha, torch.zeros((), device="cpu")
        by_part, spread, found = dict[str, Tensor](), dict[str, Tensor](), list[tuple[nn.Parameter, Tensor]]()
        for listener in self._listeners:
            for part, tape in listener.tapes:
                if tape.adjoints:
                    name = f"{listener.name}.{part}" if listener.name else part
                    value, deviation, gradients = self._of(listener.layer, part, tape)
                    by_part[name] = by_part.get(name, 0) + value
                    spread[name] = deviation
                    found += gradients
            listener.tapes.clear()
        if not by_part:
            where = (
                "call it after loss.backward()" if self._listeners else "attach(model) it before the forward pass"
            )
            raise FlowError(f"no gradient has come by since the last call of Omega: {where}")
        total = torch.stack(list(by_part.values())).sum()
        self.calls += 1
        added = bool(torch.isfinite(torch.stack([g.sum() for _, g in found] + [total])).all())
        self.refused += not added
        if added and alpha:
            for parameter, gradient in found:
                if parameter.grad is None:
                    parameter.grad = alpha * gradient
                else:
                    parameter.grad.add_(gradient, alpha=alpha)
        return OmegaRecord(
            float(total),
            {name: float(value) for name, value in by_part.items()},
            {name: float(value) for name, value in spread.items()},
            alpha,
            added,
        )

    def _of(
        self, layer: Recurrent, part: str, tape: Tape
    ) -> tuple[Tensor, Tensor, list[tuple[nn.Parameter, Tensor]]]:
        """Ω of one pass of one part, the spread of its log ratios, and its gradient by parameter."""
        steps = Steps(tape)
        ratio_TB, sent_TB, active_TB = _ratios(tape, steps.from_future)
        count = active_TB.sum().clamp_min(1)
        size_TB = ratio_TB if self.form == "coded" else ratio_TB.sqrt()
        value = torch.where(active_TB, (size_TB - 1).square(), 0.0).sum() / count
        # ∂Ω/∂future = 2 (size - 1) ∂size/∂ratio · 2 future / ‖d‖², of which the steps' own factor is one number.
        slope_TB = 4 * (size_TB - 1) / (sent_TB * count)
        if self.form == "paper":
            slope_TB = slope_TB / (2 * size_TB)
        slope_TB = torch.where(active_TB & (ratio_TB > 0), slope_TB, 0.0)[:, :, None]
        last = torch.zeros_like(slope_TB[:1])
        slope_TB1 = torch.cat([slope_TB, last])
        future = steps.from_future
        found = steps.gradients(lambda name, first, last: slope_TB1[first:last] * future[name][first:last])
        logs = ratio_TB[active_TB].clamp_min(1e-38).log() / 2
        deviation = logs.std(correction=0) if len(logs) else torch.zeros((), device="cpu")
        return value, deviation, _by_parameter(layer, part, found)


def _by_parameter(layer: Recurrent, part: str, found: dict[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    """The gradients by the parameters that the optimiser moves, through whatever the layer makes of them."""
    with torch.enable_grad():
        weights = layer.part(part).weights()
    pairs: list[tuple[nn.Parameter, Tensor]] = []
    made: list[tuple[Tensor, Tensor]] = []
    for name, gradient in put_together(found, weights).items():
        array = weights.arrays[name]
        if isinstance(array, nn.Parameter):
            pairs += [(array, gradient)] if array.requires_grad else []
        elif array.requires_grad:  # masked, or constrained
            made.append((array, gradient))
    if made:
        parameters = [p for p in layer.parameters() if p.requires_grad]
        arrays, gradients = zip(*made, strict=True)
        through = torch.autograd.grad(arrays, parameters, gradients, allow_unused=True)
        pairs += [(p, g) for p, g in zip(parameters, through, strict=True) if g is not None]
    return pairs


def _ratios(tape: Tape, future: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """‖J_tᵀ d_{t+1}‖² / ‖d_{t+1}‖², ‖d_{t+1}‖², and where there is any, of all steps but the last, (T - 1, B)."""
    sent_TB = _squares([adjoint[1:] for adjoint in tape.adjoints.values()])
    future_TB = _squares([value[:-1] for value in future.values()])
    active_TB = sent_TB >= SILENT
    if tape.job is not None and tape.job.reset_TB is not None:
        active_TB = active_TB & ~tape.job.reset_TB[1:]
    sent_TB = torch.where(active_TB, sent_TB, 1.0)
    return future_TB / sent_TB, sent_TB, active_TB


def _squares(parts: list[Tensor]) -> Tensor:
    """‖·‖² over all states, step by step and row by row."""
    return torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in parts]).square().sum(0)
