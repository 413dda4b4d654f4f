"""Formulas as MathML, which browsers typeset by themselves: nothing is fetched, nothing runs."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# What the extension `arithmatex` leaves of $…$ and of $$…$$.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)


def as_mathml(page: str) -> str:
    """Replace each formula of a page."""
    return _FORMULA.sub(_typeset, page)


def _typeset(found: re.Match[str]) -> str:
    inline, block = found[2], found[3]
    text = html.unescape(inline if block is None else block).strip()
    text = text.replace("{aligned}", "{split}")  # the same, which the converter knows
    return str(convert(text, display="inline" if block is None else "block"))
