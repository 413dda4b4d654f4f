"""The verdict on a model: does its gradient reach as far as its data need, why not, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.diagnosis.causes import CAUSES
from unvanish.diagnosis.examine import examine
from unvanish.diagnosis.findings import VERDICTS, Cause, Diagnosis, PartFinding, Prescription, Untried
from unvanish.diagnosis.question import Question
from unvanish.diagnosis.watch import Alert, Watcher, watch
from unvanish.waiting import shown

__all__ = [
    "CAUSES",
    "VERDICTS",
    "Alert",
    "Cause",
    "Diagnosis",
    "PartFinding",
    "Prescription",
    "Untried",
    "Watcher",
    "diagnose",
    "watch",
]


def diagnose(
    model: nn.Module,
    batch: Any,
    loss: Callable[..., Tensor],
    *,
    need: int | None = None,
    data: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    step: Callable[[], Any] | None = None,
    cells: Iterable[str] = (),
    prescriptions: bool = True,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Judge how far back a model's gradient reaches against how far back it has to, and say why.

    Args:
        model: any module with a time axis. Recurrences are found by type (layers of ours and of torch), by what a
            run does (modules that are called once a step, loops that are written out); where none is seen, the
            gradient is measured along the steps of the input. Each part's `kind` says which it was.
        batch: what the model is called with: a tensor or array, a tuple of arguments, a mapping of keywords, or a
            DataLoader that gives one of these.
        loss: makes one number of what the model returns; or of that and a target, which is then the batch's last.
        need: the needed lag in steps. If None, what the data need; without data, the length of the batch.
        data: how much context is needed is measured of it. Sequences by themselves (what predicts their next step),
            a pair (inputs, targets) for what a model is to tell of its input, or a `flow.Dependency`.
        optimizer: what trains the model; one step of it is tried on a copy.
        step: the whole training step as it is done (forward, backward, clip, optimiser): it is run once, watched,
            and the model and its optimiser are given back as they were.
        cells: names of modules that are called once a step, where they are not found.
        prescriptions: whether remedies are tried.
        seed: of the random directions.
        say: called with what is being done, a few words, whenever that changes: it may take half a minute. By
            default that is a passing line on a terminal, and nothing elsewhere.

    Returns:
        A `Diagnosis`. The verdict is relative to the needed lag: vanishing, where less than 1 % of the gradient's
        norm comes so far back; exploding, where it grows a hundredfold on the way; borderline, where the directions
        that were drawn cannot tell.

    Raises:
        FlowError: there is nothing to measure along, or the loss is not a single number.

    >>> class Last(nn.Module):
    ...     def __init__(self) -> None:
    ...         super().__init__()
    ...         self.rnn, self.out = nn.RNN(1, 8), nn.Linear(8, 1)
    ...     def forward(self, x_TBI):
    ...         return self.out(self.rnn(x_TBI)[0][-1])
    >>> found = diagnose(Last(), torch.randn(100, 4, 1), lambda y: y.square().mean(), need=50)
    >>> found.verdict, found.causes[0].kind
    ('vanishing', 'weights')
    """
    with shown(say) as tell:
        return examine(
            Question(model, batch, loss, need, data, optimizer, step, tuple(cells), prescriptions, seed, tell)
        )
