"""Start a run, resume it, stop it in good order."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import torch

from unvanish.cells import find
from unvanish.data.text import Corpus, Vocabulary, check_corpus, load_corpus
from unvanish.equations import Cell
from unvanish.errors import NonFiniteError, OptionError, RunError
from unvanish.nn import Recurrent
from unvanish.nn.named import class_name
from unvanish.record import RunRecord
from unvanish.train.callback import RunKeeper, Stopped
from unvanish.train.checkpoint import SafeCheckpoints, checkpoint_path, model_weights
from unvanish.train.model import CHARACTERS, TextModel, generate
from unvanish.train.module import TextModule
from unvanish.train.settings import TrainSettings
from unvanish.train.textdata import TextData

SAMPLE_PROMPT, SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 40, 400, 0.8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; `interrupted` is the number of the signal that stopped it, or 0."""

    folder: Path
    interrupted: int


def train(
    settings: TrainSettings,
    folder: Path,
    *,
    cell: Cell | None = None,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Outcome:
    """Train a network on text and keep the run in a new folder.

    `cell` may be one of your own; without it `settings.cell` names one of the catalogue. Raises what
    `unvanish.errors` lists; the folder then holds what was reached.
    """
    cell = find(settings.cell) if cell is None else cell
    _, accelerator = choose_device(settings.device)
    corpus = load_corpus(None if settings.source is None else Path(settings.source))
    check_corpus(corpus, settings.length, settings.batch_size)
    vocabulary = Vocabulary.of(corpus.train)
    torch.manual_seed(settings.seed)
    model = _build(cell, vocabulary, settings)
    module = TextModule(model, settings)
    config = _config(settings, folder, cell, corpus, vocabulary, model)
    record = RunRecord.create(folder, config)
    record.append("event", 0, 0.0, what="started", text=f"on {corpus.source}")
    return _fit(record, module, corpus, vocabulary, accelerator, say, progress, resumed=False)


def resume(
    folder: Path,
    *,
    epochs: int | None = None,
    lr: float | None = None,
    clip: str | None = None,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Outcome:
    """Go on with a run from its last checkpoint, to the numbers that it would have had without the break.

    `epochs`, `lr` and `clip` change the settings of the run from here on.
    """
    record = RunRecord.open(folder)
    config = record.config
    try:
        settings = TrainSettings.from_dict(config["settings"])
        cell = Cell.from_dict(config["cell"]["definition"])
        characters = config["data"][CHARACTERS]
        digest = config["data"]["digest"]
    except (KeyError, TypeError, AttributeError) as fault:
        raise RunError(f"{folder} cannot be resumed: its config.yaml is damaged ({fault}); restore it") from fault
    given: dict[str, Any] = {"epochs": epochs, "lr": lr, "clip": clip}
    changes = {name: value for name, value in given.items() if value is not None}
    changed = replace(settings, **changes)
    events = [line.get("what") for line in record.read("event")]
    if changed.epochs <= settings.epochs and events[-1:] == ["finished"]:
        raise OptionError(f"{folder} is finished: go on with --epochs {settings.epochs + 1} or more")
    settings = changed
    state = SafeCheckpoints().load_checkpoint(checkpoint_path(folder))
    _, accelerator = choose_device(settings.device)
    corpus = load_corpus(None if settings.source is None else Path(settings.source))
    vocabulary = Vocabulary.of(corpus.train)
    if vocabulary.characters != characters or _digest(corpus) != digest:
        raise RunError(f"{corpus.source} has changed since the run began: restore it, or start a new run")
    model = TextModel(cell, len(vocabulary), settings)
    try:
        model.load_state_dict(model_weights(state))
    except RuntimeError as fault:
        raise RunError(f"the checkpoint of {folder} does not fit its config.yaml: {fault}; restore it") from fault
    if changes:
        record.configure({**config, "settings": settings.to_dict()})
    step = int(state["global_step"])
    record.truncate(step)
    record.append("event", step, _seconds(record), what="resumed", text=f"from step {step}")
    module = TextModule(model, settings)
    return _fit(record, module, corpus, vocabulary, accelerator, say, progress, resumed=True)


def _build(cell: Cell, vocabulary: Vocabulary, settings: TrainSettings) -> TextModel:
    """Make the network and run it once: what cannot be made or run is refused before there is a folder."""
    try:
        model = TextModel(cell, len(vocabulary), settings)
    except (RuntimeError, MemoryError) as fault:  # torch's way to say that there is no room
        raise OptionError(f"no network of this size can be made: {fault}; lower --hidden or --layers") from fault
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, dtype=torch.long))
    return model.train()


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return the device and what Lightning calls it; `auto` takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise OptionError(f"--device {name} is not known: write auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device cuda: torch sees no GPU on this machine; use --device cpu")
    return torch.device(name), name


