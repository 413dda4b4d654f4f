"""The callback tells in a Trainer what `watch` tells in a loop, and goes on from a checkpoint.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

import unvanish
from unvanish.train.watching import WatchGradient

T, B, I, H = 24, 3, 2, 5
SOUND: dict[str, Any] = {"init": {"b_f": 4.0}}


class Module(pl.LightningModule):
    """Its training step calls the layer, never the module itself; faults are planted by batch."""

    def __init__(self, layer: nn.Module, nan_at: int | None = None, fails_at: int | None = None) -> None:
        super().__init__()
        self.rnn, self.out = layer, nn.Linear(H, 1)
        self.nan_at, self.fails_at = nan_at, fails_at

    def training_step(self, x_TBI: Tensor, batch_index: int) -> Tensor:
        value = (self.out(self.rnn(x_TBI)[0][-1]) - 1).square().mean()
        if batch_index == self.fails_at:
            raise ZeroDivisionError
        return value * float("nan") if batch_index == self.nan_at else value

    def validation_step(self, x_TBI: Tensor, batch_index: int) -> None:
        assert "forward" not in vars(self.rnn)  # evaluation runs as it always does
        assert getattr(self.rnn, "watch", None) is None
        self.rnn(x_TBI)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


class ClippedLate(Module):
    """Clips by hand when the optimiser has stepped."""

    def on_train_batch_end(self, *_: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)


@pytest.fixture(autouse=True)
def _lightnings_own_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for text in ("many workers", "no `val_dataloader`", "LeafSpec", "logging interval", "is not resumable"):
            warnings.filterwarnings("ignore", message=f".*{text}")
        yield


def trainer(folder: Path, callback: WatchGradient, steps: int, **options: Any) -> pl.Trainer:
    options = {"logger": False, "limit_val_batches": 0, "enable_checkpointing": False, **options}
    return pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[callback],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def loader(count: int) -> DataLoader[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return DataLoader([torch.rand(T, B, I, generator=generator) for _ in range(count)], batch_size=None)


def fit(folder: Path, module: pl.LightningModule, callback: WatchGradient, steps: int = 6, **options: Any) -> None:
    path = options.pop("ckpt_path", None)
    trainer(folder, callback, steps, **options).fit(module, loader(40), loader(2), ckpt_path=path)


def places(callback: WatchGradient) -> list[tuple[Any, ...]]:
    return [(a.kind, a.step, a.where, a.state, a.time_step) for a in callback.alerts]


def test_sound_training_tells_nothing(tmp_path: Path) -> None:
    callback = WatchGradient(need=T - 4, every=1)
    options = {"gradient_clip_val": 1.0, "limit_val_batches": 2, "val_check_interval": 3}
    fit(tmp_path, Module(unvanish.LSTM(I, H, **SOUND)), callback, 30, **options)
    assert callback.alerts == []
    assert callback.state_dict()["step"] == 30
    assert sys.getprofile() is None


@pytest.mark.parametrize(
    "make", [lambda: unvanish.LSTM(I, H, **SOUND), lambda: nn.GRU(I, H)], ids=["ours", "torch"]
)
def test_events_are_told_once_as_warnings(tmp_path: Path, make: Any) -> None:
    callback, module = WatchGradient(every=1), Module(make(), nan_at=4)
    with pytest.warns(UserWarning, match=r"non-finite: step 5: .* rnn\.l0, time step 23"):
        fit(tmp_path, module, callback, 8, limit_val_batches=2, val_check_interval=2)
    assert places(callback) == [("non-finite", 5, "rnn.l0", "h", T - 1)]
    assert "forward" not in vars(module.rnn)


def test_clip_after_the_step_is_told(tmp_path: Path) -> None:
    callback = WatchGradient(every=1)
    with pytest.warns(UserWarning, match="idle clip"):
        fit(tmp_path, ClippedLate(unvanish.LSTM(I, H, **SOUND)), callback)
    assert [(alert.kind, alert.step) for alert in callback.alerts] == [("idle clip", 2)]


def test_a_step_is_one_of_the_optimiser(tmp_path: Path) -> None:
    callback, module = WatchGradient(every=1), Module(unvanish.LSTM(I, H, **SOUND), nan_at=8)
    # Validation comes between the batches of a step, too.
    options = {"accumulate_grad_batches": 4, "limit_val_batches": 1, "val_check_interval": 1}
    with pytest.warns(UserWarning, match="non-finite"):
        fit(tmp_path, module, callback, 4, **options)
    # Batches 8 to 11 are the third step; the first of them is recorded.
    assert [(alert.kind, alert.step) for alert in callback.alerts] == [("non-finite", 3)]
    assert callback.state_dict()["step"] == 4


def test_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    class Held(WatchGradient):
        def on_train_start(self, *arguments: Any) -> None:
            super().on_train_start(*arguments)
            self.held = self._watcher  # what is collected as garbage cleans up by itself

    callback, module = Held(every=1), Module(nn.LSTM(I, H), fails_at=1)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, module, callback)
    assert "forward" not in vars(module.rnn)
    assert sys.getprofile() is None


def test_loggers_get_the_scalars(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="", flush_logs_every_n_steps=1)
    fit(tmp_path, Module(unvanish.LSTM(I, H, **SOUND)), WatchGradient(every=5), 12, logger=logger)
    logger.finalize("success")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    columns, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
    assert {f"gradient/rnn.l0/{name}" for name in ("reach", "left", "largest")} <= set(columns)
    assert [row[columns.index("step")] for row in rows] == ["1", "2", "3", "5", "10"]
    assert all(row[columns.index("gradient/rnn.l0/reach")] == str(float(T - 1)) for row in rows)


def test_checkpoint_goes_on_where_it_was(tmp_path: Path) -> None:
    def module() -> Module:
        torch.manual_seed(0)
        return Module(unvanish.LSTM(I, H, **SOUND))

    first = WatchGradient(need=T, every=1)
    whole = trainer(tmp_path, first, 2)
    whole.fit(module(), loader(4))
    whole.save_checkpoint(tmp_path / "two.ckpt")
    second = WatchGradient(need=T, every=1)
    with pytest.warns(UserWarning, match="vanishing: step 3"):  # the third sample in a row
        fit(tmp_path, module(), second, 5, ckpt_path=tmp_path / "two.ckpt")
    assert [(alert.kind, alert.step) for alert in second.alerts] == [("vanishing", 3)]
    assert second.state_dict()["step"] == 5


def test_step_that_a_scaler_leaves_out_is_no_event(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    callback, module = WatchGradient(every=1), Module(unvanish.LSTM(I, H, **SOUND), nan_at=2)
    fit(tmp_path, module, callback, 5, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() == 2.0
    assert callback.alerts == []
