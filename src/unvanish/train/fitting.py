"""Train from a program: data in, a trained network out, and a run kept in a folder where one is named."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unvanish.data.sequences import Sequences
from unvanish.equations import Cell
from unvanish.errors import OptionError, nearest
from unvanish.train.giving import sequences_of
from unvanish.train.load import Loaded, load_run
from unvanish.train.run import prepare, prepare_resume
from unvanish.train.settings import TrainSettings


def fit(
    data: Any,
    y: Any = None,
    *,
    lengths: Any = None,
    cell: str | Cell = "lstm",
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Loaded:
    """Train a network on data, as `unvanish train` does.

    Args:
        data: a path of whatever `unvanish train` reads; a data frame (polars or pandas) with the columns that
            `target`, `time`, `group`, `horizon` and the like name; arrays or tensors (B, T) or (B, T, F) with `y`;
            a data set of torch or any iterable of pairs; or `Sequences`.
        y: of arrays, a label or number per sequence or per step.
        lengths: of arrays, how many steps each sequence has.
        cell: a name of the catalogue, or a cell of your own.
        folder: where the run is kept; without one it is kept nowhere.
        resume: whether to go on with the run in that folder.
        say: gets a line now and then.
        options: settings of a training by their names, those of `unvanish train` with `_` for `-`: see
            `TrainSettings`.

    Raises:
        DataError: the data cannot be trained on.
        OptionError: an option that is not known, or does not go with the data.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(60, 8, 1))
    >>> found = fit(x, (x[:, 0, 0] > 0).astype(int), hidden=8, layers=1, epochs=2, device="cpu")
    >>> found.predict(x[:2]).columns
    ['sequence', 'target 1', 'p(0)', 'p(1)']
    """
    unknown = sorted(set(options) - set(TrainSettings.__dataclass_fields__))
    if unknown:
        raise OptionError(
            f"{unknown[0]} is not a setting: {nearest(unknown[0], TrainSettings.__dataclass_fields__)}"
        )
    source, given = _taken(data, y, lengths, options)
    name = cell if isinstance(cell, str) else cell.name
    own = None if isinstance(cell, str) else cell
    if resume and folder is None:
        raise OptionError("resume=True goes on with a run: name its folder")
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return _trained(
                TrainSettings(source=source, cell=name, **options), Path(temporary) / "run", own, given, say
            )
    if resume:
        changes = {key: options.get(key) for key in ("epochs", "lr", "clip")}
        prepare_resume(Path(folder), **changes, say=say, given=given).run(say)
        return load_run(Path(folder))
    return _trained(TrainSettings(source=source, cell=name, **options), Path(folder), own, given, say)


def _trained(
    settings: TrainSettings,
    folder: Path,
    cell: Cell | None,
    given: Sequences | None,
    say: Callable[[str], None],
) -> Loaded:
    outcome = prepare(settings, folder, cell=cell, say=say, given=given).run(say)
    found = load_run(folder)
    if outcome.interrupted:
        warnings.warn("training was interrupted: the network is the one that it had reached", stacklevel=3)
    _ = found.measured  # read now: a temporary folder goes
    return found


def _taken(data: Any, y: Any, lengths: Any, options: dict[str, Any]) -> tuple[str | None, Sequences | None]:
    """A source, or sequences."""
    if data is None or isinstance(data, str | os.PathLike):
        if y is not None:
            raise OptionError("y is for arrays: a file names its target with target=")
        return (None if data is None else os.fspath(data)), None
    return None, sequences_of(data, y, lengths, options)
