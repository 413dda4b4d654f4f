"""Every exception that unvanish raises on purpose.

    UnvanishError
    ├── CellError          the text or the declarations of a cell
    ├── OptionError        an invalid argument
    ├── FlowError          a measurement that has nothing to measure
    ├── DataError          a file or a text that cannot be trained on
    ├── RunError           a run folder, a checkpoint, a disk
    ├── ExportError        a model that cannot be written for others to run
    ├── NonFiniteError     a loss or a gradient became NaN or infinite
    └── MissingExtraError  an optional dependency is not installed

A message says what is wrong, why, and what to do. Those that stand for a bad value are `ValueError`s as
well, so that code which knows nothing of this package can catch them.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class UnvanishError(Exception):
    """Base of everything that unvanish raises on purpose."""


class CellError(UnvanishError, ValueError):
    """The text or the declarations of a cell are at fault.

    `line` and `column` count from 1 in the text as given; they are None where a declaration is at fault.
    """

    def __init__(
        self,
        what: str,
        mend: str = "",
        *,
        line: int | None = None,
        column: int | None = None,
        source: str = "",
    ) -> None:
        self.what, self.mend, self.line, self.column, self.source = what, mend, line, column, source
        super().__init__(self._text())

    def _text(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        mend = f" Mend: {self.mend}" if self.mend else ""
        shown = self.source.rstrip()
        if not shown or self.line is None or self.column is None or len(shown) > 160:
            return f"{place}{self.what}{mend}"
        before = "".join("\t" if character == "\t" else " " for character in shown[: self.column - 1])
        return f"{place}{self.what}{mend}\n    {shown}\n    {before.ljust(self.column - 1)}^"


class OptionError(UnvanishError, ValueError):
    """An argument has a value that is invalid."""


class FlowError(UnvanishError):
    """A measurement of the gradient has nothing to measure."""


class DataError(UnvanishError, ValueError):
    """A file or a text cannot be trained on."""


class RunError(UnvanishError):
    """A run folder, a checkpoint or a disk is not usable."""


class ExportError(UnvanishError, ValueError):
    """A model, or a part of it, cannot be written for others to run."""


class NonFiniteError(UnvanishError, ArithmeticError):
    """A loss or a gradient became NaN or infinite."""


class MissingExtraError(UnvanishError, ImportError):
    """An optional dependency is not installed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known words come nearest to a mistyped one, whatever their capitals.

    >>> nearest("lstn", ["lstm", "gru", "rnn"])
    "did you mean 'lstm'?"
    >>> nearest("GRU", ["lstm", "gru"])
    "did you mean 'gru'?"
    >>> nearest("zzz", ["lstm", "gru"])
    'known: gru, lstm'
    """
    names = sorted(known)
    small: dict[str, list[str]] = {}
    for name in names:
        small.setdefault(name.casefold(), []).append(name)
    found = difflib.get_close_matches(word.casefold(), small, n=3, cutoff=0.6)
    close = [name for one in found for name in small[one]]
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "known: " + (", ".join(names) or "none")


def printable(text: str) -> str:
    r"""Escape what a terminal would act on instead of showing: escape sequences, changes of direction, bytes.

    A line break and a tab stay. A byte of a file name that is not UTF-8 is written as that byte.

    >>> printable("a\x1b[31mb\u202e\udcefc")
    'a\\x1b[31mb\\u202e\\xefc'
    """
    return "".join(one if one in "\n\t" or one.isprintable() or one == " " else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # what Python makes of a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code == 0xA0 or unicodedata.category(character) == "Zs":  # spaces of all widths are harmless
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
