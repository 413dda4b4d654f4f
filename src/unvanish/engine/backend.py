"""What the engine asks a back end, and what a back end is: one way to run a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from unvanish.engine.sequence import Pass, Result
from unvanish.engine.stepper import Stepper


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Why a back end cannot run a pass; `lasting` where it can run none of these equations on this machine."""

    reason: str
    lasting: bool = False


class BackEnd(ABC):
    """One way to run a plan. A new one is a class in a room of its own, and its line in `dispatch.BACK_ENDS`."""

    name: str

    def available(self) -> bool:
        """Return whether this machine has what the back end needs."""
        return True

    @abstractmethod
    def unsupported(self, job: Pass) -> Unsupported | None:
        """Return why it cannot run a pass, or None."""

    @abstractmethod
    def run(self, job: Pass) -> Result:
        """Run a pass that is not unsupported."""

    def stepper(self, job: Pass) -> Stepper | None:
        """Return what runs the plan one step per call, where that is faster than passes of one step."""
        return None
