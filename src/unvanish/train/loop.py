"""Train with Lightning, to the end or to where somebody stops it."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl

from unvanish.errors import NonFiniteError
from unvanish.record import Clock
from unvanish.train.advice import say_advice
from unvanish.train.callback import Enough, RunKeeper, Stopped
from unvanish.train.checkpoint import SafeCheckpoints, best_weights
from unvanish.train.ending import write_calibration, write_sample, write_test
from unvanish.train.loggers import close_loggers, make_loggers
from unvanish.train.material import MaterialData
from unvanish.train.module import NetworkModule
from unvanish.train.needing import say_need, write_baselines, write_need
from unvanish.train.processes import others
from unvanish.train.session import Session
from unvanish.train.settings import PRECISIONS
from unvanish.train.sharing import strategy_of

VALIDATIONS = 25  # in a run of more epochs


def fit(session: Session, say: Callable[[str], None], progress: bool) -> tuple[int, str]:
    """Train, and return the number of the signal that stopped it, or 0, and why else it stopped, or nothing."""
    record = session.record
    clock = Clock(record.seconds)
    say_need(write_need(session, clock), session, say)
    write_baselines(session, clock)
    with others(record.folder, session.share):
        keeper, step, stopped = train_with(session, say, progress, clock)
    if stopped is not None:
        record.append("event", step, keeper.seconds, what="stopped", text=stopped or "interrupted and saved")
    else:
        best = best_weights(record.folder) if session.settings.patience else None
        if best is not None:
            session.module.model.load_state_dict(best)
        for write in (write_calibration, write_test, write_sample):
            write(session, step, keeper.seconds)
        if told := say_advice(session, step, keeper.seconds):
            say(told)
        why = "no better validation was to be hoped for" if keeper.enough else "all epochs done"
        record.append("event", step, keeper.seconds, what="finished", text=why)
    record.sync()
    return (0, "") if stopped is None else (keeper.interrupted, stopped)


def train_with(
    session: Session,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    clock: Clock | None = None,
) -> tuple[RunKeeper, int, str | None]:
    """Train, as one of the processes of a run; return its keeper, the step, and why it was stopped, if it was."""
    module, share = session.module, session.share
    module.share = share
    keeper = RunKeeper(
        session.record,
        session.checkpoints,
        say,
        fresh=session.state is None,
        tells=share.leads and not progress,
        share=share,
        clock=clock,
    )
    with quiet(), _stop_on_interrupt(keeper) if share.leads else contextlib.nullcontext():
        plugin = SafeCheckpoints(session.checkpoints, session.state)
        trainer = _trainer(session, keeper, plugin, progress)
        data = MaterialData(session.material, share, lambda: module.windows_done, lambda: trainer.current_epoch)
        if progress:
            keeper.say = trainer.progress_bar_callback.print  # type: ignore[union-attr]
        try:
            stopped = _run(trainer, module, data, keeper)
        finally:
            close_loggers(trainer.loggers)
            share.part()
    return keeper, trainer.global_step, stopped


def _run(trainer: pl.Trainer, module: NetworkModule, data: MaterialData, keeper: RunKeeper) -> str | None:
    """Train, and return why that was stopped before its end, empty for a signal; None where it was not."""
    # The plugin has the state itself, and the path only says that there is one.
    path = None if keeper.fresh else keeper.checkpoints.folder
    try:
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except Stopped as stopped:
        return stopped.why
    except Enough:
        return None
    except NonFiniteError as fault:
        if keeper.share.leads:
            keeper.record.append("event", trainer.global_step, keeper.seconds, what="non-finite", text=str(fault))
        raise
    except SystemExit:  # Lightning's answer to a second Ctrl-C
        raise KeyboardInterrupt from None
    return None


def _trainer(session: Session, keeper: RunKeeper, plugin: SafeCheckpoints, progress: bool) -> pl.Trainer:
    callbacks: list[pl.Callback] = [keeper]
    if progress:
        from lightning.pytorch.callbacks import RichProgressBar

        callbacks.append(RichProgressBar(refresh_rate=20))
    every: dict[str, Any] = {}
    if session.settings.valid_every:
        batches = session.settings.valid_every * session.settings.accumulate
        every = {"val_check_interval": batches, "check_val_every_n_epoch": None}
    elif session.settings.epochs > VALIDATIONS:
        every = {"check_val_every_n_epoch": -(-session.settings.epochs // VALIDATIONS)}
    step = 0 if session.state is None else int(session.state["global_step"])
    loggers = make_loggers(session.settings.logger, session.record, step) if session.share.leads else []
    return pl.Trainer(
        accelerator=session.accelerator,
        devices=session.share.world,
        strategy=strategy_of(session.share, session.settings, session.accelerator),
        use_distributed_sampler=False,
        max_epochs=session.settings.epochs,
        logger=loggers or False,
        precision=PRECISIONS[session.settings.precision],  # type: ignore[arg-type]
        accumulate_grad_batches=session.settings.accumulate,
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
def quiet() -> Iterator[None]:
    """Keep Lightning's advice on hardware and data loaders out of the run's own lines."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what is wrong is raised as well
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
