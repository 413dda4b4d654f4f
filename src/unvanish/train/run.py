"""Start a run or resume it: everything is checked before anything is written."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unvanish.cells import find
from unvanish.data.sequences import Sequences
from unvanish.equations import Cell
from unvanish.errors import OptionError, RunError
from unvanish.record import Claim, RunRecord, remove_leftovers
from unvanish.record.run import HERE, check_free
from unvanish.train.checkpoint import Checkpoints, model_weights
from unvanish.train.finding import HIGHEST, LOWEST, TRIED, find_rate
from unvanish.train.load import Kept
from unvanish.train.loggers import check_loggers
from unvanish.train.loop import fit, quiet
from unvanish.train.model import fitting_memory, on
from unvanish.train.module import OURS, NetworkModule, make_optimizer
from unvanish.train.pacing import paced
from unvanish.train.processes import free_port
from unvanish.train.questions import Material, Question, read_material
from unvanish.train.questions.symbols import TextMaterial
from unvanish.train.session import Session, choose_device, configuration
from unvanish.train.settings import TrainSettings
from unvanish.train.sharing import ALONE, Share, check_shared
from unvanish.train.state import read_state

RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; `interrupted` is the number of the signal that stopped it, or 0.

    `stopped` says why else it stopped before its end, empty where it did not.
    """

    folder: Path
    interrupted: int
    stopped: str = ""


