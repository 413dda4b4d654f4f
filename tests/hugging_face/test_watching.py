"""The callback tells in Hugging Face's Trainer what `watch` tells in a loop, and goes on from a checkpoint.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import unvanish
from unvanish.errors import FlowError
from unvanish.hugging_face import WatchGradient

T, I, H = 24, 2, 5
SOUND: dict[str, Any] = {"init": {"b_f": 4.0}}


class Reader(nn.Module):
    """A model as the Trainer wants it; a pass of training whose number is `nan_at`, from 0 on, gives NaN."""

    def __init__(self, layer: nn.Module, nan_at: int | None = None, fails_at: int | None = None) -> None:
        super().__init__()
        self.rnn, self.out = layer, nn.Linear(H, 1)
        self.nan_at, self.fails_at, self.passes = nan_at, fails_at, 0

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss and the answer."""
        if not self.training:
            assert "forward" not in vars(self.rnn)  # evaluation runs as it always does
            assert getattr(self.rnn, "watch", None) is None
        answer = self.out(self.rnn(x)[0][:, -1]).squeeze(-1)
        loss = (answer - labels).square().mean()
        if self.training:
            if self.passes == self.fails_at:
                raise ZeroDivisionError
            loss = loss * float("nan") if self.passes == self.nan_at else loss
            self.passes += 1
        return {"loss": loss, "answer": answer}


class ClipsLate(TrainerCallback):
    """Clips when the optimiser has stepped."""

    def on_optimizer_step(self, *_: Any, model: nn.Module, **more: Any) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)


@pytest.fixture(autouse=True)
def _no_profiler_left() -> Iterator[None]:
    yield
    assert sys.getprofile() is None


def data(count: int = 64) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [{"x": torch.rand(T, I, generator=generator), "labels": torch.tensor(1.0)} for _ in range(count)]


def trainer(folder: Path, model: nn.Module, *callbacks: TrainerCallback, steps: int = 6, **options: Any) -> Trainer:
    usual: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(str(folder), use_cpu=True, max_steps=steps, **{**usual, **options})
    return Trainer(model, arguments, train_dataset=data(), eval_dataset=data(4), callbacks=list(callbacks))


def layer(torchs: bool = False) -> nn.Module:
    return nn.GRU(I, H, batch_first=True) if torchs else unvanish.LSTM(I, H, batch_first=True, **SOUND)


def places(callback: WatchGradient) -> list[tuple[Any, ...]]:
    return [(a.kind, a.step, a.where, a.state, a.time_step) for a in callback.alerts]


def test_sound_training_tells_nothing_and_the_record_has_the_scalars(tmp_path: Path) -> None:
    callback = WatchGradient(need=T - 4, every=5)
    made = trainer(tmp_path, Reader(layer()), callback, steps=12, eval_strategy="steps", eval_steps=4)
    made.train()
    assert callback.alerts == []
    lines = [line for line in made.state.log_history if "gradient/rnn.l0/reach" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 5, 10]
    assert {f"gradient/rnn.l0/{name}" for name in ("reach", "left", "largest")} <= {*lines[0]}
    assert lines[0]["gradient/rnn.l0/reach"] == T - 1
    assert callback.state()["attributes"]["kept"]["step"] == 12


@pytest.mark.parametrize("torchs", [False, True], ids=["ours", "torch"])
def test_events_are_told_once_as_warnings(torchs: bool, tmp_path: Path) -> None:
    callback, model = WatchGradient(every=1), Reader(layer(torchs), nan_at=4)
    made = trainer(tmp_path, model, callback, steps=8, eval_strategy="steps", eval_steps=2)
    with pytest.warns(UserWarning, match=r"non-finite: step 5: .* rnn\.l0, time step 23"):
        made.train()
    assert places(callback) == [("non-finite", 5, "rnn.l0", "h", T - 1)]
    assert "forward" not in vars(model.rnn)


