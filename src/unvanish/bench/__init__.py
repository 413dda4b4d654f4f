"""How fast a cell is on this machine, beside what else would run it."""

from unvanish.bench.contest import Contest, Shape, contest
from unvanish.bench.turns import Span, in_turns

__all__ = ["Contest", "Shape", "Span", "contest", "in_turns"]
