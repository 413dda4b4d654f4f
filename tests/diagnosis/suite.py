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
    """The first of each cause, and every third kind that is sound."""
    seen = Counter[str]()
    for case in cases():
        kind = case.cause or f"sound {case.kind}"
        if not seen[kind] and (case.cause or sum(name.startswith("sound") for name in seen) % 3 == 0):
            yield case
        seen[kind] += 1
