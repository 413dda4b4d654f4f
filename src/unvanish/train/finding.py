"""A learning rate from a short trial: the range test of Smith (2017), as Lightning runs it."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import math
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor

from unvanish.train.model import detached
from unvanish.train.module import NetworkModule
from unvanish.train.questions import Material
from unvanish.train.settings import PRECISIONS

LOWEST, HIGHEST, TRIED = 1e-5, 1.0, 100
MEANS = 10  # steps whose mean is looked at


def find_rate(module: NetworkModule, material: Material, accelerator: str) -> float | None:
    """Train a copy with rates that rise from step to step; return that at which the loss falls fastest.

    None where it falls nowhere by more than it varies from batch to batch: what is steepest there is noise. The
    network stays as it is; torch's random numbers do not.
    """
    trial = _Trial(copy.deepcopy(module.model), module.question, module.settings)
    batches = material.train()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # the tuner draws a bar of its own
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=PRECISIONS[module.settings.precision],  # type: ignore[arg-type]
            # The tuner counts no step that an epoch ends before all its batches are there.
            accumulate_grad_batches=min(module.settings.accumulate, len(batches)),
            max_epochs=-1,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        found = Tuner(trainer).lr_find(
            trial,
            train_dataloaders=batches,
            min_lr=LOWEST,
            max_lr=HIGHEST,
            num_training=TRIED,
            update_attr=False,
        )
        fell = falls([float(one) for one in trial.losses], trainer.accumulate_grad_batches)
        suggested = found.suggestion() if found is not None and fell else None
    return None if suggested is None else float(f"{suggested:.2g}")


def falls(losses: Sequence[float], batches: int = 1) -> bool:
    """Say whether losses, of so many batches a step, come to lie below the first of them by more than noise.

    The mean of ten steps is to lie three standard errors below that of the first ten. The noise is told by how far
    losses lie from the next ones, which a slow fall does not add to.

    >>> falls([1.0, 1.1] * 10 + [0.8, 0.9] * 10), falls([1.0, 1.1] * 10 + [0.98, 1.08] * 10)
    (True, False)
    """
    finite = [one for one in losses if math.isfinite(one)]
    width = MEANS * batches
    if len(finite) < 2 * width:
        return False
    first = finite[: 3 * width]
    noise = math.sqrt(statistics.fmean((one - other) ** 2 for one, other in itertools.pairwise(first)) / 2)
    means = [statistics.fmean(finite[start : start + width]) for start in range(len(finite) - width + 1)]
    return means[0] - min(means) > 3 * noise * math.sqrt(2 / width)


class _Trial(NetworkModule):
    """Trains with the rates that it is given, on to losses that are not finite, and keeps these."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.losses: list[Tensor] = []

    def on_train_start(self) -> None:
        """Leave the schedule alone."""

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Leave the rate alone."""

    def training_step(self, batch: tuple[Any, Any], batch_index: int) -> dict[str, Tensor]:
        """Return what is trained on."""
        answer, states, every = self.model.run(batch[0], self.states, all_states=self.penalties.needs_states)
        terms = self.penalties.terms(batch[0], self.states, every)
        self.states = detached(states) if self.question.carries else None
        loss = self.question.loss(self.model, answer, batch[1])
        whole = loss + sum(terms.values())
        self.losses.append(whole.detach())
        return {"loss": whole}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip, whatever comes of it."""
        self.penalties.after_backward()
        if self.clip is not None:
            self.clip(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing is gone on with."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing is gone on with."""
