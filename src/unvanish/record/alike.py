"""Remedies that are one and the same for several parts, put together for a terminal, a page and a text alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class _Remedy(Protocol):
    """A remedy on one part: which, the lines to type, and the verdict with it."""

    @property
    def name(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def verdict(self) -> str: ...


class _Untried(Protocol):
    """A remedy that could not be tried on one part, and why."""

    @property
    def name(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def reason(self) -> str: ...


Tried = TypeVar("Tried", bound=_Remedy)
Refused = TypeVar("Refused", bound=_Untried)


def tried_together(remedies: Iterable[Tried]) -> list[list[Tried]]:
    """Put those together that are the same code, apart where it heals and where it only lengthens.

    >>> from types import SimpleNamespace as Remedy
    >>> verdicts = {"l0": "healthy", "l0_reverse": "healthy", "l1": "vanishing"}
    >>> tried = [Remedy(name="chrono", code="…", part=part, verdict=said) for part, said in verdicts.items()]
    >>> [[one.part for one in same] for same in tried_together(tried)]
    [['l0', 'l0_reverse'], ['l1']]
    """
    found: dict[tuple[str, str, bool], list[Tried]] = {}
    for one in remedies:
        found.setdefault((one.name, one.code, one.verdict == "healthy"), []).append(one)
    return list(found.values())


def untried_together(remedies: Iterable[Refused]) -> list[list[Refused]]:
    """Put those together that are the same code and could not be tried for the same reason."""
    found: dict[tuple[str, str, str], list[Refused]] = {}
    for one in remedies:
        found.setdefault((one.name, one.code, one.reason), []).append(one)
    return list(found.values())
