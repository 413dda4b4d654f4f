"""The suite of planted faults: is the verdict right, is the cause named, is no sound model called ill?

Other draws: python -m tests.diagnosis.test_suite 7
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.diagnosis.suite import cases, some
from tests.diagnosis.zoo import Case
from tests.support.whole import WHOLE
from unvanish.diagnosis import CAUSES, diagnose

SEED = 0


@dataclass(frozen=True)
class Outcome:
    """What was said of a case."""

    case: Case
    verdict: str
    first: str | None

    @property
    def is_right(self) -> bool:
        return self.verdict == self.case.verdict

    @property
    def is_named(self) -> bool:
        return self.first == self.case.cause

    @property
    def is_called_ill(self) -> bool:
        return not self.is_right or self.first is not None

    def __str__(self) -> str:
        return f"{self.case.name}: {self.verdict} because {self.first}, not {self.case.verdict}, {self.case.cause}"


def outcomes(seed: int, chosen: Iterable[Case]) -> list[Outcome]:
    """Diagnose cases of the suite."""
    found = []
    for case in chosen:
        patient = case.make(seed)
        told = diagnose(
            patient.model, patient.batch, patient.loss, need=patient.need, prescriptions=False, **patient.more
        )
        found.append(Outcome(case, told.verdict, told.causes[0].kind if told.causes else None))
    return found


@pytest.fixture(scope="module")
def found() -> list[Outcome]:
    return outcomes(SEED, cases() if WHOLE else some())


def test_suite_is_wide_enough() -> None:
    every = list(cases())
    ill = {case.cause for case in every if case.cause is not None}
    assert len(every) >= 150
    assert len({case.kind or case.cause for case in every}) >= 30
    assert len({case.name for case in every}) == len(every)
    assert ill <= set(CAUSES)
    assert len([case for case in every if case.cause is None]) >= 50
    assert set(CAUSES) <= ill


def test_verdicts_are_right(found: list[Outcome]) -> None:
    wrong = [outcome for outcome in found if not outcome.is_right]
    assert len(wrong) <= 0.03 * len(found), "\n".join(map(str, wrong))


def test_planted_causes_are_named_first(found: list[Outcome]) -> None:
    ill = [outcome for outcome in found if outcome.case.cause is not None]
    wrong = [outcome for outcome in ill if not outcome.is_named]
    assert len(wrong) <= 0.08 * len(ill), "\n".join(map(str, wrong))


def test_every_kind_of_cause_is_named_first_where_it_was_planted(found: list[Outcome]) -> None:
    named = {outcome.first for outcome in found if outcome.is_named}
    assert {case.cause for case in cases()} <= named
    assert {case.cause for case in some()} == {case.cause for case in cases()}


def test_no_sound_model_is_called_ill(found: list[Outcome]) -> None:
    wrong = [outcome for outcome in found if outcome.case.cause is None and outcome.is_called_ill]
    assert not wrong, "\n".join(map(str, wrong))


if __name__ == "__main__":
    drawn = outcomes(int(sys.argv[1]) if len(sys.argv) > 1 else SEED, cases())
    ill = [outcome for outcome in drawn if outcome.case.cause is not None]
    for outcome in drawn:
        if not (outcome.is_right and outcome.is_named):
            sys.stdout.write(f"{outcome}\n")
    right, named = sum(o.is_right for o in drawn), sum(o.is_named for o in ill)
    sound = [o for o in drawn if o.case.cause is None]
    sys.stdout.write(
        f"verdict right {right} of {len(drawn)}, cause named first {named} of {len(ill)}, "
        f"sound called ill {sum(o.is_called_ill for o in sound)} of {len(sound)}\n"
    )
