"""A learning rate from a short trial: the range test of Smith (2017), as Lightning runs it."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import warnings
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor

from unvanish.train.model import detached
from unvanish.train.module import NetworkModule
from unvanish.train.questions import Material
from unvanish.train.settings import PRECISIONS

LOWEST, HIGHEST, TRIED = 1e-5, 1.0, 100


def find_rate(module: NetworkModule, material: Material, accelerator: str) -> float | None:
    """Train a copy with rates that rise from step to step; return that at which the loss falls fastest.

    None where it falls nowhere. The network stays as it is; torch's random numbers do not.
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
        suggested = None if found is None else found.suggestion()
    return None if suggested is None else float(f"{suggested:.2g}")


class _Trial(NetworkModule):
    """Trains with the rates that it is given, on to losses that are not finite."""

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
        return {"loss": loss + sum(terms.values())}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip, whatever comes of it."""
        self.penalties.after_backward()
        if self.clip is not None:
            self.clip(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing is gone on with."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing is gone on with."""
