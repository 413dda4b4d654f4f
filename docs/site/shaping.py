"""What is made of a page's HTML to be read better: long lines of code, options in a sentence, wide pictures."""

from __future__ import annotations

import re

_LINE = re.compile(r'<span id="__span-[\d-]+">((?:<span class="[\w ]*">)?)( *)')
_PLAIN = re.compile(r"(<pre[^>]*>(?:<span></span>)?<code[^>]*>)((?:(?!<span|</code>).)*)(</code>)", re.DOTALL)
_NOTE = re.compile(r"(?:^|(?<=  ))# .*")
_PRE = re.compile(r"(<pre.*?</pre>)", re.DOTALL)
_INLINE = re.compile(r"<code>([^<]*)</code>")
_OPTION = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")
_PICTURE = re.compile(r"<p>(<img [^>]*>)</p>")
_BEYOND = 4  # characters by which a broken line goes on further right than it began


def shaped(html: str) -> str:
    """Let broken lines of code go on under their beginning, options stay whole, pictures scroll where narrow."""
    html = _PLAIN.sub(_lined, _LINE.sub(_hung, html))
    parts = _PRE.split(html)
    html = "".join(part if number % 2 else _INLINE.sub(_kept_whole, part) for number, part in enumerate(parts))
    return _PICTURE.sub(r'<div class="pictured">\1</div>', html)


def _lined(found: re.Match[str]) -> str:
    """A block without colours has no lines of its own yet."""
    lines = found[2].removesuffix("\n").split("\n")
    spans = [_open(len(line) - len(line.lstrip(" "))) + _NOTE.sub(_grey, line) + "\n</span>" for line in lines]
    return found[1] + "".join(spans) + found[3]


def _grey(found: re.Match[str]) -> str:
    return f'<span class="c1">{found[0]}</span>'


def _open(indent: int) -> str:
    return f'<span class="line" style="--from: {indent + _BEYOND}ch">'


def _hung(found: re.Match[str]) -> str:
    return _open(len(found[2])) + found[1] + found[2]


def _kept_whole(found: re.Match[str]) -> str:
    words = _OPTION.sub(r'<span class="whole">\1</span>', found[1])
    return f"<code>{words}</code>"
