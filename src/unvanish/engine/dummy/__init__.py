"""A back end that shows what one needs: it runs passes of a single step by hand, and leaves the others to plain torch."""

from __future__ import annotations

from unvanish.engine.backend import BackEnd
from unvanish.engine.reference import Reference
from unvanish.engine.sequence import Pass, Result


class Dummy(BackEnd):
    """Plain torch under another name, for passes of at most ten steps."""

    name = "dummy"

    def hindrance(self, job: Pass) -> str | None:
        """Return why it cannot run this pass, or None."""
        return "it runs ten steps at most" if len(job.x_TBI) > 10 else None

    def run(self, job: Pass) -> Result:
        """Run a pass."""
        return Reference().run(job)
