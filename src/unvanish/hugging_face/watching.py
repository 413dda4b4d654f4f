"""The callback of the Trainer that watches a training: `unvanish.watch` for Hugging Face."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from transformers.trainer_callback import ExportableState, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from unvanish.diagnosis.watch import Alert, Watcher
from unvanish.diagnosis.watch.driving import Scalars, finite


class WatchGradient(TrainerCallback, ExportableState):
    """Tells when the gradient of a training is lost on the way back through time.

    What is told, when and at what cost, is said at `unvanish.watch`; a step is a step of the optimiser, whatever is
    accumulated in it. Alerts are warnings of the first process. The count of steps and what has been told are part
    of every checkpoint, and a training that is resumed goes on with them, by itself: where the Trainer restores its
    callbacks (`restore_callback_states_from_checkpoint`) it makes a new one, which has no `log`.

    Args:
        need: the needed lag in steps.
        every: so many steps from one that is recorded to the next.
        cells: names of modules that are called once a step, where they are not of torch.
        log: gets reach, share and size of the gradient, as a dict: the Trainer's `log`, which hands them to what it
            reports to. If None, they go to `trainer.state.log_history` alone.

    Raises:
        OptionError: `need` or `every` is under 1; at the start of the training.
        FlowError: the model has no recurrent part that is known; at the start of the training.

    Where a training ends in an exception, `close` leaves the model as it was.

    >>> callback = WatchGradient(need=100)  # Trainer(…, callbacks=[callback])
    >>> # or, with the scalars reported: trainer.add_callback(WatchGradient(need=100, log=trainer.log))
    """

    def __init__(
        self,
        *,
        need: int | None = None,
        every: int = 50,
        cells: Iterable[str] = (),
        log: Callable[[dict[str, float]], object] | None = None,
    ) -> None:
        self.need, self.every, self.cells, self.log = need, every, tuple(cells), log
        self.kept: dict[str, Any] | None = None
        self._watcher: Watcher | None = None
        self._scalars = Scalars()

    @property
    def alerts(self) -> list[Alert]:
        """What was told, in order."""
        if self._watcher is None:
            return [Alert(**alert) for alert in (self.kept or {}).get("alerts", [])]
        return self._watcher.alerts

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint of the Trainer keeps."""
        kept = self.kept if self._watcher is None else self._watcher.state_dict()
        return {
            "args": {"need": self.need, "every": self.every, "cells": list(self.cells)},
            "attributes": {"kept": kept},
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to watch, or go on where the checkpoint was."""
        self.close()
        self.kept, own = None, type(self).__name__
        states: dict[str, Any] = state.stateful_callbacks  # type: ignore[assignment]
        if state.global_step and own in states:
            self.kept = states[own]["attributes"]["kept"]
        first = state.is_world_process_zero
        self._watcher = Watcher(
            kwargs["model"],
            [kwargs["optimizer"]],
            need=self.need,
            every=self.every,
            cells=self.cells,
            alert=_warn if first else lambda alert: None,
            log=self._scalars,
            hooked=False,
        )
        if self.kept is not None:
            self._watcher.load_state_dict(self.kept)
        states[own] = self.state()  # the Trainer saves only what has a place there

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the pass that comes, where it is one to sample."""
        if self._watcher is not None:
            self._watcher.begin()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Of passes whose gradients are summed the first is judged: let the next run as it always does."""
        if self._watcher is not None:
            self._watcher.begin()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Judge what was recorded."""
        if self._watcher is not None:
            optimizer = kwargs["optimizer"]
            if getattr(optimizer, "scaler", None) is not None and not finite(optimizer):
                self._watcher.discard()  # a scale that is too large is found by such steps, which are left out
            self._watcher.before_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the step; whatever runs before the next one runs as it always does."""
        if self._watcher is not None:
            self._watcher.pause()
            self._watcher.after_step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the scalars of a step, and leave it to the Trainer whether the loss is logged then."""
        values = self._scalars.taken()
        if not values:
            return
        if self.log is None:
            state.log_history.append({**values, "step": state.global_step})
            return
        asked = control.should_log
        self.log(values)
        control.should_log = asked

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop watching; the alerts stay."""
        self.close()

    def close(self) -> None:
        """Stop watching: the model is as it was before."""
        if self._watcher is not None:
            self._watcher.close()
            self.kept = self._watcher.state_dict()
            self._watcher = None


def _warn(alert: Alert) -> None:
    warnings.warn(f"{alert.kind}: {alert.text}", stacklevel=2)
