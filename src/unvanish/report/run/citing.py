"""What a reader takes along of a cell: its equations as LaTeX, its paper as BibTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_CITATION = re.compile(
    r"(?P<authors>[^()]{1,400}?)\s*\((?P<year>\d{4})\)\.\s+(?P<title>[^.?!]{1,400}[.?!])\s*(?P<where>.*)"
)
_SUBJECT = re.compile(r"\b(?!(?:from|into|over|using|with)\b)[^\W\d_]{4,}", re.IGNORECASE)
_BETWEEN = re.compile(r"(?<=\.),\s+(?=\w)")


def latex_block(lines: Sequence[str]) -> str:
    r"""Write equations as one environment of LaTeX, aligned where they are equal.

    >>> print(latex_block(["a = b", "c = d"]))
    \begin{align}
      a &= b \\
      c &= d
    \end{align}
    """
    aligned = (line.strip().replace(" = ", " &= ", 1) for line in lines)
    return "\\begin{align}\n" + " \\\\\n".join(f"  {line}" for line in aligned) + "\n\\end{align}"


def bibtex(cite: str, name: str) -> str:
    """Write a citation as an entry of BibTeX; where its parts cannot be told apart, as a note.

    >>> print(bibtex("Gers, F. A., Schmidhuber, J. (2000). Recurrent nets that time and count. IJCNN 2000.", "a"))
    @misc{gers2000recurrent,
      author = {Gers, F. A. and Schmidhuber, J.},
      year = {2000},
      title = {{Recurrent nets that time and count}},
      howpublished = {IJCNN 2000},
    }
    """
    said = " ".join(cite.split())
    found = _CITATION.fullmatch(said)
    if found is None:
        fields = {"note": _safe(said)}
        key = re.sub(r"\W", "", name) or "cell"
    else:
        authors = _authors(found["authors"])
        first = _plain(authors.partition(",")[0].partition(" and ")[0])
        subject = _SUBJECT.search(found["title"])
        key = first + found["year"] + (_plain(subject[0]) if subject else "")
        fields = {
            "author": _safe(authors),
            "year": found["year"],
            "title": f"{{{_safe(found['title'].rstrip('.'))}}}",
            "howpublished": _safe(found["where"].rstrip(".")),
        }
    written = "".join(f"  {field} = {{{value}}},\n" for field, value in fields.items() if value)
    return f"@misc{{{key},\n{written}}}"


def _plain(word: str) -> str:
    """Write a word in the letters that a key of BibTeX may have.

    >>> _plain("Lukoševičius"), _plain("El Hihi")
    ('lukosevicius', 'elhihi')
    """
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", word).lower())


def _authors(said: str) -> str:
    """Put *and* between names: a comma after an initial ends one, `et al.` leaves some out."""
    others = said.endswith("et al.")
    names = _BETWEEN.split(said.removesuffix("et al.").strip().rstrip(","))
    return " and ".join([*names, *(["others"] if others else [])])


def _safe(words: str) -> str:
    """Write what would be markup to LaTeX as text."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\]", "", words))
