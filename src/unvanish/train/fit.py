"""Train with Lightning, to the end or to where somebody stops it."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl

from unvanish.data.dependency import dependency
from unvanish.errors import NonFiniteError, UnvanishError
from unvanish.train.callback import RunKeeper, Stopped
from unvanish.train.checkpoint import SafeCheckpoints
from unvanish.train.model import generate
from unvanish.train.module import TextModule
from unvanish.train.session import Session
from unvanish.train.textdata import TextData

SAMPLE_PROMPT, SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 40, 400, 0.8
NEED_FROM = 50_000  # characters: some seconds


def fit(session: Session, say: Callable[[str], None], progress: bool) -> int:
    """Train, and return the number of the signal that stopped it, or 0."""
    record, module = session.record, session.module
    keeper = RunKeeper(record, session.checkpoints, say, fresh=session.state is None, tells=not progress)
    data = TextData(session.corpus, session.vocabulary, session.settings, lambda: module.windows_done)
    with _quiet(), _stop_on_interrupt(keeper):
        plugin = SafeCheckpoints(session.checkpoints, session.state)
        trainer = _trainer(session, keeper, plugin, progress)
        if progress:
            keeper.say = trainer.progress_bar_callback.print  # type: ignore[union-attr]
        stopped = _run(trainer, module, data, keeper)
    step = trainer.global_step
    if stopped:
        record.append("event", step, keeper.seconds, what="stopped", text="interrupted and saved")
    else:
        _write_need(session, step, keeper.seconds)
        _write_sample(session, step, keeper.seconds)
        record.append("event", step, keeper.seconds, what="finished", text="all epochs done")
    record.sync()
    return keeper.interrupted if stopped else 0


def _write_need(session: Session, step: int, seconds: float) -> None:
    """Measure once how much context the beginning of the text needs."""
    if any(session.record.read("need")):
        return
    codes = session.vocabulary.encode(session.corpus.train[:NEED_FROM]).numpy()
    try:
        found = dependency(codes, kind="symbols")
    except UnvanishError:  # too short, or of one character only
        return
    line = {"lag": found.needed, "censored": found.censored, "of": len(codes), "note": found.note}
    session.record.append("need", step, seconds, **line)


def _write_sample(session: Session, step: int, seconds: float) -> None:
    """Let the network write, unless it was killed just after it had."""
    if any(line["step"] == step for line in session.record.read("sample")):
        return
    known = session.vocabulary.characters
    prompt = "".join(character for character in session.corpus.valid[:SAMPLE_PROMPT] if character in known)
    model = session.module.model.cpu()
    text = generate(model, session.vocabulary, prompt, SAMPLE_LENGTH, SAMPLE_TEMPERATURE, session.settings.seed)
    session.record.append("sample", step, seconds, prompt=prompt, text=text)


def _run(trainer: pl.Trainer, module: TextModule, data: TextData, keeper: RunKeeper) -> bool:
    """Train, and return whether that was stopped before its end."""
    # The plugin has the state itself, and the path only says that there is one.
    path = None if keeper.fresh else keeper.checkpoints.folder
    try:
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except Stopped:
        return True
    except NonFiniteError as fault:
        keeper.record.append("event", trainer.global_step, keeper.seconds, what="non-finite", text=str(fault))
        raise
    except SystemExit:  # Lightning's answer to a second Ctrl-C
        raise KeyboardInterrupt from None
    return False


def _trainer(session: Session, keeper: RunKeeper, plugin: SafeCheckpoints, progress: bool) -> pl.Trainer:
    callbacks: list[pl.Callback] = [keeper]
    if progress:
        from lightning.pytorch.callbacks import RichProgressBar

        callbacks.append(RichProgressBar(refresh_rate=20))
    every: dict[str, Any] = {}
    if session.settings.valid_every:
        every = {"val_check_interval": session.settings.valid_every, "check_val_every_n_epoch": None}
    return pl.Trainer(
        accelerator=session.accelerator,
        devices=1,
        max_epochs=session.settings.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[plugin],
        **every,
    )


@contextlib.contextmanager
def _stop_on_interrupt(keeper: RunKeeper) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the run after the present step; a second Ctrl-C ends it at once."""

    def handle(number: int, frame: Any) -> None:
        keeper.interrupted = number
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in [number for number, handler in before.items() if handler is signal.SIG_IGN]:
        del before[number]  # whoever started us does not want us to hear it

    def hear() -> None:
        for number in before:
            signal.signal(number, handle)

    try:
        hear()
    except ValueError:  # not the main thread: signals belong to somebody else
        yield
        return
    keeper.hear = hear
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice on hardware and data loaders out of the run's own lines."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
