"""The Lightning module: truncated backpropagation through time with the states carried from window to window.

Shapes: T time, B batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from unvanish import flow
from unvanish.errors import NonFiniteError
from unvanish.nn import States
from unvanish.remedies.clip import ClipRecord, PerStep, parse
from unvanish.remedies.clip.gradients import collect, tensor_norms, together
from unvanish.remedies.pace import Pace
from unvanish.train.guard import FINITE, explain
from unvanish.train.model import Network, detached
from unvanish.train.pacing import paced
from unvanish.train.penalties import Penalties
from unvanish.train.questions import Question, Sums
from unvanish.train.schedule import Schedule
from unvanish.train.settings import OPTIMIZERS, TrainSettings
from unvanish.train.sharing import Share

OURS = "unvanish"  # the part of a training state that is ours, not Lightning's
SEEDS_APART = 1_000_003  # of the random numbers of two processes
_KEPT = "the last good checkpoint is kept: go on from it with --resume and a lower --lr, or a harder --clip"


def make_optimizer(settings: TrainSettings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name."""
    # A configuration may say a whole number, of which torch's optimisers take none that is too large.
    extra = {"weight_decay": float(settings.weight_decay)} if settings.weight_decay else {}
    return OPTIMIZERS[settings.optimizer](parameters, lr=float(settings.lr), **extra)


