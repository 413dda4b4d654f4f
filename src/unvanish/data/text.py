"""Text as a stream of characters: reading it, numbering it, cutting it into windows.

Shapes: N characters, T time (window length), B batch (parallel streams).
"""

from __future__ import annotations

import hashlib
import itertools
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unvanish.data.reading import read_blocks, size_of
from unvanish.data.storage import room_for
from unvanish.errors import DataError

Numbers = np.ndarray[Any, np.dtype[Any]]

VALID_SHARE = 10  # the last tenth of a single file is kept for validation
STANDARD_LIBRARY_CHARACTERS = 1_500_000
PART = 1 << 20  # characters that are worked on at a time
CODES, UNSEEN = 0x110000, 0xFFFFFFFF  # how many code points there are; what is not the place of one
_NUMPY = {torch.uint8: np.uint8, torch.int16: np.int16, torch.int32: np.int32}


class Text:
    """Characters, each as its place among those that occur: a byte where there are no more than 256 of them.

    >>> text = Text.of("abba")
    >>> text[1:], len(text), text.characters
    ('bba', 4, 'ab')
    """

    def __init__(self, places_N: Numbers, codes: Numbers) -> None:
        self.places_N, self.codes = places_N, codes

    @classmethod
    def of(cls, text: str) -> Text:
        """Take a string."""
        return cls.collect([text], len(text))

    @classmethod
    def collect(cls, blocks: Iterable[str], most: int) -> Text:
        """Take a text in blocks, of which is known how many characters it has at most."""
        places_N: Numbers = room_for(most, np.uint8)  # memory that is not written to costs nothing
        place_of = np.full(CODES, UNSEEN, np.uint32)
        seen, count = 0, 0
        for block in blocks:
            codes = _codes(block)
            new = np.unique(codes[place_of[codes] == UNSEEN])
            place_of[new] = np.arange(seen, seen + len(new))
            seen += len(new)
            if np.iinfo(places_N.dtype).max < seen - 1:
                wider = room_for(most, np.min_scalar_type(seen - 1))
                wider[:count] = places_N[:count]
                places_N = wider
            places_N[count : count + len(codes)] = place_of[codes]
            count += len(codes)
        (codes,) = np.nonzero(place_of != UNSEEN)
        sorted_place = np.empty(seen, places_N.dtype)
        sorted_place[place_of[codes]] = np.arange(seen)
        for part in _parts(count):
            places_N[part] = sorted_place[places_N[part]]
        return cls(places_N[:count], codes.astype(np.uint32))

    def __len__(self) -> int:
        return len(self.places_N)

    def __getitem__(self, part: slice) -> str:
        return self.codes[self.places_N[part]].tobytes().decode("utf-32-le")

    def __str__(self) -> str:
        return self[:]

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block

    def blocks(self) -> Iterator[str]:
        """Return the text in strings that are not long."""
        return (self[part] for part in _parts(len(self)))

    def part(self, part: slice) -> Text:
        """Return a part of the text, which shares its memory."""
        return Text(self.places_N[part], self.codes)

    @property
    def characters(self) -> str:
        """The characters that occur, in the order of their code points."""
        counts = sum(
            (np.bincount(self.places_N[part], minlength=len(self.codes)) for part in _parts(len(self))),
            np.zeros(len(self.codes), np.int64),
        )
        return self.codes[counts > 0].tobytes().decode("utf-32-le")


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + PART, count)) for start in range(0, count, PART))


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text to train on, one to validate on, and one to test on where there is any."""

    train: Text
    valid: Text
    source: str
    test: Text | None = None

    def digest(self) -> str:
        """Return what tells this corpus from another."""
        found = hashlib.sha256()
        rest = [] if self.test is None else itertools.chain(["\0"], self.test.blocks())
        for block in itertools.chain(self.train.blocks(), ["\0"], self.valid.blocks(), rest):
            found.update(block.encode())
        return found.hexdigest()[:16]


def load_corpus(source: Path | None) -> Corpus:
    """Read a UTF-8 file, a folder with train.txt and valid.txt, or (None) the standard library's source text.

    Raises `DataError` where there is no text in it.
    """
    if source is None:
        return _split(Text.of(standard_library_text()), "the Python standard library on this machine")
    if _is_folder(source):
        train, valid = (read_text(source / name) for name in ("train.txt", "valid.txt"))
        test = read_text(source / "test.txt") if (source / "test.txt").is_file() else None
        return Corpus(train, valid, str(source), test)
    return _split(read_text(source), str(source))


def _is_folder(source: Path) -> bool:
    try:
        return source.is_dir()
    except OSError:  # no permission, a name too long: reading it says so
        return False


def read_text(path: Path) -> Text:
    """Read a text file. Raises `DataError` where it is not one."""
    size = size_of(path)
    text = Text.collect(read_blocks(path, size), size)
    if not len(text):
        raise DataError(f"{path} is empty: name a file with text in it")
    return text


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


def _split(text: Text, source: str) -> Corpus:
    cut = len(text) - len(text) // VALID_SHARE
    return Corpus(text.part(slice(cut)), text.part(slice(cut, None)), source)


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
    def of(cls, text: str | Text) -> Vocabulary:
        """Number the characters of a text."""
        return cls((Text.of(text) if isinstance(text, str) else text).characters)

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tensor:
        """Return the numbers of the characters of a text, (N,) int64."""
        return torch.from_numpy(self._numbers(_codes(text)))

    def encode_compactly(self, text: Text) -> Tensor:
        """Return the numbers of the characters of a text, (N,) of the smallest type that holds them."""
        kind = next(
            kind for kind in (torch.uint8, torch.int16, torch.int32) if len(self) - 1 <= torch.iinfo(kind).max
        )
        numbers_N = torch.from_numpy(room_for(len(text), _NUMPY[kind]))
        table = self._numbers(text.codes)
        for part in _parts(len(text)):
            numbers_N[part] = torch.from_numpy(table[text.places_N[part]])
        return numbers_N

    def _numbers(self, codes: Numbers) -> Numbers:
        index = np.searchsorted(self._codes, codes).clip(max=max(len(self._codes) - 1, 0))
        known = self._codes[index] == codes if len(self._codes) else np.zeros(len(codes), bool)
        return np.where(known, index + 1, 0).astype(np.int64)

    def decode(self, numbers: list[int]) -> str:
        """Return the text of a list of numbers."""
        return "".join(self.characters[n - 1] if n else self.UNKNOWN for n in numbers)


def _codes(text: str) -> Numbers:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def random_borders(steps: int, length: int, rng: np.random.Generator) -> list[int]:
    """Cut so many steps into as many windows as `length` gives, of random lengths (Merity et al. 2018).

    Most are about `length`, one in twenty about half of that, so that their borders fall elsewhere in each epoch.

    >>> random_borders(100, 30, np.random.default_rng(1))
    [0, 30, 45, 71, 100]
    """
    count = -(-steps // length)
    about = np.where(rng.random(count) < 0.95, length, length / 2)
    drawn = np.maximum(rng.normal(about, length / 10), length / 10)
    ends = np.rint(np.cumsum(drawn) / drawn.sum() * steps).astype(int)
    return [0, *ends.tolist()]


class Windows:
    """A text cut into B parallel streams, read in windows of T steps, each carrying on where the last ended.

    Every character but the first of each stream is predicted once; the last window may be shorter. Iterating
    gives (x_TB, y_TB): the characters, and those that follow them, as int64 from numbers of any type. `first` is
    the window to begin with, once: a resumed run goes on in the middle. `borders` cuts the steps into as many
    windows of other lengths. With `share` (k, n) it gives the k-th of n even parts of the streams; where that has
    none, the first with nothing that is wanted.

    >>> windows = Windows(torch.arange(14), length=3, batch_size=2)
    >>> len(windows), [x.T.tolist() for x, _ in windows]
    (2, [[[0, 1, 2], [7, 8, 9]], [[3, 4, 5], [10, 11, 12]]])
    """

    def __init__(
        self,
        numbers: Tensor,
        length: int,
        batch_size: int,
        borders: Callable[[int], list[int]] | None = None,
    ) -> None:
        steps = len(numbers) // batch_size
        self.streams_BN = numbers[: steps * batch_size].view(batch_size, steps)
        self.length, self.first, self.borders = length, 0, borders
        self.share = (0, 1)

    def __len__(self) -> int:
        return max(0, -(-(self.streams_BN.shape[1] - 1) // self.length))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        first, self.first = self.first, 0
        steps = self.streams_BN.shape[1] - 1
        borders = [*range(0, steps, self.length), steps] if self.borders is None else self.borders(steps)
        for start, stop in itertools.islice(itertools.pairwise(borders), first, None):
            window_NB = self.streams_BN[:, start : stop + 1].t().long().contiguous()
            rank, world = self.share
            own_NB = window_NB.tensor_split(world, 1)[rank].contiguous()
            yield (own_NB[:-1], own_NB[1:]) if own_NB.shape[1] else (window_NB[:-1, :1].contiguous(), None)


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
