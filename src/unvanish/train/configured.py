"""Settings from a file: the `config.yaml` of a run, which makes it again, or settings by their names alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.equations import Cell
from unvanish.errors import CellError, OptionError, nearest, printable
from unvanish.record import CONFIG
from unvanish.train.owncell import plain_of
from unvanish.train.settings import TrainSettings


@dataclass(frozen=True)
class Configured:
    """What a file says of a run to come.

    Attributes:
        settings: by their names; what is not named is as usual.
        cell: that of the run; None where the settings name it.
        digest: what tells the data of the run from others; empty where that is not known.
    """

    settings: Mapping[str, Any]
    cell: Cell | None = None
    digest: str = ""


def read_settings(path: Path) -> Configured:
    """Read a file, or the `config.yaml` in the folder of a run.

    Raises:
        OptionError: it cannot be read, or names what is not a setting.
    """
    file = path / CONFIG if path.is_dir() else path
    plain = plain_of(file, "--config")
    if not isinstance(plain, dict):
        raise OptionError(f"--config {file} does not hold settings: write NAME: VALUE, a line each")
    return _of_run(file, plain) if isinstance(plain.get("settings"), dict) else Configured(_known(file, plain))


def _known(file: Path, plain: dict[str, Any]) -> dict[str, Any]:
    names = TrainSettings.__dataclass_fields__
    for name in plain:
        if name not in names:
            raise OptionError(f"--config {file}: {printable(name)} is not a setting: {nearest(name, names)}")
    return plain


def _of_run(file: Path, plain: dict[str, Any]) -> Configured:
    from pydantic import ValidationError

    from unvanish.record.config import Config, explain

    try:
        config = Config.model_validate(plain)
        cell = Cell.from_dict(config.cell.definition.model_dump())
    except ValidationError as fault:
        raise OptionError(f"--config {file}: {explain(fault)}") from fault
    except CellError as fault:
        raise OptionError(f"--config {file}: in cell.definition, {fault}") from fault
    known = {name: value for name, value in config.settings.items() if name in TrainSettings.__dataclass_fields__}
    return Configured(known, cell, config.data.digest)
