"""All patients of the suite of planted faults."""

from __future__ import annotations

from collections.abc import Iterator

from tests.diagnosis import odd, spoilt, written, zoo
from tests.diagnosis.zoo import Case


def cases() -> Iterator[Case]:
    for room in (zoo, written, spoilt, odd):
        yield from room.cases()