def test_a_step_is_one_of_the_optimiser(tmp_path: Path) -> None:
    callback, model = WatchGradient(every=1), Reader(layer(), nan_at=8)
    made = trainer(tmp_path, model, callback, steps=4, gradient_accumulation_steps=4)
    with pytest.warns(UserWarning, match="non-finite"):
        made.train()
    # Passes 8 to 11 are the third step; the first of them is recorded.
    assert [(alert.kind, alert.step) for alert in callback.alerts] == [("non-finite", 3)]
    assert callback.state()["attributes"]["kept"]["step"] == 4


def test_the_trainers_own_clip_is_sound_and_one_after_the_step_is_told(tmp_path: Path) -> None:
    sound = WatchGradient(every=1)
    trainer(tmp_path, Reader(layer()), sound, max_grad_norm=0.1).train()
    assert sound.alerts == []
    callback = WatchGradient(every=1)
    with pytest.warns(UserWarning, match="idle clip"):
        trainer(tmp_path, Reader(layer()), callback, ClipsLate(), max_grad_norm=0.0).train()
    assert [alert.kind for alert in callback.alerts] == ["idle clip"]


class Heard(TrainerCallback):
    """What a tracker gets."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, *_: Any, logs: dict[str, float], **more: Any) -> None:
        self.logs.append(dict(logs))


def test_the_trainers_log_hands_the_scalars_on_and_still_logs_the_loss(tmp_path: Path) -> None:
    heard = Heard()
    made = trainer(tmp_path, Reader(layer()), heard, steps=4, logging_strategy="steps", logging_steps=2)
    made.add_callback(WatchGradient(every=2, log=made.log))
    made.train()
    assert sum("gradient/rnn.l0/reach" in line for line in heard.logs) == 4
    assert sum("loss" in line for line in heard.logs) == 2


@pytest.mark.parametrize("restored", [False, True], ids=["by itself", "by the Trainer"])
def test_checkpoint_goes_on_where_it_was(restored: bool, tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "restore_callback_states_from_checkpoint": restored}
    torch.manual_seed(0)
    trainer(tmp_path, Reader(layer()), WatchGradient(need=T, every=1), steps=2, **options).train()
    torch.manual_seed(0)
    made = trainer(tmp_path, Reader(layer()), WatchGradient(need=T, every=1), steps=5, **options)
    with pytest.warns(UserWarning, match="vanishing: step 3"):  # the third sample in a row
        made.train(resume_from_checkpoint=True)
    (callback,) = [one for one in made.callback_handler.callbacks if isinstance(one, WatchGradient)]
    assert [(alert.kind, alert.step) for alert in callback.alerts] == [("vanishing", 3)]
    assert callback.state()["attributes"]["kept"]["step"] == 5


def test_checkpoint_without_the_callback_is_gone_on_with(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, Reader(layer()), steps=2, **options).train()
    callback = WatchGradient(every=1)
    trainer(tmp_path, Reader(layer()), callback, steps=4, **options).train(resume_from_checkpoint=True)
    assert callback.state()["attributes"]["kept"]["step"] == 2


def test_a_training_that_begins_anew_counts_anew(tmp_path: Path) -> None:
    callback = WatchGradient(every=1)
    made = trainer(tmp_path, Reader(layer()), callback, steps=2)
    made.train()
    made.train()
    assert callback.state()["attributes"]["kept"]["step"] == 2


def test_close_leaves_nothing_behind_after_an_exception(tmp_path: Path) -> None:
    callback, model = WatchGradient(every=1), Reader(layer(torchs=True), fails_at=1)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, model, callback).train()
    callback.close()
    assert "forward" not in vars(model.rnn)


def test_model_without_a_recurrence_is_refused(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(I, 1)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.out(x[:, -1]).squeeze(-1) - labels).square().mean()}

    with pytest.raises(FlowError):
        trainer(tmp_path, Plain(), WatchGradient()).train()


def test_without_transformers_the_line_to_install_it_is_told() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import unvanish\n"
        "try: unvanish.hugging_face\n"
        "except unvanish.errors.MissingExtraError as fault: print(fault)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install transformers" in done.stdout
