"""What the engine asks a back end, and what a back end is: one way to run a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from unvanish.engine.sequence import Pass, Result
from unvanish.engine.stepper import Stepper
from unvanish.equations.system import System


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

    def unsupported(self, job: Pass) -> Unsupported | None:
        """Return why it cannot run a pass, or None."""
        lasting = self.lasting_hindrance(job.plan.system)
        if lasting is not None:
            return Unsupported(lasting, lasting=True)
        reason = self.hindrance(job)
        return None if reason is None else Unsupported(reason)

    def lasting_hindrance(self, system: System) -> str | None:
        """Return why it can run no pass of these equations on this machine, or None."""
        return None

    def hindrance(self, job: Pass) -> str | None:
        """Return why it cannot run this pass of equations that it can run, or None."""
        return None

    @abstractmethod
    def run(self, job: Pass) -> Result:
        """Run a pass that is not unsupported."""

    def stepper(self, job: Pass) -> Stepper | None:
        """Return what runs the plan one step per call, where that is faster than passes of one step."""
        return None
