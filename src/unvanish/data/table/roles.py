"""Which column is what: the time, the series, the target, what is known beforehand.

Names of the ecosystem are known without being named: `unique_id`, `ds`, `y`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unvanish.checks import words
from unvanish.errors import DataError, OptionError, nearest, printable

TIMES = ("ds", "time", "date", "timestamp", "datetime", "t")
GROUPS = ("unique_id", "series_id", "series")
TARGETS = ("y", "target", "label", "class")


@dataclass(frozen=True)
class TableOptions:
    """What a table is asked for.

    Attributes:
        target: the columns to predict.
        time: the column that orders the rows; by default one of the usual names, else the rows' own order.
        group: the column that tells series apart.
        horizon: how many steps ahead the target is wanted; 0 where it is told from the steps beside it.
        known: columns that are known beforehand.
        words: columns that are words, whatever they look like. ignore: columns that are left out.
        decimal: the mark before decimals; by default told by the values.
        keep: columns that are never left out, however little they say: a run was trained with them.
        marks: of columns, the mark before decimals where a run was trained; taken where the values do not tell it.
        step: how far two steps of a run lie apart; empty where each row is one. None: the rows tell.
        per: what a label belongs to, `step` or `sequence`. None: the labels tell.
        unlabelled: whether the target may be missing, as there is nothing to learn from the table.
    """

    target: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    horizon: int = 0
    known: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    decimal: str | None = None
    marks: tuple[tuple[str, str], ...] = ()
    step: str | None = None
    per: str | None = None
    unlabelled: bool = False
    keep: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TableOptions:
        """Take the options of a table among others."""
        names = {field.name for field in dataclasses.fields(cls)}
        asked: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in given.items() if name in names
        }
        return cls(**asked)

    def __post_init__(self) -> None:
        if self.horizon < 0:
            raise OptionError(f"--horizon is {self.horizon}: give how many steps ahead to predict, from 1 on")
        if self.decimal not in (None, ".", ","):
            raise OptionError(f"--decimal is {self.decimal!r}: write . or ,")
        for option in ("target", "known", "words", "ignore"):
            words(getattr(self, option), f"--{option}")


@dataclass(frozen=True)
class Roles:
    """The columns of a table by what they are for; `inputs` are all others."""

    time: str | None
    group: str | None
    target: tuple[str, ...]
    inputs: tuple[str, ...]


def roles(names: Sequence[str], asked: TableOptions, source: str) -> Roles:
    """Say which column is what.

    Raises:
        OptionError: a column that was named is not there, or has two parts to play.
        DataError: nothing says what is to be predicted.
    """
    wanted = tuple(name for name in asked.target if name in names or not asked.unlabelled)
    for option, columns in (
        ("target", wanted),
        ("known", asked.known),
        ("words", asked.words),
        ("ignore", asked.ignore),
    ):
        for name in columns:
            _there(name, names, option)
    time = _one(asked.time, TIMES, names, "time")
    group = _one(asked.group, GROUPS, names, "group")
    target = wanted or tuple(name for name in names if name.lower() in TARGETS and not asked.target)[:1]
    if not target and not asked.unlabelled:
        listed = ", ".join(printable(name) for name in names)
        raise DataError(f"{source} does not say what to predict: name a column with --target, of {listed}")
    for name in target:
        if name in (time, group):
            raise OptionError(
                f"--target {name}: that column is the {'time' if name == time else 'group'}; name another"
            )
    taken = {time, group, *target, *asked.ignore}
    return Roles(time, group, target, tuple(name for name in names if name not in taken))


def _there(name: str, names: Sequence[str], option: str) -> None:
    if name not in names:
        raise OptionError(f"--{option} {name}: the table has no such column; {nearest(name, names)}")


def _one(asked: str | None, usual: Sequence[str], names: Sequence[str], option: str) -> str | None:
    if asked is not None:
        _there(asked, names, option)
        return asked
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in usual if name in lowered), None)
