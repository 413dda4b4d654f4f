"""What a comparison takes from its runs: each is read once, and those that differ only in the seed form a group."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unvanish.errors import OptionError, RunError
from unvanish.record import RECORDS
from unvanish.record.config import FORMAT
from unvanish.record.measures import kept
from unvanish.record.schema import mapping, text, whole
from unvanish.report.page.profile import Reach
from unvanish.report.page.wording import enumeration
from unvanish.report.run.answers import Asked
from unvanish.report.run.read import Run, Valid
from unvanish.report.run.summary import cell_name

# Settings that decide on what a run is validated, and in which units its loss is.
JUDGED = ("target", "horizon", "windows", "stride", "season", "valid", "scale", "likelihood", "images")
ASIDE = ("seed", "source")  # settings in which the runs of a group may differ


@dataclass(frozen=True)
class Entry:
    """One run of a comparison.

    Attributes:
        name: its folder, with as many parents as tell it from the others.
    """

    name: str
    run: Run

    @property
    def settings(self) -> dict[str, Any]:
        """What it was asked to do."""
        return mapping(self.run.config.get("settings"))

    @property
    def data(self) -> dict[str, Any]:
        """What it says of its data."""
        return mapping(self.run.config.get("data"))

    @property
    def digest(self) -> str:
        """What tells its data from others."""
        return text(self.data.get("digest")) or text(self.data.get("source"))

    @property
    def cell(self) -> str:
        """Its cell as the paper calls it."""
        return cell_name(self.run)

    @cached_property
    def best(self) -> Valid | None:
        """Its best validation."""
        known = [valid for valid in self.run.valids if valid.loss is not None]
        return min(known, key=lambda valid: valid.loss or 0.0, default=None)

    @cached_property
    def valid(self) -> Valid | None:
        """The validation of the network that it kept: the best where it had patience, else the last."""
        return kept(self.run.valids, self.settings)

    @cached_property
    def reach(self) -> Reach | None:
        """The reach of the part whose gradient comes furthest."""
        known = [reach for reach in self.run.reaches if reach.steps is not None]
        return max(known, key=lambda reach: reach.steps or 0, default=None)

    @property
    def judged(self) -> str:
        """What its loss is of: losses can be held against each other where this is the same."""
        asked = {name: self.settings.get(name) for name in JUDGED}
        return _plain([self.digest, vars(self.run.asked), asked, self.data.get("sizes")])

    @property
    def alike(self) -> str:
        """All that a run is but its seed."""
        asked = {name: value for name, value in self.settings.items() if name not in ASIDE}
        cell = mapping(self.run.config.get("cell"))
        return _plain([self.digest, asked, cell.get("definition") or cell.get("equations")])


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed, or a single run."""

    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """What it is called: by its first run."""
        first = self.entries[0].name
        return first if len(self.entries) == 1 else f"{first} ({len(self.entries)} seeds)"

    def known(self, value: Callable[[Entry], float | None]) -> list[float]:
        """Return a figure of each run, where it is known."""
        return [one for one in map(value, self.entries) if one is not None]

    def mean(self, value: Callable[[Entry], float | None]) -> float | None:
        """Return the mean of a figure over the runs of which it is known."""
        found = self.known(value)
        return sum(found) / len(found) if found else None

    @property
    def loss(self) -> float | None:
        """The validation loss, in the mean."""
        return self.mean(loss_of)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, in the order in which they were named."""

    groups: tuple[Group, ...]

    @property
    def entries(self) -> list[Entry]:
        """All runs."""
        return [entry for group in self.groups for entry in group.entries]

    @property
    def same_data(self) -> bool:
        """Whether all runs learn from the same data."""
        return len({entry.digest for entry in self.entries}) == 1

    @property
    def same_loss(self) -> bool:
        """Whether their losses can be held against each other."""
        return len({entry.judged for entry in self.entries}) == 1

    @property
    def asked(self) -> Asked:
        """What the first run was asked."""
        return self.entries[0].run.asked

    @property
    def ranked(self) -> list[Group]:
        """The groups whose loss is known, the best first; none where losses cannot be held against each other."""
        known = [group for group in self.groups if group.loss is not None]
        return sorted(known, key=lambda group: group.loss or 0.0) if self.same_loss else []


def loss_of(entry: Entry) -> float | None:
    """Return the loss of the network that a run kept."""
    return None if entry.valid is None else entry.valid.loss


def compare(folders: Iterable[Path]) -> Comparison:
    """Read runs and put together those that differ only in the seed.

    Raises:
        OptionError: there are fewer than two, or one is named twice, or is a copy of another.
        RunError: a folder is not a run, or one of a newer unvanish.
    """
    given = list(folders)
    if len(given) < 2:
        raise OptionError(f"a comparison needs two runs or more, and {len(given)} was named: name another one")
    places = [folder.resolve() for folder in given]
    for one, other in itertools.combinations(range(len(places)), 2):
        if places[one] == places[other]:
            raise OptionError(f"{given[other]} is named twice: name each run once")
    runs = [_read(folder) for folder in given]
    _refuse_copies(given, runs)
    entries = [Entry(name, run) for name, run in zip(_names(places), runs, strict=True)]
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.alike, []).append(entry)
    return Comparison(tuple(Group(tuple(found)) for found in groups.values()))


def _read(folder: Path) -> Run:
    run = Run.read(folder)
    if (whole(run.config.get("format")) or 1) > FORMAT:
        raise RunError(f"{folder} is of a newer unvanish (this one reads formats up to {FORMAT}): update it")
    return run


def _refuse_copies(folders: Sequence[Path], runs: Sequence[Run]) -> None:
    """Two folders of one run would count as two seeds, without any spread."""
    seen: dict[str, Path] = {}
    for folder, run in zip(folders, runs, strict=True):
        records = hashlib.sha256((folder / RECORDS).read_bytes()).hexdigest()
        first = seen.setdefault(_plain([run.config, records]), folder)
        if first is not folder:
            raise OptionError(f"{folder} is a copy of {first}: name each run once")


def differing(groups: Sequence[Group], taken: Iterable[str]) -> list[str]:
    """Name the settings in which groups differ, but for those that are told anyway."""
    aside = {*ASIDE, *taken}
    names = dict.fromkeys(name for group in groups for name in group.entries[0].settings if name not in aside)
    return [name for name in names if len({_plain(group.entries[0].settings.get(name)) for group in groups}) > 1]


def named(groups: Sequence[Group]) -> str:
    """List the names of groups."""
    return enumeration([group.name for group in groups])


def _names(folders: list[Path]) -> list[str]:
    """The last parts of paths: as few as tell them apart."""
    for count in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-count:]) for folder in folders]
        if len({*names}) == len(names):
            break
    return names


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
