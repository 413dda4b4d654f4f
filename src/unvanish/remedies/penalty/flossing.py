"""Gradient flossing: draw the Lyapunov exponents of a recurrence to zero, where gradients keep their norm.

Shapes: T time, B batch, N full state (all states side by side), K directions.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.checks import whole_number
from unvanish.errors import FlowError, OptionError
from unvanish.flow.finding.convert import as_layer
from unvanish.flow.finding.parts import Hx, LayerPart, as_states, parts_of
from unvanish.nn import Recurrent
from unvanish.remedies.penalty.weight import check_weight

NEAR = 0.01  # nats per step, in the root mean square: a gradient then keeps a third of its norm over 100 steps


@dataclass(frozen=True, eq=False)
class Flossed:
    """What `Flossing.prepare` did.

    Attributes:
        before, after: the exponents of each part in nats per step, on the first batch, (K,).
        steps: how many updates were made.
    """

    before: Mapping[str, NDArray[np.float64]]
    after: Mapping[str, NDArray[np.float64]]
    steps: int

    def __repr__(self) -> str:
        sizes = [_size(found.values()) for found in (self.before, self.after)]
        return f"Flossed({self.steps} steps: exponents {sizes[0]:.4f} → {sizes[1]:.4f} nats per step)"


class Flossing:
    """The mean square of the largest Lyapunov exponents, to be added to the loss or driven down before training.

        weight · (1/k) Σ_i λ_i²,   Q_t R_t = J_t Q_{t-1},   λ_i = mean over t and rows of log |R_t[i, i]|

    with J_t = ∂s_t/∂s_{t-1} along the layer's own trajectory, summed over the layer's parts. An exponent is the
    rate, in nats per step, at which a direction of the state grows; at zero a gradient along it keeps its norm. The
    gradient is the whole one: it sees that the trajectory, too, moves with the weights. Each part is taken with the
    input held fixed that it gets, and without dropout.

    Time and memory: plain torch, step by step. Kept for the backward pass are some T · rows · N · k numbers (an
    LSTM of 128 units has N = 256: k = 32 over 100 steps and 4 rows are 3.3 million, a few times over). So take few
    rows, which are alike in this respect, short stretches, and for gated cells, whose spectrum has a long tail of
    directions that are meant to be lost, `count=` well under N.

    Args:
        weight: of the penalty.
        count: k, how many of the largest exponents; all if None.
        skip: steps that are run before the mean begins, so that Q finds its directions.
        rows: how many rows of the batch are looked at, the first ones; all if None.
        generator: source of the first directions Q_0, drawn anew at each call.

    Raises:
        OptionError: an invalid argument.

    Source: Engelken, R. (2023). Gradient flossing: improving gradient descent through dynamic control of Jacobians.
    NeurIPS 2023; the exponents by QR as in Benettin, Galgani, Giorgilli, Strelcyn (1980).

    For a linear recurrence the exponents are the logarithms of the eigenvalues' magnitudes:

    >>> import math, unvanish
    >>> cell = unvanish.Cell("linear", "h[t] = U @ h[t-1]")
    >>> layer = unvanish.Recurrent(cell, 1, 2, init=lambda U: U.copy_(torch.diag(torch.tensor([0.9, 0.5]))))
    >>> penalty = Flossing(1.0, skip=50)(layer, torch.zeros(100, 1, 1))
    >>> round(penalty.item(), 4), round((math.log(0.9) ** 2 + math.log(0.5) ** 2) / 2, 4)
    (0.2458, 0.2458)
    >>> penalty.backward()
    >>> bool(layer["U"].diagonal().abs().min() > 0), bool(layer.weight_hh_l0.grad.diagonal().max() < 0)
    (True, True)
    """

    def __init__(
        self,
        weight: float = 1.0,
        count: int | None = None,
        *,
        skip: int = 0,
        rows: int | None = 4,
        generator: torch.Generator | None = None,
    ) -> None:
        self.weight = check_weight("Flossing", weight)
        self.count = None if count is None else whole_number(count, "count of Flossing")
        self.skip = whole_number(skip, "skip of Flossing", at_least=0)
        self.rows = None if rows is None else whole_number(rows, "rows of Flossing")
        self.generator = generator

    def __call__(self, layer: nn.Module, x: Tensor, hx: Hx = None) -> Tensor:
        """Return the weighted penalty, a number with a graph, to be added to the loss.

        Args:
            layer: a `Recurrent`, or torch.nn.RNN, LSTM or GRU.
            x, hx: the input, batched, and states to start from, as the layer takes them.

        Raises:
            FlowError: the layer has no such recurrence, the input is too short, or an exponent is not finite: a
                direction was lost at once, as in a matrix that is singular.
        """
        found = self.exponents(layer, x, hx)
        return self.weight * torch.stack([exponents_K.square().mean() for exponents_K in found.values()]).sum()

    def exponents(self, layer: nn.Module, x: Tensor, hx: Hx = None) -> dict[str, Tensor]:
        """Return the exponents of each part that carries a state, (K,) in nats per step, with their graph."""
        ours = as_layer(layer)
        if x.dim() == 3:
            x = x[: self.rows] if ours.batch_first else x[:, : self.rows]
        given = None if hx is None else tuple(state[:, : self.rows] for state in as_states(hx))
        parts = parts_of(ours, x, given)
        found = {name: self._of(ours, part) for name, part in parts.items() if part.widths}
        if not found:
            raise FlowError("the layer carries no state from step to step: there is nothing to floss")
        return found

    def prepare(
        self, layer: nn.Module, batches: Iterable[Tensor], *, steps: int = 100, lr: float = 1e-2, near: float = NEAR
    ) -> Flossed:
        """Move the weights of a layer, before training, until its exponents are near zero.

        Adam on the penalty alone. The gradients that the parameters hold are given back.

        Args:
            layer: as for a call. Of its parameters those move that the exponents depend on.
            batches: inputs as the layer takes them, one per step, from the start again when they end; or one input
                for all steps.
            steps: the most updates.
            lr: the learning rate.
            near: the root mean square of the exponents, in nats per step, at which it ends.

        Returns:
            The exponents before and after.

        Raises:
            OptionError: there is no batch.
            FlowError: as of a call, or a gradient is not finite: give fewer directions, or shorter batches.

        >>> import unvanish
        >>> layer = unvanish.RNN(1, 4, init={"U_h": "orthogonal:0.5"})
        >>> done = Flossing().prepare(layer, 0.1 * torch.randn(20, 2, 1), steps=60, lr=0.05)
        >>> bool(abs(done.before["l0"]).min() > 0.6), bool(abs(done.after["l0"]).max() < 0.1)
        (True, True)
        """
        kept = [batches] if isinstance(batches, Tensor) else batches
        stream = itertools.cycle(kept)
        first = next(stream, None)
        if first is None:
            raise OptionError("there are no batches to floss on: give inputs as the layer takes them")
        parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        held = [parameter.grad for parameter in parameters]
        before, made = self._measured(layer, first), 0
        optimizer = torch.optim.Adam(parameters, lr)
        try:
            for x in itertools.islice(itertools.chain([first], stream), steps):
                found = torch.cat(list(self.exponents(layer, x).values()))
                if float(found.detach().square().mean()) < near**2:
                    break
                self._descend(found.square().mean(), parameters, optimizer)
                made += 1
        finally:
            for parameter, gradient in zip(parameters, held, strict=True):
                parameter.grad = gradient
        return Flossed(before, self._measured(layer, first), made)

    def _descend(self, penalty: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        gradients = torch.autograd.grad(penalty, parameters, allow_unused=True)
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients if gradient is not None):
            raise FlowError(
                "the gradient of the exponents is not finite: floss fewer of them (count=), or over fewer steps"
            )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def _measured(self, layer: nn.Module, x: Tensor) -> dict[str, NDArray[np.float64]]:
        with torch.no_grad():
            return {name: found.double().cpu().numpy() for name, found in self.exponents(layer, x).items()}

    def _of(self, whole: Recurrent, part: LayerPart) -> Tensor:
        """The exponents of one part."""
        size = sum(part.widths.values())
        count = size if self.count is None else self.count
        if count > size or self.skip >= part.steps:
            raise FlowError(
                f"{count} exponents of {size}, after {self.skip} of {part.steps} steps: give numbers inside these"
            )
        # With its graph, which leads through what constrains the matrices.
        part = dataclasses.replace(part, layer_part=whole.part(part.name, training=False))
        s_BN = part.state_before(0)
        device = s_BN.device if self.generator is None else self.generator.device
        drawn_BNK = torch.randn(
            len(s_BN), size, count, generator=self.generator, dtype=s_BN.dtype, device=device
        ).to(s_BN.device)
        q_BNK, logs = torch.linalg.qr(drawn_BNK)[0], list[Tensor]()
        for t in range(part.steps):
            s_BN, moved_BNK = _along(part.step(t), s_BN, q_BNK)
            q_BNK, r_BKK = torch.linalg.qr(moved_BNK)
            if t >= self.skip:
                logs.append(r_BKK.diagonal(dim1=-2, dim2=-1).abs().log().mean(0))
        exponents_K = torch.stack(logs).mean(0)
        if not bool(torch.isfinite(exponents_K).all()):
            lost = int((~torch.isfinite(exponents_K)).sum())
            raise FlowError(
                f"{lost} of {count} exponents of {part.name} are not finite, for these directions are lost at once "
                f"(or overflow): floss the largest alone, count={max(1, count - lost)} or fewer"
            )
        return exponents_K


def _along(step: Callable[[Tensor], Tensor], s_BN: Tensor, directions_BNK: Tensor) -> tuple[Tensor, Tensor]:
    """Run a step, and send K directions through it: the new state, and J(s) · directions."""

    def one(direction_BN: Tensor) -> tuple[Tensor, Tensor]:
        moved = torch.func.jvp(step, (s_BN,), (direction_BN,))
        return moved[0], moved[1]

    # The new state is the same for all directions: None says so, which torch's annotation does not know.
    where_K: Any = (None, -1)
    with warnings.catch_warnings():  # torch loads its own derivatives through what it warns of
        warnings.simplefilter("ignore", DeprecationWarning)
        found: tuple[Tensor, Tensor] = torch.func.vmap(one, in_dims=-1, out_dims=where_K)(directions_BNK)
    return found


def _size(exponents: Iterable[NDArray[np.float64]]) -> float:
    """The root mean square of all."""
    return float(np.sqrt(np.mean(np.concatenate(list(exponents)) ** 2)))
