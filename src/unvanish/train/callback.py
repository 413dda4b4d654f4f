"""The callback that keeps a run's record: losses, norms, the gradient along time, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch

from unvanish import flow
from unvanish.errors import NonFiniteError
from unvanish.record import Clock, RunRecord
from unvanish.torch_internals import validate_now
from unvanish.train.answering import add
from unvanish.train.checkpoint import Checkpoints, checkpoint_name, keep_best
from unvanish.train.loggers import scalars
from unvanish.train.material import MaterialData
from unvanish.train.measure import measure, plain_profiles, probe_seed
from unvanish.train.module import NetworkModule
from unvanish.train.questions import Sums
from unvanish.train.questions.symbols import SHORT
from unvanish.train.remedies import Tally, lines_at_start
from unvanish.train.sharing import ALONE, Share

STEP_RECORDS = 400  # about so many lines of kind `step` in a whole run
NEVER = 2**62  # batches
PATIENCE = 20.0  # seconds after which a line says how far it is; the step in between takes some, too


class Stopped(Exception):  # noqa: N818  (it is not an error)
    """Training was asked to stop, and did so when everything was saved; `why` says by whom, if not by a signal."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


class Enough(Exception):  # noqa: N818
    """Training ends before its last epoch, with everything saved: no better validation is to be hoped for."""


