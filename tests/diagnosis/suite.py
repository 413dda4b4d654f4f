"""All patients of the suite of planted faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.diagnosis import odd, spoilt, written, zoo
from tests.diagnosis.zoo import Case


def cases() -> Iterator[Case]:
    for room in (zoo, written, spoilt, odd):
        yield from room.cases()


def some() -> Iterator[Case]:
    """The first of each kind."""
    seen = Counter[str]()
    for case in cases():
        kind = case.kind or case.cause or "sound"
        if not seen[kind]:
            yield case
        seen[kind] += 1
