"""The course in two languages: code runs on the English page, and the Chinese one shows what it gave.

A Chinese page says `<!-- shown gates: path -->` where the section `path` of `learn/code/gates.py` is to stand, the
gallery `<!-- drawn gates -->` where the figure alone is, which opens its script.
"""

from __future__ import annotations

import os
import re

_FENCE = re.compile(r'^```python exec="true".*?\n--8<-- "(\w+)\.py:(\w+)"\n```$', re.MULTILINE)
_SHOWN = re.compile(r"<!-- begin (\w+): (\w+) -->(.*?)<!-- end -->", re.DOTALL)
_WANTED = re.compile(r"<!-- shown (\w+): (\w+) -->")
_WANTED_FIGURE = re.compile(r"<!-- drawn (\w+) -->")
_FIGURE = re.compile(r'<div class="drawn">.*?</svg>\s*</div>', re.DOTALL)
_blocks: dict[tuple[str, str], str] = {}


def marked(markdown: str) -> str:
    """Mark where each block of code begins and ends; where the course is only shown, let none run."""
    if "COURSE_SHOWN" in os.environ:  # by a test that has no time to run it
        return _FENCE.sub(_only_shown, markdown)
    return _FENCE.sub(lambda found: _between(found, found[0]), markdown)


def _only_shown(found: re.Match[str]) -> str:
    asserts = found[2] == "asserts"
    return "" if asserts else _between(found, f'```python\n--8<-- "{found[1]}.py:{found[2]}"\n```')


def _between(found: re.Match[str], block: str) -> str:
    return f"<!-- begin {found[1]}: {found[2]} -->\n\n{block}\n\n<!-- end -->"


def put(html: str) -> str:
    """Keep the blocks that a page has run, and put those in that it asks for.

    Raises:
        KeyError: no page has run what is asked for.
    """
    _blocks.update({(found[1], found[2]): found[3] for found in _SHOWN.finditer(html)})
    html = _WANTED_FIGURE.sub(lambda found: _opening(found[1]), html)
    return _WANTED.sub(lambda found: _blocks[found[1], found[2]], html)


def _opening(name: str) -> str:
    """The figures of a script, each of which opens it."""
    figures = _FIGURE.findall(_blocks[name, "figure"])
    return "".join(f'<a href="scripts/{name}.html" title="{name}.py">{figure}</a>' for figure in figures)
