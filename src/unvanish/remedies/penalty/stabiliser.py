"""The norm stabiliser: states whose norm stays the same from step to step.

Shapes: T time, B batch, H width of the state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unvanish.errors import DataError, OptionError
from unvanish.remedies.penalty.weight import check_weight


class NormStabiliser:
    """The mean squared change of the state's norm from one step to the next, to be added to the loss.

        weight · (1/T) Σ_t (‖h_t‖ - ‖h_{t-1}‖)²

    in the mean over the batch, T being the number of pairs (t - 1, t) in a row. It holds activations from growing
    beyond the lengths seen in training, and with them, in a relu or identity recurrence, gradients from exploding.
    Its unit is that of the state, squared. It costs one pass over the states, which any engine runs.

    Args:
        weight: β; 50 in the paper for character models, up to 500 for speech.

    Raises:
        OptionError: the weight is negative or no number.

    Source: Krueger, D., Memisevic, R. (2016). Regularizing RNNs by stabilizing activations. ICLR 2016, section 1.

    >>> states_TBH = torch.tensor([[[3.0, 4.0]], [[0.0, 6.0]], [[8.0, 0.0]]])  # norms 5, 6, 8
    >>> NormStabiliser(2.0)(states_TBH)
    tensor(5.)
    """

    def __init__(self, weight: float = 50.0) -> None:
        self.weight = check_weight("NormStabiliser", weight)

    def __call__(
        self,
        states: Tensor,
        initial: Tensor | None = None,
        *,
        lengths: Any = None,
        mask: Tensor | None = None,
        batch_first: bool = False,
    ) -> Tensor:
        """Return the weighted penalty, a number with a graph, to be added to the loss.

        Args:
            states: a state at all steps, such as the output of a layer, (T, B, H), or (B, T, H) with `batch_first`.
            initial: the state before the first step, (B, H): then its change to the first one counts too.
            lengths: of the rows of a padded batch, (B,): what lies past a row's end does not count.
            mask: instead of lengths, true where a step counts, (T, B), or (B, T) with `batch_first`; a pair counts
                where both its steps do.

        Raises:
            OptionError: a shape that does not fit, or lengths and a mask at once.
            DataError: no row has two steps that count.
        """
        if states.dim() != 3:
            raise OptionError(
                f"the states have shape {tuple(states.shape)}: give those of all steps of a batch, (T, B, H)"
            )
        h_TBH = states.transpose(0, 1) if batch_first else states
        counts_TB = _counts(h_TBH, lengths, mask, batch_first)
        if initial is not None:
            if initial.shape != h_TBH.shape[1:]:
                wanted = tuple(h_TBH.shape[1:])
                raise OptionError(f"the initial state has shape {tuple(initial.shape)}, not {wanted}")
            h_TBH = torch.cat([initial[None], h_TBH])
            counts_TB = None if counts_TB is None else torch.cat([torch.ones_like(counts_TB[:1]), counts_TB])
        if len(h_TBH) < 2:
            raise DataError("one step has no change of its norm: give two or more, or the initial state")
        change_TB = torch.linalg.vector_norm(h_TBH, dim=-1).diff(dim=0).square()
        return self.weight * (change_TB.mean() if counts_TB is None else _mean(change_TB, counts_TB))


def _counts(h_TBH: Tensor, lengths: Any, mask: Tensor | None, batch_first: bool) -> Tensor | None:
    """Which steps count, (T, B); None where all do."""
    steps, batch = h_TBH.shape[:2]
    if lengths is not None and mask is not None:
        raise OptionError("lengths= and mask= both say which steps count: give one of them")
    if lengths is not None:
        lengths_B = torch.as_tensor(lengths, device=h_TBH.device)
        if lengths_B.shape != (batch,):
            raise OptionError(
                f"lengths has shape {tuple(lengths_B.shape)}: give one number for each of {batch} rows"
            )
        return torch.arange(steps, device=h_TBH.device)[:, None] < lengths_B
    if mask is None:
        return None
    mask_TB = mask.transpose(0, 1) if batch_first and mask.dim() == 2 else mask
    if mask_TB.shape != (steps, batch) or mask_TB.dtype != torch.bool:
        wanted = (batch, steps) if batch_first else (steps, batch)
        raise OptionError(f"mask is {mask.dtype} {tuple(mask.shape)}: give one of truth values, {wanted}")
    return mask_TB


def _mean(change_TB: Tensor, counts_TB: Tensor) -> Tensor:
    """The mean over each row's pairs, then over the rows that have any."""
    pairs_TB = counts_TB[1:] & counts_TB[:-1]
    pairs_B = pairs_TB.sum(0)
    if not bool(pairs_B.any()):
        raise DataError("no row has two steps that count: there is no change of a norm to hold")
    rows_B = torch.where(pairs_TB, change_TB, 0.0).sum(0) / pairs_B.clamp_min(1)
    return rows_B.sum() / (pairs_B > 0).sum()
