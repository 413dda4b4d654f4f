"""Text as a stream of characters: reading it, numbering it, cutting it into windows.

Shapes: N characters, T time (window length), B batch (parallel streams).
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unvanish.errors import DataError

VALID_SHARE = 10  # the last tenth of a single file is kept for validation
STANDARD_LIBRARY_CHARACTERS = 1_500_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text to train on and one to validate on."""

    train: str
    valid: str
    source: str


def load_corpus(source: Path | None) -> Corpus:
    """Read a UTF-8 file, a folder with train.txt and valid.txt, or (None) the standard library's source text.

    Raises `DataError` where there is no text in it.
    """
    if source is None:
        return _split(standard_library_text(), "the Python standard library on this machine")
    if _is_folder(source):
        train, valid = (read_text(source / name) for name in ("train.txt", "valid.txt"))
        return Corpus(train, valid, str(source))
    return _split(read_text(source), str(source))


def _is_folder(source: Path) -> bool:
    try:
        return source.is_dir()
    except OSError:  # no permission, a name too long: reading it says so
        return False


def read_text(path: Path) -> str:
    """Read a UTF-8 file, saying what is wrong where it is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}: name a text file, or a folder with train.txt and valid.txt"
        ) from None
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}; name a text file") from fault
    if not content:
        raise DataError(f"{path} is empty: name a file with text in it")
    if b"\0" in content:
        raise DataError(f"{path} is a binary file (byte 0 at offset {content.index(0)}): name a text file")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as fault:
        offset = fault.start + len(content) - len(fault.object)  # the codec counts from behind a byte order mark
        wrong = f"byte {content[offset]:#04x} at offset {offset}"
        raise DataError(f"{path} is not UTF-8 text ({wrong}): convert it with iconv -t UTF-8") from fault


def standard_library_text(limit: int = STANDARD_LIBRARY_CHARACTERS) -> str:
    """Return the source text of the standard library's modules, in order of their names, up to `limit`."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found, count = [], 0
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        found.append(text[: limit - count])
        count += len(found[-1])
        if count >= limit:
            break
    if not found:
        raise DataError(f"this Python has no source text in {folder}: name a text file to train on")
    return "\n".join(found)[:limit]


def _split(text: str, source: str) -> Corpus:
    cut = len(text) - len(text) // VALID_SHARE
    return Corpus(text[:cut], text[cut:], source)


class Vocabulary:
    """The characters of a text, numbered from 1 in the order of their code points; 0 is any other.

    >>> vocabulary = Vocabulary.of("abba")
    >>> vocabulary.encode("abc").tolist(), vocabulary.decode([2, 1])
    ([1, 2, 0], 'ba')
    """

    UNKNOWN = "\N{REPLACEMENT CHARACTER}"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._codes = _codes(characters)

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Number the characters of a text."""
        return cls("".join(chr(code) for code in np.unique(_codes(text))))

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tensor:
        """Return the numbers of the characters of a text, (N,) int64."""
        codes = _codes(text)
        index = np.searchsorted(self._codes, codes).clip(max=max(len(self._codes) - 1, 0))
        known = self._codes[index] == codes if len(self._codes) else np.zeros(len(codes), bool)
        return torch.from_numpy(np.where(known, index + 1, 0).astype(np.int64))

    def decode(self, numbers: list[int]) -> str:
        """Return the text of a list of numbers."""
        return "".join(self.characters[n - 1] if n else self.UNKNOWN for n in numbers)


def _codes(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


class Windows:
    """A text cut into B parallel streams, read in windows of T steps, each carrying on where the last ended.

    Every character but the first of each stream is predicted once; the last window may be shorter. Iterating
    gives (x_TB, y_TB): the characters, and those that follow them. `first` is the window to begin with, once:
    a resumed run goes on in the middle.

    >>> windows = Windows(torch.arange(14), length=3, batch_size=2)
    >>> len(windows), [x.T.tolist() for x, _ in windows]
    (2, [[[0, 1, 2], [7, 8, 9]], [[3, 4, 5], [10, 11, 12]]])
    """

    def __init__(self, numbers: Tensor, length: int, batch_size: int) -> None:
        steps = len(numbers) // batch_size
        self.streams_NB = numbers[: steps * batch_size].view(batch_size, steps).t().contiguous()
        self.length, self.first = length, 0

    def __len__(self) -> int:
        return max(0, -(-(len(self.streams_NB) - 1) // self.length))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first, self.first = self.first, 0
        for window in range(first, len(self)):
            start = window * self.length
            stop = min(start + self.length, len(self.streams_NB) - 1)
            yield self.streams_NB[start:stop], self.streams_NB[start + 1 : stop + 1]


def check_corpus(corpus: Corpus, length: int, batch_size: int) -> None:
    """Refuse a text that does not fill one window of every stream."""
    needed = (length + 1) * batch_size
    if len(corpus.train) < length + 1:
        raise DataError(
            f"{corpus.source} has {len(corpus.train):,} characters to train on, fewer than one window of "
            f"{length} steps and the character after it: use a longer text, or a smaller --length"
        )
    if len(corpus.train) < needed:
        fitting = len(corpus.train) // (length + 1)
        raise DataError(
            f"{corpus.source} has {len(corpus.train):,} characters to train on, {batch_size} streams of one window "
            f"need {needed:,}: use --batch-size {fitting}, or a smaller --length"
        )
    if len(corpus.valid) < 2:
        raise DataError(f"{corpus.source} leaves no text to validate on: use a longer text")
