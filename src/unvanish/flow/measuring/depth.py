"""The profile along depth: how much of a gradient is left so many layers below the last one.

Shapes: D layers, T time, B batch, W width.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.checks import whole_number
from unvanish.errors import FlowError, OptionError, nearest
from unvanish.flow.finding.calling import arguments, called, random_like
from unvanish.flow.finding.convert import as_ours
from unvanish.flow.finding.parts import as_states
from unvanish.flow.finding.untouched import untouched
from unvanish.flow.measuring.profile import fit_rate, reach_of
from unvanish.nn import Recurrent
from unvanish.record import Result


@dataclass(frozen=True, eq=False)
class DepthProfile(Result):
    """Gradient norm against depth.

    Attributes:
        layers: the layers in the order in which they were called.
        norms: g(d) for d = 0 … D - 1 layers below the last one.
        weight_norms: by layer, in that order, the norm of the gradient of its own parameters, as a share of the
            norm that was sent; NaN for a layer that has none to train.
        rate: slope of log g(d) in nats per layer, fitted over the deeper half.
        level: log g(0) of the fitted line.
        reach: the largest depth at which at least 1 % of the norm survives.
        censored: whether that is the first layer: with more of them it might reach further.
    """

    shown_as: ClassVar[str] = "depth"
    layers: tuple[str, ...]
    norms: NDArray[np.float64]
    weight_norms: NDArray[np.float64]
    rate: float
    level: float
    reach: int
    censored: bool

    @property
    def by_layer(self) -> dict[str, float]:
        """What is left at the output of each layer, by its name, the first layer first."""
        return dict(zip(self.layers, self.norms[::-1].tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """What a report needs."""
        return {
            "layers": list(self.layers),
            "norms": self.norms.tolist(),
            "weight_norms": [None if math.isnan(norm) else norm for norm in self.weight_norms.tolist()],
            "rate": self.rate,
            "level": self.level,
            "reach": self.reach,
            "censored": self.censored,
        }

    def __repr__(self) -> str:
        reach = f"{'≥ ' if self.censored else ''}{self.reach}"
        return (
            f"DepthProfile({len(self.layers)} layers, rate {self.rate:+.4f} nats per layer, reach {reach} layers)"
        )


def depth(
    model: nn.Module,
    batch: Any,
    *,
    at: Sequence[str | nn.Module] | None = None,
    cotangent: Tensor | None = None,
    draws: int = 8,
    generator: torch.Generator | None = None,
) -> DepthProfile:
    """Measure how much of a gradient is left d layers below the last one.

    g(d) = sqrt(E‖(∂y_D/∂y_{D-d})ᵀ v‖² / E‖v‖²),  v ~ N(0, I) over the output y_D of the last layer,

    which is `flow.profile` with layers for steps. The norms are of whole outputs, so layers of one width are
    compared with each other.

    Args:
        model: any module. Of a recurrent stack (a `Recurrent`, or torch.nn.RNN, LSTM or GRU) the layers are those
            of the stack, in evaluation, and y their outputs at all steps.
        batch: what the model takes; a tuple is spread over its arguments, a mapping over its keywords.
        at: the layers, by name or as modules. If None, those children of the outermost nn.Sequential and
            nn.ModuleList that hold parameters, or of the model itself where it has no such list. A layer that is
            called several times stands for several.
        cotangent: v, in place of random directions; such as the gradient of a loss.
        draws: random directions to average over.
        generator: source of the random directions.

    Raises:
        FlowError: fewer than two layers were called, `at` names none of the model's, or nothing to differentiate.
        OptionError: draws is under 1, or the cotangent has not the shape of the last output.

    >>> blocks = [torch.nn.Linear(4, 4, bias=False) for _ in range(10)]
    >>> for block in blocks:
    ...     _ = torch.nn.init.orthogonal_(block.weight, gain=0.5)
    >>> found = depth(torch.nn.Sequential(*blocks), torch.randn(3, 4))
    >>> round(found.rate, 4), found.reach
    (-0.6931, 6)
    """
    whole_number(draws, "draws")
    with untouched(model, random=False):  # the next call draws other directions
        if isinstance(model, Recurrent | nn.RNNBase) and at is None:
            calls = _stack_calls(model, batch)
        else:
            calls = _calls(model, batch, _layers(model, at))
        if len(calls) < 2:
            seen = ", ".join(call.name for call in calls) or "none"
            raise FlowError(
                f"a profile along depth needs two layers that are called, and found {seen}: name them, "
                "depth(model, batch, at=['encoder.0', 'encoder.1'])"
            )
        return _measured(calls, _cotangents(calls[-1].output, cotangent, draws, generator))


@dataclass
class _Call:
    """One call of one layer: what it gave, and the parameters that it holds."""

    name: str
    output: Tensor
    parameters: list[Tensor] = field(default_factory=list)


def _cotangents(
    last: Tensor, given: Tensor | None, draws: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    if given is None:
        yield from (random_like(last, generator) for _ in range(draws))
        return
    if given.shape != last.shape:
        raise OptionError(
            f"the cotangent has shape {tuple(given.shape)}, the last layer's output {tuple(last.shape)}"
        )
    yield given.to(last)


def _measured(calls: Sequence[_Call], cotangents: Iterator[Tensor]) -> DepthProfile:
    outputs = [call.output for call in calls]
    squares_D, weights_D, sent = np.zeros(len(calls)), np.zeros(len(calls)), 0.0
    own = [[p for p in call.parameters if p.requires_grad] for call in calls]
    flat = [p for parameters in own for p in parameters]
    for v in cotangents:
        found = torch.autograd.grad(outputs[-1], [*outputs, *flat], v, retain_graph=True, allow_unused=True)
        sent += _square(v)
        squares_D += [_square(gradient) for gradient in found[: len(calls)]]
        of_parameters = iter(found[len(calls) :])
        weights_D += [sum(_square(next(of_parameters)) for _ in parameters) for parameters in own]
    if not sent > 0:
        raise FlowError("the cotangent is zero, or no number: there is nothing to send back")
    norms_D = np.sqrt(squares_D[::-1] / sent)
    weight_norms_D = np.where([bool(parameters) for parameters in own], np.sqrt(weights_D / sent), np.nan)
    rate, level = fit_rate(norms_D)
    reach, censored = reach_of(norms_D)
    return DepthProfile(tuple(call.name for call in calls), norms_D, weight_norms_D, rate, level, reach, censored)


def _square(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.detach().double().square().sum())


# -- any module --------------------------------------------------------------------------------------------------


def _layers(model: nn.Module, at: Sequence[str | nn.Module] | None) -> dict[nn.Module, str]:
    """The layers to look at, with their names."""
    names = {module: name for name, module in model.named_modules()}
    if at is None:
        found = list(_listed(model)) or [child for child in model.children() if _trains(child)]
        return {module: names[module] for module in found}
    named = {name: module for module, name in names.items()}
    for wanted in at:
        if isinstance(wanted, str) and wanted not in named:
            raise FlowError(f"the model has no layer '{wanted}': {nearest(wanted, named)}")
        if isinstance(wanted, nn.Module) and wanted not in names:
            raise FlowError(f"{type(wanted).__name__} is not a part of the model: give modules that it holds")
    chosen = [named[wanted] if isinstance(wanted, str) else wanted for wanted in at]
    return {module: names[module] for module in chosen}


def _listed(module: nn.Module) -> Iterator[nn.Module]:
    """The children of the outermost lists of layers; activations and the like, which train nothing, are none."""
    children = [child for child in module.children() if _trains(child)]
    if isinstance(module, nn.Sequential | nn.ModuleList) and len(children) > 1:
        yield from children
    else:
        for child in children:
            yield from _listed(child)


def _trains(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _calls(model: nn.Module, batch: Any, layers: Mapping[nn.Module, str]) -> list[_Call]:
    """Run the model, and keep what every layer gives."""
    calls: list[_Call] = []
    counts: dict[nn.Module, int] = {}

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        counts[module] = counts.get(module, 0) + 1
        name = layers[module] if counts[module] == 1 else f"{layers[module]} ({counts[module]})"
        kept, passed = _kept(name, output)
        calls.append(_Call(name, kept, list(module.parameters())))
        return passed

    with contextlib.ExitStack() as stack:
        for module in layers:
            stack.callback(module.register_forward_hook(hook).remove)
        called(model, batch)
    return calls


def _kept(name: str, output: Any) -> tuple[Tensor, Any]:
    """The output of a layer to look at, and what the model goes on with.

    The model gets a copy: what works in place after a layer, as many activations do, leaves ours as it was.
    """
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        kept, passed = _kept(name, output[0])
        return kept, (passed, *output[1:])
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise FlowError(f"layer {name} gives {type(output).__name__}: name layers that give a tensor of numbers")
    kept = output if output.requires_grad else output.detach().requires_grad_()
    return kept, kept.clone()


# -- recurrent stacks --------------------------------------------------------------------------------------------


def _stack_calls(model: Recurrent | nn.RNNBase, batch: Any) -> list[_Call]:
    """Run a stack layer by layer, and keep the output of every layer."""
    if type(model).forward not in (Recurrent.forward, nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward):
        raise FlowError(
            f"{type(model).__name__} has a forward of its own, so something may go past the layers: put "
            "single layers into a model of your own and name them with at="
        )
    ours = as_ours(model)
    x, hx = (*arguments(batch), None)[:2]
    if not isinstance(x, Tensor) or x.dim() != 3:
        raise FlowError("the layers of a stack are looked at with a batched tensor as input: give (T, B, I)")
    x_TBW = x.detach().transpose(0, 1) if ours.batch_first else x.detach()
    given = ours.zero_states(x_TBW.shape[1]) if hx is None else as_states(hx)
    calls: list[_Call] = []
    for layer in ours.walk(x_TBW, [state.detach() for state in given]):
        held = [array for one in layer.ran for array in one.part.arrays.values()]
        # Of a dense stack the output alone: norms of one width are compared.
        same = layer.handed_TBW.shape == layer.output_TBW.shape
        calls.append(_Call(f"l{len(calls)}", layer.handed_TBW if same else layer.output_TBW, held))
    if ours.batch_first:
        calls[-1].output = calls[-1].output.transpose(0, 1)
    return calls