def _fit(
    record: RunRecord,
    module: TextModule,
    corpus: Corpus,
    vocabulary: Vocabulary,
    accelerator: str,
    say: Callable[[str], None],
    progress: bool,
    *,
    resumed: bool,
) -> Outcome:
    model, settings = module.model, module.settings
    keeper = RunKeeper(record, say, _seconds(record))
    data = TextData(corpus, vocabulary, settings, lambda: module.windows_done)
    with _quiet(), _stop_on_interrupt(keeper):
        trainer = _trainer(settings, keeper, accelerator, progress)
        if progress:
            keeper.say = trainer.progress_bar_callback.print  # type: ignore[union-attr]
        stopped = _run(trainer, module, data, keeper, resumed)
    step = trainer.global_step
    if stopped:
        record.append("event", step, keeper.seconds, what="stopped", text="interrupted and saved")
    else:
        prompt = corpus.valid[:SAMPLE_PROMPT]
        prompt = "".join(character for character in prompt if character in vocabulary.characters)
        text = generate(model.cpu(), vocabulary, prompt, SAMPLE_LENGTH, SAMPLE_TEMPERATURE, settings.seed)
        if not any(line["step"] == step for line in record.read("sample")):  # else killed just after it
            record.append("sample", step, keeper.seconds, prompt=prompt, text=text)
        record.append("event", step, keeper.seconds, what="finished", text="all epochs done")
    return Outcome(record.folder, keeper.interrupted if stopped else 0)


def _run(trainer: pl.Trainer, module: TextModule, data: TextData, keeper: RunKeeper, resumed: bool) -> bool:
    """Train, and return whether that was stopped before its end."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=keeper.path if resumed else None, weights_only=True)
    except Stopped:
        return True
    except NonFiniteError as fault:
        keeper.record.append("event", trainer.global_step, keeper.seconds, what="non-finite", text=str(fault))
        raise
    except SystemExit:  # Lightning's answer to a second Ctrl-C
        raise KeyboardInterrupt from None
    return False


def _trainer(settings: TrainSettings, keeper: RunKeeper, accelerator: str, progress: bool) -> pl.Trainer:
    callbacks: list[pl.Callback] = [keeper]
    if progress:
        from lightning.pytorch.callbacks import RichProgressBar

        callbacks.append(RichProgressBar(refresh_rate=20))
    every: dict[str, Any] = {}
    if settings.valid_every:
        every = {"val_check_interval": settings.valid_every, "check_val_every_n_epoch": None}
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=settings.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[SafeCheckpoints()],
        **every,
    )


def _config(
    settings: TrainSettings,
    folder: Path,
    cell: Cell,
    corpus: Corpus,
    vocabulary: Vocabulary,
    model: TextModel,
) -> dict[str, Any]:
    layer: Recurrent = model.recurrent
    return {
        "name": folder.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": settings.seed,
        "versions": {
            "unvanish": _version(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning": lightning.__version__,
            "platform": platform.platform(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(choose_device(settings.device)[0]),
        },
        # The run is resumed from wherever one stands.
        "settings": settings.to_dict() | {"source": settings.source and os.path.abspath(settings.source)},  # noqa: PTH100
        "cell": {
            "name": cell.name,
            "title": class_name(cell),
            "equations": cell.equations,
            "latex": list(cell.latex),
            "cite": cell.cite,
            "parameters": sum(p.numel() for p in layer.parameters()),
            "definition": cell.to_dict(),
        },
        "data": {
            "source": corpus.source,
            "train_characters": len(corpus.train),
            "valid_characters": len(corpus.valid),
            "vocabulary_size": len(vocabulary),
            "digest": _digest(corpus),
            CHARACTERS: vocabulary.characters,
        },
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _digest(corpus: Corpus) -> str:
    return corpus.digest()


def _version() -> str:
    from importlib.metadata import version

    return version("unvanish")


def _seconds(record: RunRecord) -> float:
    return max((float(line.get("seconds") or 0.0) for line in record.read()), default=0.0)


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
    try:
        for number in before:
            signal.signal(number, handle)
    except ValueError:  # not the main thread: signals belong to somebody else
        yield
        return
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


def default_folder(cell: str, root: Path = Path("runs")) -> Path:
    """Return a folder name that is free: the cell, the date and the time."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = root / f"{cell}-{stamp}"
    return folder if not folder.exists() else root / f"{cell}-{stamp}-{os.getpid()}"
