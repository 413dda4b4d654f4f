"""How fast a cell is on this machine, beside what else would run it."""

from unvanish.bench.contest import Contest, Shape, Span, contest

__all__ = ["Contest", "Shape", "Span", "contest"]