class NetworkModule(pl.LightningModule):
    """Trains a network to answer a question, batch by batch.

    The carried states, the window within the epoch and the state of the random generator are part of every
    checkpoint: a resumed run goes on with the numbers that it would have had. So are the counts and statistics of
    the clip, of the penalties and of the schedule of the learning rate.

    Raises:
        OptionError: a penalty cannot go with this network.
    """

    def __init__(self, model: Network, question: Question, settings: TrainSettings) -> None:
        super().__init__()
        self.share, self.asks_stop, self.stops = Share(), False, False
        self.model, self.question, self.settings = model, question, settings
        self.schedule = Schedule(settings)
        self.clip = parse(settings.clip)
        if isinstance(self.clip, PerStep):
            self.clip.attach(model)
        self.penalties = Penalties(settings.penalty, model)
        self.clip_record: ClipRecord | None = None
        self.pace: Pace | None = None
        self.states: States | None = None
        self.valid_states: States | None = None
        self.windows_done = 0
        self.random_states: dict[str, Any] = {}
        self.kept_pace: dict[str, Any] | None = None
        self.lengths: list[int] = []  # of the windows of a step
        self.record_next = False
        self.recording: flow.Recording | None = None
        self.gathered: list[Tensor] = []  # how much each batch of the present step counts

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser by its name, with update rates of their own where those are asked for."""
        optimizer = make_optimizer(self.settings, self.parameters())
        self.pace = paced(self.model, optimizer, self.settings)
        return optimizer

    def on_train_start(self) -> None:
        """Know how many steps there will be, and go on with the update rates."""
        self.schedule.total = self.steps_per_epoch * int(self.trainer.max_epochs or 1)
        if self.pace is not None and self.kept_pace is not None:
            self.pace.load_state_dict(self.kept_pace)
            self.kept_pace = None

    def on_fit_start(self) -> None:
        """Go on with the random numbers where the checkpoint was made; each process has its own."""
        if self.share.rank:
            others = self.random_states.get("others", [])
            if len(others) == self.share.world - 1:
                torch.set_rng_state(others[self.share.rank - 1])
            else:
                torch.manual_seed(self.settings.seed + self.share.rank * SEEDS_APART)
        elif "cpu" in self.random_states:
            torch.set_rng_state(self.random_states["cpu"])
        if "cuda" in self.random_states and self.device.type == "cuda":
            torch.cuda.set_rng_state(self.random_states["cuda"], self.device)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Set the learning rate of the coming step."""
        self.learning_rate = self.schedule.rate(self.trainer.global_step)
        if self.settings.random_windows:
            # A short window has fewer losses, and gets a smaller step (Merity et al. 2018).
            self.lengths = [*(self.lengths if batch_index % self.settings.accumulate else ()), len(batch[0])]
            self.learning_rate *= sum(self.lengths) / len(self.lengths) / self.settings.length
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate

    @property
    def steps_per_epoch(self) -> int:
        """How many steps of the optimiser an epoch has."""
        return -(-int(self.trainer.num_training_batches) // self.settings.accumulate)

    def on_train_epoch_start(self) -> None:
        """Every epoch begins at the head of the streams, with zero states, except one resumed midway."""
        if self.windows_done == 0:
            self.states = None

    def training_step(self, batch: tuple[Any, Any], batch_index: int) -> dict[str, Tensor]:
        """Run one batch; return what is trained on, and the task's own loss, without penalties."""
        x, y = batch
        before = self.states
        self.began_with = (x, y, before, torch.get_rng_state())
        self.recording = None
        with contextlib.ExitStack() as stack:
            if self.record_next:
                self.recording = stack.enter_context(flow.record(self.model))
            answer, states, every = self.model.run(x, before, all_states=self.penalties.needs_states)
        self.record_next = False
        loss, task, answered = self._loss(answer, y)
        if not bool(torch.isfinite(task)):
            self._stop_non_finite(f"at training step {self.trainer.global_step + 1}")
        self.states = detached(states) if self.question.carries else None
        self.windows_done += 1
        terms = self.penalties.terms(x, before, every)
        self._check_terms(terms)
        loss = loss + sum(terms.values())
        return {"loss": self._weighted(loss, answered), "task": task, "answered": answered}

    def _weighted(self, loss: Tensor, answered: Tensor) -> Tensor:
        """Let each of the batches of a step count by the values that it answers for, as in one large batch.

        How many these are in all is known with the last of them: the gradient is divided by it then.
        """
        if self.settings.accumulate == 1:
            return loss
        self.gathered.append(answered)
        return loss * (answered / self.gathered[0].clamp_min(1)).to(loss.dtype)

    @torch.no_grad()
    def _divide(self) -> None:
        """Make the gradient that of the mean over all batches of a step; Lightning divides by their number."""
        weights, self.gathered = self.gathered, []
        if not weights:
            return
        whole = float(torch.stack(weights).sum() / weights[0].clamp_min(1))
        factor = self.settings.accumulate / whole if whole else 1.0
        if factor != 1:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad *= factor

    def _loss(self, answer: Any, y: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return what this process trains on, the loss of the batch, and of how many values that is the mean.

        Lightning takes the mean of the gradients of all processes, so the loss of each counts by its share of the
        values that are answered for.
        """
        if self.share.world == 1:
            loss = self.question.loss(self.model, answer, y)
            return loss, loss.detach(), self.question.answered(y)
        if y is None:  # none of the rows is here
            loss = 0.0 * answer.sum()
            answered = torch.zeros((), device=self.device)
        else:
            loss, answered = self.question.loss(self.model, answer, y), self.question.answered(y)
        asks = torch.tensor(float(self.asks_stop), device=self.device)
        found = self.share.total(
            torch.stack([(loss * answered).detach().double(), answered.double(), asks.double()])
        )
        self.stops = bool(found[2])
        count = found[1].clamp_min(1)
        own = loss * (answered * self.share.world / count).to(loss.dtype)
        return own, (found[0] / count).to(loss.dtype), found[1]

    def _check_terms(self, terms: Mapping[str, Tensor]) -> None:
        for word, term in terms.items():
            if not bool(torch.isfinite(term)):
                moment = f"at training step {self.trainer.global_step + 1}"
                value = float(term.detach())
                raise NonFiniteError(f"non-finite numbers {moment}: the penalty {word} is {value}; {_KEPT}")

    def _stop_non_finite(self, moment: str) -> NoReturn:
        """Stop with the place where the numbers of the present window stopped being finite."""
        x, y, states, random_state = self.began_with
        if self.share.world > 1:  # going through it again would wait for the others
            raise NonFiniteError(f"non-finite numbers {moment}, in one of {self.share.world} processes; {_KEPT}")
        torch.set_rng_state(random_state)  # the same dropout again
        place = explain(self.model, self.question, x, y, states)
        if self.penalties.made and place.endswith(FINITE):
            words = ", ".join(self.penalties.made)
            place = f"the loss and its gradient are finite, so it is the gradient of a penalty that is not: {words}"
        raise NonFiniteError(f"non-finite numbers {moment}: {place}; {_KEPT}")

    def refuse_non_finite(self) -> None:
        """Raise `NonFiniteError` where the weights are not worth saving: saturated units hide it from the loss."""
        for name, parameter in self.model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                moment = f"after training step {self.trainer.global_step}"
                raise NonFiniteError(
                    f"non-finite numbers {moment}: the first parameter that holds one is {name}; {_KEPT}"
                )

    def on_train_epoch_end(self) -> None:
        """Begin the next epoch at its first window."""
        self.windows_done = 0

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Let penalties that look at the backward pass add their gradient, then clip; keep what was done."""
        self._divide()
        self.penalties.after_backward()
        self.clip_record = self._measured() if self.clip is None else self.clip(self.model)
        if self.clip_record.nonfinite and not self._scaled():
            self._stop_non_finite(f"at training step {self.trainer.global_step + 1}")

    def _scaled(self) -> bool:
        """Whether the loss was scaled up: gradients that are not finite then lower the scale."""
        scaler = self.trainer.scaler
        return scaler is not None and float(scaler.get_scale()) > 1

    def _measured(self) -> ClipRecord:
        """Measure the gradient where nothing clips it."""
        norm = together(tensor_norms(collect(self.model).tensors))
        return ClipRecord(norm, math.inf, factor=1.0, acted=False, nonfinite=not math.isfinite(norm))

    def on_validation_epoch_start(self) -> None:
        """Validation reads its own streams from their heads."""
        self.valid_states = None

    def validation_step(self, batch: tuple[Any, Any], batch_index: int) -> Sums:
        """Return the sums over a batch that the question's metrics are made of."""
        x, y = batch
        self.began_with = (x, y, self.valid_states, torch.get_rng_state())
        if y is None:
            return {}
        answer, states = self.model(x, self.valid_states)
        self.valid_states = states if self.question.carries else None
        sums = self.question.judge(self.model, answer, y)
        if self.share.world == 1 and not bool(torch.isfinite(sums["loss"])):
            self._stop_non_finite(f"in the validation after training step {self.trainer.global_step}")
        return sums

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs to go on with the same numbers."""
        checkpoint["loops"] = {"fit_loop": checkpoint["loops"]["fit_loop"]}  # nothing else is gone on with
        states = () if self.states is None else self.states
        plain = [states] if isinstance(states, Tensor) else list(states)
        random_states = self.share.all(torch.get_rng_state())
        checkpoint[OURS] = {
            "states": self.share.joined(self.model.recurrent, plain),
            "windows_done": self.windows_done % int(self.trainer.num_training_batches),
            "random_states": {"cpu": random_states[0], "others": random_states[1:]},
            "clip": None if self.clip is None else {"word": self.settings.clip, **self.clip.state_dict()},
            "penalties": self.penalties.state_dict(),
            "schedule": self.schedule.state_dict(),
            "pace": None if self.pace is None else self.pace.state_dict(),
        }
        if self.device.type == "cuda":
            checkpoint[OURS]["random_states"]["cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` added."""
        ours = checkpoint[OURS]
        own = self.share.own(self.model.recurrent, ours["states"])
        states = tuple(state.to(self.device) for state in own)
        self.states = None if not states else states[0] if len(states) == 1 else states
        self.windows_done, self.random_states = ours["windows_done"], ours["random_states"]
        clip = ours.get("clip")  # older checkpoints have none, nor penalties
        if self.clip is not None and clip is not None and clip["word"] == self.settings.clip:
            self.clip.load_state_dict(clip)
        self.penalties.load_state_dict(ours.get("penalties", {}))
        self.schedule.load_state_dict(ours.get("schedule", {}))
        self.kept_pace = ours.get("pace")
