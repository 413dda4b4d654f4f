"""A source -> the question that it asks and its data; and a question that a run has kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from unvanish.data.archive import read_archive
from unvanish.data.arrays import read_arrays, read_mnist
from unvanish.data.looking import look
from unvanish.data.sequences import Sequences
from unvanish.data.split import split
from unvanish.data.tokens import Symbols, read_tokens, symbols_of
from unvanish.data.tokens.symbols import Characters
from unvanish.errors import DataError, OptionError, RunError
from unvanish.record.config import DataPart, LabelsPart
from unvanish.record.run import SERIES, VOCABULARY
from unvanish.train.datasettings import GIVEN
from unvanish.train.questions.agreement import AgreementMaterial, AgreementQuestion, corpus
from unvanish.train.questions.ends import ends_told
from unvanish.train.questions.forecast import ForecastQuestion
from unvanish.train.questions.labels import LabelMaterial, LabelQuestion
from unvanish.train.questions.question import Material, Question
from unvanish.train.questions.series import SeriesMaterial, usual_length
from unvanish.train.questions.symbols import SymbolQuestion, TextMaterial
from unvanish.train.settings import TrainSettings

Kept = TypeVar("Kept")

BATCH, FEWEST = 50, 8  # rows
UPDATES, MOST_EPOCHS = 1_500, 200  # as long as nobody says how many epochs
WHOLE_STEPS, PIECE = 1_000, 200  # sequences judged at each step: longer ones are cut into pieces
ESCAPES = {r"\n": "\n", r"\f": "\f", r"\t": "\t", r"\0": "\0"}  # as one types them in a shell
CUTS = {"text": "chars", "bytes": "bytes", "words": "words", "bpe": "bpe"}


def read_material(
    settings: TrainSettings,
    question: Question | None = None,
    say: Callable[[str], None] = lambda _: None,
    given: Sequences | None = None,
) -> Material:
    """Read what a run trains on; its settings say then how long a window is, and how many epochs there are.

    Args:
        question: that of a run that goes on.
        given: data in the place of a source.

    Raises:
        DataError: it cannot be trained on.
        OptionError: an option that is not for such data.
    """
    path = None if settings.source is None else Path(settings.source)
    if given is not None:
        return _asked({"all": given}, _fitted(settings, kind=GIVEN), digest_of_steps(given), question)
    if settings.kind == GIVEN:
        raise DataError(
            "the data of this run were given by a program: go on with unvanish.train.fit, resume=FOLDER"
        )
    if settings.task:
        _only_text(settings)
        return _task(path, settings, question)
    kind = settings.kind or ("text" if path is None else _looked(path, say))
    settings = _fitted(settings, kind=kind)
    if kind in CUTS:
        _refuse(settings, "target", "horizon", "group", "time", "known", kind=kind)
        mark = settings.document_mark
        typed: dict[str, Any] = {"document_mark": ESCAPES.get(mark, mark) if mark is not None else None}
        settings = dataclasses.replace(settings, **typed)
        return _text(path, settings, question)
    _only_text(settings)
    if path is None:
        raise OptionError(f"--as {kind} needs a source: name a file or a folder")
    parts, digest = _sequences(path, kind, settings)
    return _asked(parts, settings, digest, question)


def _only_text(settings: TrainSettings) -> None:
    """Refuse what goes with text alone."""
    asked = {
        "--tied": settings.tied,
        "--softmax": settings.softmax != "full",
        "--vocabulary": settings.vocabulary,
        "--document-mark": settings.document_mark is not None,
        "--random-windows": settings.random_windows,
    }
    for name, given in asked.items():
        if given:
            raise OptionError(f"{name} is for text: leave it away")


def _task(path: Path | None, settings: TrainSettings, question: Question | None) -> Material:
    """The material of a task, or of a corpus of it."""
    if path is not None:
        return _labelled({"all": corpus(path)}, settings, digest_of([path]), question)
    material = AgreementMaterial.of(settings)
    material.settings = _fitted(settings, length=material.task.steps - 1, **AgreementMaterial.usual)
    return material


def _asked(
    parts: dict[str, Sequences], settings: TrainSettings, digest: str, question: Question | None
) -> Material:
    """Make of sequences what they ask: a forecast, or labels."""
    first = next(iter(parts.values()))
    if first.target is not None and first.target.ahead:
        return _series(first, settings, digest, question)
    return _labelled(parts, settings, digest, question)


def _looked(path: Path, say: Callable[[str], None]) -> str:
    found = look(path)
    if found.kind != "text":
        say(f"source   {path} is read as {found} (--as says it otherwise)")
    return found.kind


def _refuse(settings: TrainSettings, *names: str, kind: str) -> None:
    for name in names:
        if getattr(settings, name):
            raise OptionError(
                f"--{name} is for tables, and the source is read as {kind}: add --as table, or leave it away"
            )


def _text(path: Path | None, settings: TrainSettings, question: Question | None) -> TextMaterial:
    symbols = question.symbols if isinstance(question, SymbolQuestion) else None
    tokens = read_tokens(path, CUTS[str(settings.kind)], most=settings.vocabulary or None, symbols=symbols)
    return TextMaterial.of(tokens, _fitted(settings, **TextMaterial.usual))


def _fitted(settings: TrainSettings, **usual: Any) -> TrainSettings:
    """Put what fits the data where nothing was asked for."""
    asked = {name: getattr(settings, name) or value for name, value in usual.items()}
    return dataclasses.replace(settings, **asked)


# -- sequences ---------------------------------------------------------------------------------------------------


def _sequences(path: Path, kind: str, settings: TrainSettings) -> tuple[dict[str, Sequences], str]:
    """The parts that a source has, and what tells it from another."""
    if kind == "table":
        return {"all": read_as_table(path, settings)}, digest_of([path])
    if settings.horizon:
        raise OptionError(
            f"--horizon is for tables, and the source is read as {kind}: write the series as a table with columns "
            "ds and y, or use unvanish.estimators.Forecaster, which takes arrays"
        )
    if kind == "arrays":
        return {"all": read_arrays(path)}, digest_of([path])
    if kind == "archive":
        parts = read_archive(path)
        return parts, digest_of(_archive_files(path))
    parts = read_mnist(path, settings.images)
    return parts, digest_of(sorted(one for one in path.iterdir() if "idx" in one.name))


def read_as_table(path: Path, settings: TrainSettings, **more: Any) -> Sequences:
    """Read a table with the columns that the settings name, and other options of tables beside these."""
    from unvanish.data.table import TableOptions, read_table

    return read_table(path, TableOptions.of(settings.to_dict() | more))


def _archive_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.ts"))
    stem = path.name.removesuffix("_TRAIN.ts").removesuffix("_TEST.ts")
    return sorted(path.parent.glob(f"{stem}*.ts"))


def digest_of(paths: list[Path]) -> str:
    """Return what tells the content of files from others."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def digest_of_steps(data: Sequences) -> str:
    """Return what tells sequences from others."""
    found = hashlib.sha256()
    target = [] if data.target is None else [data.target.values]
    for array in (data.lengths_B, data.numbers_NF, *(one.codes_N for one in data.categories), *target):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _labelled(
    parts: dict[str, Sequences], settings: TrainSettings, digest: str, question: Question | None
) -> LabelMaterial:
    parts = _parted(parts, settings)
    train = parts["train"]
    if train.target is None:
        raise DataError(f"{train.source} does not say what to predict: give labels beside the sequences")
    longest = int(train.lengths_B.max())
    per_step = train.target.per == "step"
    usual = PIECE if per_step and longest > WHOLE_STEPS else longest
    settings = _fitted(settings, length=usual, batch_size=_batch(len(train)), schedule="cosine")
    count = int((-(-train.lengths_B // settings.length)).sum()) if per_step else len(train)
    settings = _fitted(settings, epochs=_epochs(count, settings))
    found = question if isinstance(question, LabelQuestion) else None
    material = LabelMaterial.of(parts, settings, digest, found)
    if not material.question.answered(torch.from_numpy(material.rows["valid"].wanted)):
        raise DataError(
            f"{train.source}: none of the {len(parts['valid']):,} sequences that are held back to validate has a "
            "label: give more sequences that have one, or another --seed"
        )
    return material


def _batch(rows: int) -> int:
    """So many rows that an epoch has some twenty steps, within bounds."""
    return min(BATCH, max(FEWEST, rows // 20))


def _epochs(rows: int, settings: TrainSettings) -> int:
    """How many epochs make about as many updates as it takes."""
    return max(3, min(MOST_EPOCHS, math.ceil(UPDATES / max(1, math.ceil(rows / settings.rows)))))


def _parted(parts: dict[str, Sequences], settings: TrainSettings) -> dict[str, Sequences]:
    """Parts to train on and to validate on.

    Where a source has a part to test on, that is what is validated on as long as nothing is chosen by it; where
    the best validation decides, a share of the part to train on is held back for it.
    """
    if "test" in parts:
        if not chooses(settings):
            return {"train": parts["train"], "valid": parts["test"]}
        train, valid = split(parts["train"], settings.valid, settings.seed)
        return {"train": train, "valid": valid, "test": parts["test"]}
    train, valid = split(parts["all"], settings.valid, settings.seed)
    return {"train": train, "valid": valid}


def chooses(settings: TrainSettings) -> bool:
    """Whether validations decide what is trained, and how long."""
    return settings.patience > 0 or settings.schedule == "plateau"


def _series(data: Sequences, settings: TrainSettings, digest: str, question: Question | None) -> SeriesMaterial:
    rows = int(data.lengths_B.sum()) // (settings.length or usual_length(data, settings))
    settings = _fitted(settings, length=usual_length(data, settings), batch_size=_batch(rows), schedule="cosine")
    found = question if isinstance(question, ForecastQuestion) else None
    material = SeriesMaterial.of(data, settings, digest, found)
    material.told += tuple(ends_told(data, material.question.known, settings.horizon))
    material.settings = _fitted(settings, epochs=_epochs(len(material.train()) * settings.rows, settings))
    if not len(material.validated()):
        raise DataError(
            f"{data.source}: in the part that is held back to validate no value is known to compare a forecast "
            "with: give series without such a gap, or a larger --valid"
        )
    if not len(material.train()):
        raise DataError(f"{data.source}: no series has steps for --horizon {settings.horizon} to train on")
    return material


# -- what a run keeps --------------------------------------------------------------------------------------------


def kept_question(part: DataPart, folder: Path, task: str | None) -> Question:
    """Make the question of a run, on data or of a task, from what its configuration keeps of it.

    Raises:
        RunError: it is damaged.
    """
    if part.question is None and task is not None:
        return AgreementQuestion()
    if part.question is None:
        return SymbolQuestion(_kept_symbols(part, folder))
    try:
        if isinstance(part.question, LabelsPart):
            return LabelQuestion.of_kept(part.question.model_dump())
        own = _kept_file(folder / SERIES, part.question.own, dict) if part.question.own else None
        return ForecastQuestion.of_kept(part.question.model_dump(), own)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise RunError(
            f"{folder}: what the run keeps of its data is damaged ({fault!r}); restore config.yaml"
        ) from fault


def _kept_symbols(part: DataPart, folder: Path) -> Symbols:
    if part.cut == "chars":
        return Characters(part.characters or "")
    return _kept_file(folder / VOCABULARY, part.vocabulary, symbols_of)


def _kept_file(path: Path, digest: str, make: Callable[[Any], Kept]) -> Kept:
    """Make something of a file of a run that its configuration knows by its digest."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise RunError(f"{path} cannot be read: {fault.strerror}; restore it") from fault
    if hashlib.sha256(content).hexdigest() != digest:
        raise RunError(f"{path} has changed since the run began: restore it")
    try:
        return make(json.loads(content))
    except (ValueError, RecursionError) as fault:
        raise RunError(f"{path} cannot be read: {fault}; restore it") from fault