class RunKeeper(pl.Callback):
    """Writes the record of a run as it goes; measures the reach; saves after every validation and every epoch.

    `interrupted`, the number of a signal, asks for a stop after the present step, and after the validation
    where one is due then; after the last step of all nothing is left to stop. `say` gets a line for every
    validation, and with `tells` one now and then with what is left. A `fresh` run has no checkpoint.
    """

    def __init__(
        self,
        record: RunRecord,
        checkpoints: Checkpoints,
        say: Callable[[str], None],
        *,
        fresh: bool,
        tells: bool,
        share: Share = ALONE,
        clock: Clock | None = None,
    ) -> None:
        self.record, self.checkpoints, self.say, self.fresh = record, checkpoints, say, fresh
        self.share = share
        self.clock = clock or Clock(record.seconds)
        self.pace = Progress(say) if tells else None
        self.interrupted = 0
        self.hear: Callable[[], None] = lambda: None
        self.losses: list[tuple[torch.Tensor, torch.Tensor]] = []  # of a step's batches, each of so many values
        self.step_before = 0
        self.tally, self.steps_read = Tally(), 0
        self.training_seconds, self.window_began = 0.0, 0.0
        self.sums: Sums = {}
        self.metrics: dict[str, float] = {}
        self.enough = False
        self.moments: set[int] = set()
        self.every = 1
        self.validated_at = -1
        self.measured: tuple[int, dict[str, flow.Profile]] = -1, {}

    @property
    def seconds(self) -> float:
        """Seconds since the start, over all resumptions."""
        return self.clock.seconds

    @staticmethod
    def epoch(trainer: pl.Trainer) -> int:
        """The epoch, from 0; after the last one it is still the last."""
        return min(trainer.current_epoch, int(trainer.max_epochs or 1) - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next records depend on, for a checkpoint."""
        return {
            "tally": self.tally.state_dict(),
            "validated_at": self.validated_at,
            "recorded": self.record.count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.validated_at = state_dict["validated_at"]
        # An older checkpoint has two counts, and knows of no factors.
        older = {"clipped": state_dict.get("clipped_steps", 0), "steps": state_dict.get("steps_since", 0)}
        self.tally.load_state_dict(state_dict.get("tally", older))

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Plan when to probe; make sure that there is a checkpoint from the first step on."""
        self.hear()  # Lightning has put a handler of SIGTERM before ours, which ends a run without saving it
        total = _ours(trainer).steps_per_epoch * int(trainer.max_epochs or 1)
        probes = _ours(trainer).settings.probes
        self.moments = {round(total * k / max(probes, 1)) for k in range(probes)}
        self.every = max(1, total // STEP_RECORDS)
        self._plan_validation(trainer, trainer.global_step > 0)
        if self.pace is not None:
            self.pace.begin(trainer.global_step, total)
        if self.fresh:
            if self.share.leads:
                for line in lines_at_start(_ours(trainer), _data(trainer).probe()):
                    self.record.append("remedy", 0, self.seconds, **line)
            self._save(trainer)
        elif self.share.leads:
            self._write_changed_clip(trainer)

    def _write_changed_clip(self, trainer: pl.Trainer) -> None:
        """Where a resumed run is clipped otherwise than before, say so, with the profile that it finds."""
        ours, step = _ours(trainer), trainer.global_step
        clips = [line.get("asked") for line in self.record.read("remedy") if line.get("name") == "clip"]
        if (clips[-1] if clips else "none") != ours.settings.clip:
            found = measure(ours.model, _data(trainer).probe(), probe_seed(ours.settings.seed, step))
            line = {"name": "clip", "asked": ours.settings.clip, "profiles": plain_profiles(found)}
            self.record.append("remedy", step, self.seconds, **line, without=None)

    def _save(self, trainer: pl.Trainer) -> None:
        """Save, and where a stop was asked for, stop."""
        _ours(trainer).refuse_non_finite()
        if self.share.leads:
            self.record.sync()
            for logger in trainer.loggers:
                logger.save()
        trainer.save_checkpoint(self.checkpoints.folder / checkpoint_name(trainer.global_step))
        if self.share.any(self.interrupted, _ours(trainer).device):
            raise Stopped
        if self.enough:
            raise Enough

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_index: int, *_: Any
    ) -> None:
        """At a moment to probe, let the coming step be recorded, in the last of its batches."""
        ours, self.step_before = _ours(trainer), trainer.global_step
        steps = (batch_index + 1) % ours.settings.accumulate == 0 or batch_index + 1 == trainer.num_training_batches
        ours.record_next = self.share.leads and steps and trainer.global_step in self.moments
        ours.asks_stop = bool(self.interrupted) or self._over(ours)
        self.window_began = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count; write down every so many steps; stop where that was asked for."""
        ours = _ours(trainer)
        self.losses.append((outputs["task"], outputs["answered"]))
        self.training_seconds += time.monotonic() - self.window_began
        self.steps_read += ours.question.count(batch[0])
        stepped = trainer.global_step != self.step_before  # if not, the gradients are gathered for a later one
        self._plan_validation(trainer, stepped)
        if stepped:
            self.loss, self.losses = _mean(self.losses), []
            self._after_step(trainer, ours)

    def _plan_validation(self, trainer: pl.Trainer, stepped: bool) -> None:
        """Have Lightning, which counts batches, validate after whole steps: the last of an epoch may have fewer."""
        every = _ours(trainer).settings.valid_every
        if every:
            due = stepped and trainer.global_step % every == 0
            trainer.val_check_batch = 1 if due else NEVER

    def _after_step(self, trainer: pl.Trainer, ours: NetworkModule) -> None:
        assert ours.clip_record is not None
        self.tally.add(ours, ours.clip_record)
        step = trainer.global_step
        if step % self.every == 0:
            self._write_step(trainer, ours, ours.clip_record.norm)
        if ours.recording is not None:
            self._write_flow(trainer, ours, ours.recording)
        every = ours.settings.valid_every
        saves_soon = trainer.is_last_batch or (every and step % every == 0)
        if self.pace is not None:
            self.pace.tell(step, float(self.loss))
        asked = ours.stops if self.share.world > 1 else bool(self.interrupted) or self._over(ours)
        if asked and not saves_soon:
            self._save(trainer)
            raise Stopped(f"the time limit of {ours.settings.time_limit:g} minutes is over")

    def _over(self, ours: NetworkModule) -> bool:
        limit = 60 * ours.settings.time_limit
        return bool(limit) and self.clock.sitting > limit

    def _write_step(self, trainer: pl.Trainer, ours: NetworkModule, gradient_norm: float) -> None:
        norms = torch.stack([torch.linalg.vector_norm(p.detach()) for p in ours.parameters()])
        self._write(
            trainer,
            "step",
            epoch=self.epoch(trainer),
            loss=float(self.loss),
            gradient_norm=gradient_norm,
            parameter_norm=float(torch.linalg.vector_norm(norms)),
            learning_rate=ours.learning_rate,
            **self.tally.line(ours),
        )

    def _write(self, trainer: pl.Trainer, kind: str, **values: Any) -> None:
        """Write a line of the record, and give its numbers to the loggers."""
        if not self.share.leads:
            return
        self.record.append(kind, trainer.global_step, self.seconds, **values)
        numbers = dict(scalars(kind, values))
        for logger in trainer.loggers:
            logger.log_metrics(numbers, trainer.global_step)

    def _write_flow(self, trainer: pl.Trainer, ours: NetworkModule, recording: flow.Recording | None) -> None:
        """Measure the profile, and write it down with the gradient norms of the loss, if they were recorded."""
        if not self.share.leads:
            return
        step = trainer.global_step
        found = measure(ours.model, _data(trainer).probe(), probe_seed(ours.settings.seed, step))
        self.measured = step, found
        norms = {} if recording is None else {_part(name): _by_state(recording[name]) for name in recording}
        profiles = plain_profiles(found)
        self.record.append(
            "flow", step, self.seconds, epoch=self.epoch(trainer), profiles=profiles, loss_norms=norms
        )

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to sum."""
        self.sums = {}

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Add up what the metrics are made of."""
        add(self.sums, outputs)
        if self.pace is not None and self.sums:
            loss = float(self.sums["loss"]) / max(float(self.sums["count"]), 1.0)
            self.pace.tell(trainer.global_step, loss, "validating, ")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write down the loss and the reach, say them, and save."""
        ours, step = _ours(trainer), trainer.global_step
        self.sums = self.share.sums(self.sums)
        if not bool(torch.isfinite(self.sums["loss"])):
            raise NonFiniteError(f"non-finite numbers in the validation after training step {step}")
        metrics = ours.question.metrics(self.sums)
        if self.measured[0] != step:
            self._write_flow(trainer, ours, None)
        found = self.measured[1]
        speed = self.steps_read / self.training_seconds if self.training_seconds else math.nan
        values: dict[str, Any] = {
            **{name: metrics[name] for name in ("loss", "bits", "perplexity") if name in metrics},
            "metrics": metrics,
            "tokens_per_second": speed,
            "reach": {n: {"steps": p.reach, "censored": p.censored, "rate": p.rate} for n, p in found.items()},
        }
        self._write(trainer, "valid", epoch=self.epoch(trainer), **values)
        line, unit = ours.question.line(metrics), SHORT.get(ours.question.unit, "step")
        told = validation_line(values, line, unit, self.epoch(trainer) + 1, int(trainer.max_epochs or 1), step)
        self.say(told)
        if self.pace is not None:
            self.pace.said = time.monotonic()
        self.steps_read, self.training_seconds = 0, 0.0
        self.validated_at = step
        self.enough = ours.schedule.validated(metrics["loss"])
        if ours.settings.patience and ours.schedule.waited == 0 and self.share.leads:
            keep_best(self.record.folder, ours.model)
        if not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save between two epochs: Lightning cannot go on from a validation after the last window of one."""
        if self.epoch(trainer) < int(trainer.max_epochs or 1) - 1:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Validate what was trained since the last validation, and save."""
        if self.validated_at != trainer.global_step:
            validate_now(trainer)
        self.interrupted, self.enough = 0, False  # nothing is left to stop
        self._save(trainer)


def _mean(losses: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The mean over all values of means, each of so many."""
    if len(losses) == 1:
        return losses[0][0]
    means, counts = (torch.stack(one) for one in zip(*losses, strict=True))
    return (means * counts).sum() / counts.sum().clamp_min(1)


class Progress:
    """Says now and then how far a training is, for whoever reads it in a file or a pipe."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.said = say, time.monotonic()
        self.began, self.first, self.total = self.said, 0, 0

    def begin(self, step: int, total: int) -> None:
        """Count from this step on."""
        self.began, self.first, self.total = time.monotonic(), step, total

    def tell(self, step: int, loss: float, doing: str = "") -> None:
        """Say it, if nothing has been said for long enough."""
        now = time.monotonic()
        if now - self.said >= PATIENCE:
            self.said = now
            done = step - self.first
            left = (now - self.began) / done * max(0, self.total - step) if done else math.nan
            self.say(f"{doing}step {step:,} of {self.total:,}  loss {loss:.3f}  {time_text(left)} left")


def time_text(seconds: float) -> str:
    """Write a time to come, roughly.

    >>> time_text(12.3), time_text(200.0), time_text(8000.0), time_text(math.nan)
    ('about 12 s', 'about 3 min', 'about 2 h 13 min', 'an unknown time')
    """
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"about {minutes // 60} h {minutes % 60} min" if minutes >= 90 else f"about {minutes} min"


def validation_line(values: dict[str, Any], line: str, unit: str, epoch: int, epochs: int, step: int) -> str:
    """Say a validation in one line."""
    reach = ", ".join(f"{name} {reach_text(found)}" for name, found in values["reach"].items())
    return (
        f"epoch {epoch}/{epochs}  step {step:,}  {line}  {values['tokens_per_second']:,.0f} {unit}s/s  "
        f"reach {reach} steps"
    )


def reach_text(found: dict[str, Any]) -> str:
    """Write a reach, marked where the true one is longer than what was looked at."""
    return f"{'≥ ' if found['censored'] else ''}{found['steps']}"


def _ours(trainer: pl.Trainer) -> NetworkModule:
    assert isinstance(trainer.lightning_module, NetworkModule)
    return trainer.lightning_module


def _data(trainer: pl.Trainer) -> MaterialData:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, MaterialData)
    return data


def _part(name: str) -> str:
    return name.rpartition(".")[2]


def _by_state(track: flow.Track) -> dict[str, list[float]]:
    norms_TS = track.norms.cpu()
    return {name: norms_TS[:, index].tolist() for index, name in enumerate(track.states)}
