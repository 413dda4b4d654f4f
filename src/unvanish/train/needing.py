"""What the data need, measured at the start of a run and set beside its window; what naive answers come to."""

from __future__ import annotations

from collections.abc import Callable

from unvanish.record import Clock
from unvanish.record.reaching import CUT, held_back
from unvanish.record.schema import Need as Line
from unvanish.train.questions.question import Need
from unvanish.train.session import Session


def write_need(session: Session, clock: Clock) -> Need | None:
    """Measure once how much context the data need, and keep it."""
    for line in session.record.read("need"):
        kept = Line.read(line)
        if kept.lag is not None:
            return Need(kept.lag, kept.censored, kept.of or 0, kept.note)
    need = session.material.need()
    if need is not None:
        line = {"lag": need.lag, "censored": need.censored, "of": need.of, "note": need.note}
        session.record.append("need", 0, clock.seconds, **line)
    return need


def say_need(need: Need | None, session: Session, say: Callable[[str], None]) -> None:
    """Say what the data need, and whether a window is as long."""
    window = session.settings.length
    if need is None:
        say("need     how far back the data depend on themselves could not be measured in so few steps")
    elif not need.lag:
        say(f"need     nothing further back than the step at hand stands out in {need.of:,} steps")
    elif held_back(window, window, need.lag) == CUT:
        say(
            f"need     {_about(need)} back, and windows of {window:,} steps cut that off: "
            f"--length {_longer(need.lag)} would reach it"
        )
    else:
        say(f"need     {_about(need)} back; windows of {window:,} steps reach that")


def _about(need: Need) -> str:
    return str(need) if need.censored else f"about {need}"


def _longer(lag: int) -> int:
    """A window that is longer than a lag by a quarter, as a round number."""
    step = 10 if lag < 200 else 50
    return -(-(lag + lag // 4 + 1) // step) * step


def write_baselines(session: Session, clock: Clock) -> None:
    """Work out once what naive answers come to, and keep it."""
    if any(session.record.read("baseline")):
        return
    for name, metrics in session.material.baselines():
        session.record.append("baseline", 0, clock.seconds, name=name, on="valid", metrics=metrics)
