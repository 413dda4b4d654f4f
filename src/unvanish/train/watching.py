"""The Lightning callback that watches a training: `unvanish.watch` for a Trainer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn

from unvanish.diagnosis.watch import Alert, Watcher
from unvanish.diagnosis.watch.driving import Scalars, finite


class WatchGradient(pl.Callback):
    """Tells when the gradient of a training is lost on the way back through time.

    What is told, when and at what cost, is said at `unvanish.watch`; a step is a step of the optimisers. Alerts are
    warnings of the first process; reach, share and size of the gradient go to every logger of the trainer, if there
    is one. The count of steps and what has been told are part of every checkpoint.

    Args:
        need: the needed lag in steps.
        every: so many steps from one that is recorded to the next.
        cells: names of modules that are called once a step, where they are not of torch.

    Raises:
        OptionError: `need` or `every` is under 1; at the start of the training.
        FlowError: the module has no recurrent part that is known; at the start of the training.

    >>> trainer = pl.Trainer(callbacks=[WatchGradient(need=100)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, *, need: int | None = None, every: int = 50, cells: Iterable[str] = ()) -> None:
        self.need, self.every, self.cells = need, every, tuple(cells)
        self._watcher: Watcher | None = None
        self._kept: dict[str, Any] | None = None
        self._scalars = Scalars()
        self._steps = False  # whether the optimiser stepped in the present batch

    @property
    def alerts(self) -> list[Alert]:
        """What was told, in order."""
        if self._watcher is None:
            return [Alert(**alert) for alert in (self._kept or {}).get("alerts", [])]
        return self._watcher.alerts

    def state_dict(self) -> dict[str, Any]:
        """Return the count of steps and what has been told."""
        return (self._kept or {}) if self._watcher is None else self._watcher.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._kept = state_dict or None
        if self._watcher is not None and state_dict:
            self._watcher.load_state_dict(state_dict)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to watch."""
        self._watcher = Watcher(
            module,
            trainer.optimizers,
            need=self.need,
            every=self.every,
            cells=self.cells,
            alert=lambda alert: rank_zero_warn(f"{alert.kind}: {alert.text}"),
            log=self._scalars,
            hooked=False,
        )
        if self._kept is not None:
            self._watcher.load_state_dict(self._kept)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Record the pass that comes, where it is one to sample."""
        self._steps = False
        if self._watcher is not None:
            self._watcher.begin()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Judge what was recorded, before the gradient is clipped."""
        self._steps = True
        if self._watcher is not None:
            if trainer.scaler is not None and not finite(optimizer):
                self._watcher.discard()  # a scale that is too large is found by such steps, which are left out
            self._watcher.before_step()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Count the step; whatever runs before the next batch runs as it always does."""
        if self._watcher is not None:
            self._watcher.pause()
            if self._steps:
                self._watcher.after_step()
            if values := self._scalars.taken():
                for logger in trainer.loggers:
                    logger.log_metrics(dict(values), step=self._watcher.step)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing behind."""
        self.teardown(trainer, module, "fit")

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Stop watching; the alerts stay."""
        if self._watcher is not None:
            self._kept = self._watcher.state_dict()
            self._watcher.close()
            self._watcher = None
