"""Backpropagation through time, term by term: which step's loss reaches a parameter through which step.

Shapes: T time, B batch, I input, W width of the output, M those steps t whose loss is under way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.errors import FlowError, nearest
from unvanish.flow.finding.convert import as_layer
from unvanish.flow.finding.parts import as_hx, as_states
from unvanish.nn import Recurrent
from unvanish.record.result import Result

Loss = Callable[[Tensor], Tensor]
Array = NDArray[np.float64]

LIMIT = 10**8  # numbers in all terms together


@dataclass(frozen=True, eq=False)
class Decomposition(Result):
    """The gradient as a sum over pairs (t, k): the loss of step t, by way of the parameter's use at step k.

    Attributes:
        losses: L_t, (T,).
        terms: by parameter, (T, T, *its shape): `terms[name][t, k]`, zero for k > t. Empty with `norms_only`.
        norms: by parameter, the Frobenius norm of each term, (T, T).
        sums: by parameter, the sum of all terms.
        reference: by parameter, the gradient as autograd gives it from a pass over the whole sequence.
    """

    shown_as: ClassVar[str] = "decomposition"

    losses: Array
    terms: Mapping[str, Array]
    norms: Mapping[str, Array]
    sums: Mapping[str, Array]
    reference: Mapping[str, Array]

    def gradient(self, name: str) -> Array:
        """∂L/∂(parameter): the sum of its terms."""
        return self.sums[self._known(name)]

    def share(self, t: int = -1, name: str | None = None) -> Array:
        """Of the norms of the terms of L_t, what share lies at each step k: (T,), which adds up to 1.

        Over all parameters that were decomposed, unless one is named. Zero everywhere if L_t has no gradient.
        """
        row_T = self._all(name)[t]
        total = row_T.sum()
        return row_T / total if total > 0 else np.zeros_like(row_T)

    def by_lag(self, name: str | None = None) -> Array:
        """The mean norm of the terms (t, k) with t - k = lag, for every lag: (T,)."""
        norms_TT = self._all(name)
        return np.asarray([np.diagonal(norms_TT, -lag).mean() for lag in range(len(norms_TT))])

    def audit(self) -> float:
        """The largest difference between a sum and autograd's gradient, relative to its parameter's largest number.

        In double precision it is rounding alone, under 1e-10.
        """
        return max(_difference(self.sums[name], wanted) for name, wanted in self.reference.items())

    def to_dict(self) -> dict[str, Any]:
        """What a report needs: the losses, the norms by parameter, the audit."""
        return {
            "losses": self.losses.tolist(),
            "norms": {name: norms.tolist() for name, norms in self.norms.items()},
            "audit": self.audit(),
        }

    def __repr__(self) -> str:
        names = ", ".join([*self.norms][:4]) + (", …" if len(self.norms) > 4 else "")
        return f"Decomposition({names}: {len(self.losses)} steps, audit {self.audit():.1e})"

    def _known(self, name: str) -> str:
        if name not in self.norms:
            raise FlowError(f"'{name}' was not decomposed: {nearest(name, self.norms)}")
        return name

    def _all(self, name: str | None) -> Array:
        chosen = self.norms.values() if name is None else [self.norms[self._known(name)]]
        return np.sqrt(sum((norms**2 for norms in chosen), np.zeros(())))


def decompose(
    layer: nn.Module,
    x: Tensor,
    loss: Loss,
    *,
    parameter: str | Sequence[str] | None = None,
    hx: Tensor | tuple[Tensor, ...] | None = None,
    norms_only: bool = False,
) -> Decomposition:
    """Write backpropagation through time down term by term, for a small network.

    With L = Σ_t L_t(y_t), the full state s_t and the immediate derivative ∂⁺ (s_{k-1} held constant),

        ∂L/∂W = Σ_t Σ_{k≤t} (∂L_t/∂y_t) (∂y_t/∂s_t) (∂s_t/∂s_k) (∂⁺s_k/∂W)

    (Pascanu, Mikolov, Bengio 2013, eq. 3 to 5). An output that is not a state has its immediate derivative in the
    term (t, t). Nothing is summed over k before it is written down; `audit` compares the sum with autograd's.

    Args:
        layer: a `Recurrent` of any cell, or torch.nn.RNN, LSTM or GRU, with one layer and one direction. It is
            taken as it is in evaluation, without dropout.
        x: the input as the layer takes it, batched; in the layer's own precision.
        loss: from the layer's output to one loss per step, (T,); that of a step reads the output of that step.
        parameter: which to decompose, by the layer's own names or those of the equations (`U_f`); all if None.
        hx: states to start from.
        norms_only: keep only the norms of the terms, not the terms.

    Raises:
        FlowError: no such layer, parameter or loss; or the terms would be more than 1e8 numbers.

    For h[t] = w h[t-1] + x[t] and L_t = h[t] the terms are w^(t-k) h[k-1]:

    >>> import unvanish
    >>> cell = unvanish.Cell("integrator", "h[t] = w * h[t-1] + V @ x[t]")
    >>> layer = unvanish.Recurrent(cell, 1, 1, init={"w": 0.5, "V": 1.0})
    >>> found = decompose(layer, torch.ones(4, 1, 1), lambda h_TBW: h_TBW[:, 0, 0], parameter="w")
    >>> found.terms["w"][3, :, 0].tolist(), found.gradient("w").tolist()
    ([0.0, 0.25, 0.75, 1.75], [5.75])
    """
    stepped = _one_at_a_time(layer)
    if x.dim() != 3:
        raise FlowError(f"the input has shape {tuple(x.shape)}: give time, batch and width, as the layer takes it")
    batch_first = bool(getattr(layer, "batch_first", False))
    x_TBI = (x.transpose(0, 1) if batch_first else x).detach()
    rows = _rows(stepped, parameter)
    if not norms_only:
        _check_size(stepped, rows, len(x_TBI))
    loss_first = (lambda output_TBW: loss(output_TBW.transpose(0, 1))) if batch_first else loss
    with torch.enable_grad():
        steps = _unroll(stepped, x_TBI, hx)
        losses_T, cotangents_TBW = _loss_by_loss(loss_first, torch.stack([step.output_BW for step in steps]))
        wanted = _whole(layer, x.detach(), hx, loss)
    sheet = _Sheet(rows, len(steps), norms_only)
    names = list(dict.fromkeys(full for full, _ in rows.values()))
    arrays = [stepped.get_parameter(name) for name in names]
    for k, found in _sent_back(steps, cotangents_TBW, arrays):
        sheet.write(k, dict(zip(names, found, strict=True)))
    reference = {name: _numbers(wanted[full][part]) for name, (full, part) in rows.items()}
    return Decomposition(_numbers(losses_T), sheet.terms, sheet.norms, sheet.sums, reference)


@dataclass
class _Step:
    """The graph of one step, from states that are leaves."""

    before: list[Tensor]
    after: list[Tensor]
    output_BW: Tensor


class _Sheet:
    """Where the terms are written down, one step k after the other."""

    def __init__(self, rows: Mapping[str, tuple[str, slice]], steps: int, norms_only: bool) -> None:
        self.rows, self.steps, self.norms_only = rows, steps, norms_only
        self.terms: dict[str, Array] = {}
        self.norms = {name: np.zeros((steps, steps)) for name in rows}
        self.sums: dict[str, Array] = {}

    def write(self, k: int, found: Mapping[str, Tensor]) -> None:
        """Write the terms of all t ≥ k at one k."""
        for name, (full, part) in self.rows.items():
            terms = _numbers(found[full][:, part])
            self.norms[name][k:, k] = np.sqrt((terms.reshape(len(terms), -1) ** 2).sum(1))
            self.sums[name] = self.sums.get(name, 0.0) + terms.sum(0)
            if not self.norms_only:
                shape = (self.steps, self.steps, *terms.shape[1:])
                self.terms.setdefault(name, np.zeros(shape))[k:, k] = terms


def _one_at_a_time(layer: nn.Module) -> Recurrent:
    """A copy of the layer that can be called step by step, and whose steps autograd can look into."""
    ours = as_layer(layer)
    if ours.num_layers > 1 or ours.bidirectional:
        raise FlowError(
            "the layer has several parts: the terms are those of one recurrence, so give one layer with one "
            "direction"
        )
    stepped = _on_reference(ours)
    stepped.batch_first = False
    return stepped


def _on_reference(layer: Recurrent) -> Recurrent:
    found = copy.deepcopy(layer).eval().requires_grad_()
    found.engine, found.memory = "reference", "fast"
    return found


def _rows(layer: Recurrent, wanted: str | Sequence[str] | None) -> dict[str, tuple[str, slice]]:
    """For every parameter that is asked for, the array that holds it, and which of its rows."""
    stored = dict(layer.named_parameters())
    names = list(stored) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    found = {}
    for name in names:
        if name in stored:
            found[name] = (name, slice(None))
            continue
        try:
            view = layer[name]
        except KeyError as error:
            raise FlowError(str(error.args[0])) from None
        for full, array in stored.items():
            first = (view.data_ptr() - array.data_ptr()) // (array.element_size() * array.stride(0))
            if first >= 0 and first + len(view) <= len(array):
                found[name] = (full, slice(first, first + len(view)))
    return found


def _check_size(layer: Recurrent, rows: Mapping[str, tuple[str, slice]], steps: int) -> None:
    count = steps**2 * sum(layer.get_parameter(full)[part].numel() for full, part in rows.values())
    if count > LIMIT:
        raise FlowError(
            f"the terms would be {count:.1e} numbers, more than {LIMIT:.0e}: take a smaller network or fewer "
            "steps, name one parameter=, or keep their norms alone with norms_only=True"
        )


def _unroll(layer: Recurrent, x_TBI: Tensor, hx: Tensor | tuple[Tensor, ...] | None) -> list[_Step]:
    """Run the steps one by one, each from its own leaves."""
    given = layer.zero_states(x_TBI.shape[1]) if hx is None else as_states(hx)
    steps = []
    for x_BI in x_TBI:
        leaves = [s.detach().requires_grad_() if s.is_floating_point() else s for s in given]
        output_1BW, after = layer(x_BI[None], as_hx(tuple(leaves)))
        given = as_states(after)
        moving = [i for i, s in enumerate(leaves) if s.is_floating_point()]  # not the time index
        steps.append(_Step([leaves[i] for i in moving], [given[i] for i in moving], output_1BW[0]))
    return steps


def _loss_by_loss(loss: Loss, output_TBW: Tensor) -> tuple[Tensor, Tensor]:
    """Every L_t, and ∂L_t/∂y_t."""
    leaf_TBW = output_TBW.detach().requires_grad_()
    losses_T = loss(leaf_TBW)
    if not isinstance(losses_T, Tensor) or losses_T.shape != leaf_TBW.shape[:1] or not losses_T.requires_grad:
        shape = tuple(losses_T.shape) if isinstance(losses_T, Tensor) else type(losses_T).__name__
        raise FlowError(
            f"the loss gave {shape}: give one loss for each of the {len(leaf_TBW)} steps, as a tensor that depends "
            "on the output (zero at steps that have none)"
        )
    found = []
    for t, loss_t in enumerate(losses_T):
        (slope_TBW,) = torch.autograd.grad(loss_t, leaf_TBW, retain_graph=True)
        elsewhere = slope_TBW.flatten(1).abs().sum(1) > 0
        elsewhere[t] = False
        if elsewhere.any():
            other = int(elsewhere.nonzero()[0])
            raise FlowError(
                f"the loss of step {t} reads the output of step {other}: then it has no place in the sum "
                "over steps; give losses that each read the output of their own step"
            )
        found.append(slope_TBW[t])
    return losses_T.detach(), torch.stack(found)


def _sent_back(
    steps: Sequence[_Step], cotangents_TBW: Tensor, arrays: Sequence[Tensor]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Send every loss back by itself; yield, from the last step k to the first, its terms (M, *shape) for t ≥ k."""
    adjoints = [state.new_zeros(0, *state.shape) for state in steps[-1].after]
    for k in reversed(range(len(steps))):
        step, under_way = steps[k], len(steps) - k - 1
        # The loss of this very step joins by the output, those of later steps come in by the state.
        into_state = [torch.cat([a.new_zeros(1, *a.shape[1:]), a]) for a in adjoints]
        y_BW = cotangents_TBW[k]
        into_output = torch.cat([y_BW[None], y_BW.new_zeros(under_way, *y_BW.shape)])
        ends = [*step.after, step.output_BW]
        pairs = [(end, v) for end, v in zip(ends, [*into_state, into_output], strict=True) if end.requires_grad]
        inputs = [*step.before, *arrays]
        given = torch.autograd.grad(
            [end for end, _ in pairs],
            inputs,
            [v for _, v in pairs],
            retain_graph=False,
            allow_unused=True,
            is_grads_batched=True,
        )
        filled = [
            value.new_zeros(under_way + 1, *value.shape) if gradient is None else gradient
            for gradient, value in zip(given, inputs, strict=True)
        ]
        adjoints = filled[: len(step.before)]
        yield k, filled[len(step.before) :]


def _whole(layer: nn.Module, x: Tensor, hx: Any, loss: Loss) -> dict[str, Tensor]:
    """Autograd's gradient from one pass over the whole sequence; torch's layers run on torch's own kernels."""
    whole = _on_reference(layer) if isinstance(layer, Recurrent) else copy.deepcopy(layer).requires_grad_()
    named = dict(whole.named_parameters())
    found = torch.autograd.grad(loss(whole(x, hx)[0]).sum(), list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(array) if gradient is None else gradient
        for (name, array), gradient in zip(named.items(), found, strict=True)
    }


def _numbers(value: Tensor) -> Array:
    return value.detach().cpu().double().numpy()


def _difference(found: Array, wanted: Array) -> float:
    largest = float(np.abs(wanted).max(initial=0.0))
    return float(np.abs(found - wanted).max(initial=0.0)) / (largest or 1.0)