@dataclass(frozen=True)
class Training:
    """A run that has been checked and whose folder is held; `run` trains and gives the folder back."""

    session: Session
    claim: Claim

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.session.record.folder

    def run(self, say: Callable[[str], None] = print, *, progress: bool = False) -> Outcome:
        """Train. Raises what `unvanish.errors` lists; the folder then holds what was reached."""
        with self.claim:
            for line in self._start():
                say(line)
            return Outcome(self.folder, *fit(self.session, say, progress))

    def _start(self) -> list[str]:
        """Say what is trained on what, and where it is kept."""
        module, material, settings = self.session.module, self.session.material, self.session.settings
        batches = -(-len(material.train()) // settings.accumulate)
        size = sum(p.numel() for p in module.model.parameters())
        epochs = "1 epoch" if settings.epochs == 1 else f"{settings.epochs:,} epochs"
        return [
            f"data     {material.describe()}",
            *(f"         {line}" for line in material.told),
            f"network  {module.model.recurrent.cell.name}, {settings.layers} × {settings.hidden:,} units, {size:,} "
            f"parameters, on {self.session.accelerator} ({_workers(settings)})",
            f"run      {self.folder}: {epochs} of {batches:,} {'step' if batches == 1 else 'steps'}",
        ]


def train(
    settings: TrainSettings,
    folder: Path | None = None,
    *,
    cell: Cell | None = None,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Outcome:
    """Train a network on data and keep the run in a new folder: runs/CELL-DATE-TIME unless one is named.

    `cell` may be one of your own; without it `settings.cell` names one of the catalogue. Raises what
    `unvanish.errors` lists; the folder then holds what was reached.
    """
    return prepare(settings, folder, cell=cell, say=say).run(say, progress=progress)


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
    return prepare_resume(folder, epochs=epochs, lr=lr, clip=clip, say=say).run(say, progress=progress)


def prepare(
    settings: TrainSettings,
    folder: Path | None = None,
    *,
    cell: Cell | None = None,
    say: Callable[[str], None] = print,
    given: Sequences | None = None,
    lr_find: bool = False,
    digest: str = "",
) -> Training:
    """Check what a run is asked for, and claim its folder; nothing is written where it is refused.

    `lr_find` looks for a learning rate first. Where the data are not those of `digest` that is said.

    Raises:
        OptionError: the settings do not go together, or with the cell.
        DataError: the data cannot be trained on.
        RunError: the folder is not empty, or another process trains there.
    """
    cell = find(settings.cell) if cell is None else cell
    check_shared(settings, given is not None)
    check_loggers(settings.logger)
    accelerator = _accelerator(settings)
    material = read_material(settings, say=say, given=given)
    if digest and material.digest != digest:
        say(f"{material.source} is not what the run of --config was trained on: expect other numbers")
    module = _fresh(cell, material.question, material.settings)
    if lr_find:
        module = _with_found_rate(module, material, accelerator, say)
    claim, folder = _claim(folder, cell.name)
    try:
        files = material.question.files()
        record = RunRecord.create(folder, configuration(folder, module, material), files)
        record.append("event", 0, 0.0, what="started", text=f"on {material.source}")
    except BaseException:
        claim.release()
        raise
    return Training(
        Session(record, Checkpoints(folder), module, material, accelerator, share=_share(settings)), claim
    )


def prepare_resume(
    folder: Path,
    *,
    epochs: int | None = None,
    lr: float | None = None,
    clip: str | None = None,
    say: Callable[[str], None] = print,
    given: Sequences | None = None,
) -> Training:
    """Check whether a run can go on, and claim its folder; nothing is written where it is refused.

    Raises:
        RunError: the folder is not a run, is damaged or in use, or its data have changed.
        OptionError: a changed setting is invalid, or the run has already finished.
    """
    record = RunRecord.open(folder)
    claim = Claim(folder)
    try:
        changes = {"epochs": epochs, "lr": lr, "clip": clip}
        session = _resumed(record, {n: value for n, value in changes.items() if value is not None}, say, given)
    except BaseException:
        claim.release()
        raise
    return Training(session, claim)


def _resumed(
    record: RunRecord, changes: dict[str, Any], say: Callable[[str], None], given: Sequences | None
) -> Session:
    folder, kept = record.folder, Kept.read(record)
    settings = dataclasses.replace(kept.settings, **changes)
    if settings.epochs <= kept.settings.epochs and record.finished:
        raise OptionError(f"{folder} is finished: go on with --epochs {kept.settings.epochs + 1} or more")
    check_shared(settings, given is not None)
    accelerator = _accelerator(settings)
    material = read_material(settings, kept.question, given=given)
    if material.digest != kept.config.data.digest or _other_symbols(material):
        raise RunError(f"{material.source} has changed since the run began: restore it, or start a new run")
    checkpoints = Checkpoints(folder)
    module, state = _at_hand(record, checkpoints, kept, material, say)
    if state is not None:
        _check_epochs(folder, changes, state)
    checkpoints.clean()
    remove_leftovers(folder, *HERE)
    if changes:
        record.configure({**record.config, "settings": settings.to_dict()})
    _mark_resumed(record, state, say)
    return Session(record, checkpoints, module, material, accelerator, state, _share(settings))


def joining(folder: Path) -> Session:
    """Make another session of a run that is being trained, which reads its folder and changes nothing there."""
    record = RunRecord.open(folder)
    kept, checkpoints = Kept.read(record), Checkpoints(folder)
    accelerator = _accelerator(kept.settings)
    material = read_material(kept.settings, kept.question)
    module, state = _at_hand(record, checkpoints, kept, material, lambda _: None)
    return Session(record, checkpoints, module, material, accelerator, state)


def _accelerator(settings: TrainSettings) -> str:
    _, accelerator = choose_device(settings.device)
    if accelerator == "cpu" and settings.precision == "16":
        raise OptionError("--precision 16 needs a GPU, and this training is to run on a CPU: use bf16")
    return accelerator


def _share(settings: TrainSettings) -> Share:
    return Share(0, settings.devices, free_port()) if settings.devices > 1 else ALONE


def _at_hand(
    record: RunRecord, checkpoints: Checkpoints, kept: Kept, material: Material, say: Callable[[str], None]
) -> tuple[NetworkModule, dict[str, Any] | None]:
    """The network of the latest checkpoint and its state; of a run that has none yet, as its seed makes it."""
    if checkpoints.found() or any(line["step"] for line in record.read()):
        return _continued(checkpoints, kept, material, say)
    return _fresh(kept.cell, material.question, material.settings), None


def _continued(
    checkpoints: Checkpoints, kept: Kept, material: Material, say: Callable[[str], None]
) -> tuple[NetworkModule, dict[str, Any]]:
    """Make the network of the latest checkpoint, and return it with the state, which fits it in everything."""
    checkpoint = checkpoints.latest(say)
    model = kept.build(checkpoint.read_weights(), checkpoint.path)
    module = NetworkModule(model, material.question, material.settings)
    state = read_state(checkpoint, module, len(material.train()))
    model.load_state_dict(model_weights(state))
    return module, state


def _check_epochs(folder: Path, changes: dict[str, Any], state: dict[str, Any]) -> None:
    """Refuse fewer epochs than have been begun."""
    begun = state["epoch"] + (state[OURS]["windows_done"] > 0)
    if changes.get("epochs", begun) < begun:
        raise OptionError(
            f"--epochs is {changes['epochs']}, and {folder} is in epoch {begun}: give {begun} or more"
        )


def _mark_resumed(record: RunRecord, state: dict[str, Any] | None, say: Callable[[str], None]) -> None:
    """Drop the lines that are written again, and tell of those that a power cut took."""
    if state is None and [line.get("what") for line in record.read()] == ["started"]:
        return  # prepared, and not begun
    step = -1 if state is None else int(state["global_step"])
    record.truncate(step)
    text = f"from step {max(step, 0)}"
    lacking = 0 if state is None else state["callbacks"]["RunKeeper"].get("recorded", 0) - record.count
    if lacking > 0:
        text += f"; the record ends before the checkpoint, {lacking} lines are lost"
        say(f"{record.folder}: the record ends before the checkpoint; {lacking} lines of it are lost")
    record.append("event", max(step, 0), record.seconds, what="resumed", text=text)


def _other_symbols(material: Material) -> bool:
    """Whether a text of characters has one that its run does not know, or knows one that it does not have."""
    if not isinstance(material, TextMaterial) or material.tokens.symbols.kind != "chars":
        return False
    present = torch.bincount(material.tokens.parts["train"].int(), minlength=len(material.tokens.symbols))
    return bool(present[0] > 0) or bool((present[1:] == 0).any())


def _fresh(cell: Cell, question: Question, settings: TrainSettings) -> NetworkModule:
    """Make the network as its seed makes it and run it once: what cannot be run is refused before it is kept."""
    torch.manual_seed(settings.seed)
    with fitting_memory():
        model = question.network(cell, settings).to(settings.dtype)
    with torch.no_grad():
        model.eval()(on(model, question.example()))
    paced(model, make_optimizer(settings, model.parameters()), settings)
    return NetworkModule(model.train(), question, settings)


def _with_found_rate(
    module: NetworkModule, material: Material, accelerator: str, say: Callable[[str], None]
) -> NetworkModule:
    """Look for a learning rate, and make a fresh network for a training with it."""
    with quiet():
        rate = find_rate(module, material, accelerator)
    if rate is None:
        say(
            f"rate     no learning rate lowers the loss within {TRIED} steps by more than noise: "
            f"--lr {module.settings.lr:g} is kept"
        )
    else:
        say(f"rate     {rate:g}, where the loss falls fastest in {TRIED} steps from {LOWEST:g} to {HIGHEST:g}")
        material.settings = dataclasses.replace(material.settings, lr=rate)
    return _fresh(module.model.recurrent.cell, module.question, material.settings)


def _workers(settings: TrainSettings) -> str:
    if settings.devices > 1:
        return f"{settings.devices} processes of {settings.batch_size:,} rows each"
    count = torch.get_num_threads()
    return "1 thread" if count == 1 else f"{count} threads"


def _claim(folder: Path | None, cell: str) -> tuple[Claim, Path]:
    """Claim a new or empty folder; without a name make one, which two runs of the same second do not share."""
    if folder is None:
        stamp = f"{cell}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        RUNS.mkdir(exist_ok=True)
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            folder = RUNS / f"{stamp}{suffix}"
            try:
                folder.mkdir()
                break
            except FileExistsError:
                continue
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    check_free(folder)
    claim = Claim(folder)
    try:
        check_free(folder)  # whoever held it may have begun there
    except BaseException:
        claim.release()
        raise
    return claim, folder
