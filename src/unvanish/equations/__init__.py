"""Text -> checked system of equations -> derivatives, LaTeX. Knows no torch."""

from unvanish.equations.cell import Cell, Drawn, Grouped
from unvanish.equations.system import System

__all__ = ["Cell", "Drawn", "Grouped", "System"]
