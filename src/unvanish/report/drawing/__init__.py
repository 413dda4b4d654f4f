"""A picture, described as plain data, drawn with matplotlib as SVG in the colours and the font of the page."""

from unvanish.report.drawing.draw import drawn

__all__ = ["drawn"]
