"""A file, or a folder with train.txt and valid.txt, -> its symbols as numbers, to train on and to validate on.

Shapes: N symbols.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.reading import read_blocks, size_of
from unvanish.data.storage import PART, Store
from unvanish.data.text import VALID_SHARE, Corpus, load_corpus, standard_library_text
from unvanish.data.tokens.symbols import UNKNOWN_WORD, Bytes, Characters, Pieces, Symbols, Words
from unvanish.errors import DataError, MissingExtraError, OptionError, nearest

Cut = Literal["chars", "bytes", "words", "bpe"]
CUTS: tuple[str, ...] = get_args(Cut)
MOST_WORDS, MOST_PIECES = 10_000, 4_000
FEWEST_PIECES = 256  # the bytes
PIECE = 1 << 17  # characters
_SPACES = "\x1c\x1d\x1e\x1f"  # for Python only
# Categories of Unicode that Python and Rust both count among the letters and digits, or both do not.
_AGREED = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "So"})
STANDARD_LIBRARY = "the Python standard library on this machine"
PARTS = ("train", "valid", "test")

Blocks = Callable[[], Iterator[str]]


@dataclass(frozen=True, eq=False)
class Tokens:
    """A text as numbers, of the smallest type that holds them.

    Attributes:
        parts: by name: `train`, `valid`, and `test` where there is one.
        digest: what tells this text from another.
        told: what was found and done, a line each.
    """

    source: str
    symbols: Symbols
    parts: dict[str, Tensor]
    digest: str
    told: tuple[str, ...] = ()

    @property
    def unknown(self) -> dict[str, float]:
        """Which share of each part is not known."""
        return {name: float((part == 0).float().mean()) if len(part) else 0.0 for name, part in self.parts.items()}


def read_tokens(
    source: Path | None, cut: str = "chars", *, most: int | None = None, symbols: Symbols | None = None
) -> Tokens:
    """Read a text as numbers.

    Args:
        source: a UTF-8 file, of which the last tenth is to validate on; a folder with train.txt, valid.txt and,
            where there is one, test.txt; None for the standard library's source text.
        cut: what it is cut into: `chars`, `bytes`, `words` or `bpe`.
        most: of words, how many are told apart; of pieces, how many are made.
        symbols: those of a run, in the place of what this text would give.

    Raises:
        DataError: the source holds no text.
        OptionError: an unknown cut, or `most` for what has a fixed number of symbols.
    """
    if cut not in CUTS:
        raise OptionError(f"text is not cut into {cut}: {nearest(cut, CUTS)}")
    if most is not None and cut not in ("words", "bpe"):
        raise OptionError(f"--vocabulary is for words and bpe: {cut} are as many as there are")
    if cut == "chars":
        return _characters(load_corpus(source), symbols)
    texts = _texts(source)
    seen = _Seen()
    streams = {name: seen.through(blocks, name) for name, blocks in texts.items()}
    read: Callable[..., tuple[Symbols, dict[str, NDArray[Any]]]]
    read = {"bytes": _bytes, "words": _words, "bpe": _pieces}[cut]
    found, numbers = read(streams, most, symbols)
    parts = {name: torch.from_numpy(one) for name, one in numbers.items()}
    if "valid" not in parts:
        whole = parts["train"]
        kept = len(whole) - len(whole) // VALID_SHARE
        parts = {"train": whole[:kept], "valid": whole[kept:]}
    tokens = Tokens(STANDARD_LIBRARY if source is None else str(source), found, parts, seen.digest())
    return _told(tokens)


def _told(tokens: Tokens) -> Tokens:
    shares = {name: share for name, share in tokens.unknown.items() if share}
    if not shares:
        return tokens
    listed = ", ".join(f"{share:.2%} of {name}" for name, share in shares.items())
    line = f"{len(tokens.symbols) - 1:,} {tokens.symbols.unit}s are told apart; unknown: {listed}"
    return Tokens(tokens.source, tokens.symbols, tokens.parts, tokens.digest, (*tokens.told, line))


def _characters(corpus: Corpus, symbols: Symbols | None) -> Tokens:
    known = symbols if isinstance(symbols, Characters) else Characters(corpus.train.characters)
    pairs = [(name, getattr(corpus, name)) for name in PARTS]
    parts = {name: known.encode_compactly(text) for name, text in pairs if text is not None}
    return Tokens(corpus.source, known, parts, corpus.digest())


def _texts(source: Path | None) -> dict[str, Blocks]:
    """The texts of a source by part, each as something that reads it block by block."""
    if source is None:
        return {"train": lambda: iter([standard_library_text()])}
    if source.is_dir():
        found = {name: source / f"{name}.txt" for name in PARTS}
        return {name: _reader(path) for name, path in found.items() if name != "test" or path.is_file()}
    return {"train": _reader(source)}


def _reader(path: Path) -> Blocks:
    size = size_of(path)  # refuses what is not a file
    return lambda: read_blocks(path, size)


class _Seen:
    """Hashes every text while it is read for the first time."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}

    def through(self, blocks: Blocks, name: str) -> Blocks:
        """Return a reader of the same text that hashes it."""

        def read() -> Iterator[str]:
            found = hashlib.sha256()
            for block in blocks():
                found.update(block.encode("utf-8", "surrogatepass"))
                yield block
            self._hashes[name] = found

        return read

    def digest(self) -> str:
        """Return what tells these texts from others."""
        whole = hashlib.sha256()
        for name in sorted(self._hashes):
            whole.update(f"{name}:{self._hashes[name].hexdigest()};".encode())
        return whole.hexdigest()[:16]


def _stored(parts: Iterable[NDArray[Any]], top: int) -> NDArray[Any]:
    """Put arrays of numbers up to `top` one after the other, in the smallest type that holds them."""
    store = Store(_smallest(top))
    for part in parts:
        store.append(part)
    return _not_empty(store.whole())


def _smallest(top: int) -> type[np.integer[Any]]:
    kinds: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int16, np.int32)
    return next(kind for kind in kinds if top <= np.iinfo(kind).max)


def _not_empty(numbers: NDArray[Any]) -> NDArray[Any]:
    if not len(numbers):
        raise DataError("the source holds no text: name a file with text")
    return numbers


def _bytes(
    texts: dict[str, Blocks], most: int | None, symbols: Symbols | None
) -> tuple[Symbols, dict[str, NDArray[Any]]]:
    found = Bytes()
    return found, {
        name: _stored((found.encode(block).numpy() for block in blocks()), len(found) - 1)
        for name, blocks in texts.items()
    }


# -- words -------------------------------------------------------------------------------------------------------


def _whole(blocks: Iterable[str]) -> Iterator[str]:
    """The blocks, cut between words rather than within one."""
    held = ""
    for block in blocks:
        text = held + block
        end = max(text.rfind(" "), text.rfind("\n"))
        yield text[: end + 1]
        held = text[end + 1 :]
    yield held


def _words(
    texts: dict[str, Blocks], most: int | None, symbols: Symbols | None
) -> tuple[Symbols, dict[str, NDArray[Any]]]:
    """Number every word as it comes, then by how often it came in the text to train on."""
    first = itertools.islice(texts["train"](), 1)
    spaced = symbols.spaced if isinstance(symbols, Words) else any(UNKNOWN_WORD in block for block in first)
    pattern = Words((), spaced=spaced).pattern
    places: defaultdict[str, int] = defaultdict()
    places.default_factory = places.__len__
    coded: dict[str, NDArray[Any]] = {}
    for name, blocks in texts.items():
        store = Store(np.int32)
        for block in _whole(blocks()):
            store.append(_numbered(block, pattern, places))
        coded[name] = _not_empty(store.whole())
    counts = np.zeros(len(places), np.int64)
    for part in _in_parts(coded["train"]):
        counts += np.bincount(part, minlength=len(places))
    words = list(places)
    if not isinstance(symbols, Words):
        size = MOST_WORDS if most is None else most
        # The most frequent first, and of equal ones the first in the alphabet: the same words give the same list.
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda place: (-counts[place], words[place]))
        symbols = Words([words[place] for place in order if words[place] != UNKNOWN_WORD][:size], spaced=spaced)
    numbers = symbols.numbers
    table = np.array([numbers.get(word, 0) for word in words], np.int32)
    top = len(symbols) - 1
    return symbols, {
        name: _stored((table[part] for part in _in_parts(whole)), top) for name, whole in coded.items()
    }


def _numbered(block: str, pattern: re.Pattern[str], places: Mapping[str, int]) -> NDArray[np.int32]:
    """The number of each word of a block; where a word has none, `places` gives it the next.

    Polars finds words four times as fast, where it takes the same signs for letters, digits and spaces.
    """
    agreed = not any(sign in block for sign in _SPACES) if block.isascii() else all(map(_agreed, set(block)))
    if not agreed and len(block) > 2 * PIECE:  # a sign or two, of a million
        pieces = (block[start : start + PIECE] for start in range(0, len(block), PIECE))
        return np.concatenate([_numbered(piece, pattern, places) for piece in _whole(pieces)])
    if not agreed:
        return np.fromiter(map(places.__getitem__, pattern.findall(block)), np.int32)
    import polars as pl

    words = pl.Series([block]).str.extract_all(pattern.pattern).explode().drop_nulls()
    if not len(words):
        return np.zeros(0, np.int32)
    kinds = words.cast(pl.Categorical).to_physical().to_numpy()
    first = np.full(int(kinds.max()) + 1, -1, np.int64)
    first[kinds[::-1]] = np.arange(len(kinds))[::-1]
    known = np.flatnonzero(first >= 0)
    numbers = np.zeros(len(first), np.int32)
    numbers[known] = [places[word] for word in words.gather(first[known]).to_list()]
    found: NDArray[np.int32] = numbers[kinds]
    return found


@functools.cache
def _agreed(sign: str) -> bool:
    if sign.isascii():
        return sign not in _SPACES
    kind = unicodedata.category(sign)
    if kind == "So" and "LATIN" in unicodedata.name(sign):  # Ⓐ is a letter for Rust only
        return False
    return kind in _AGREED


def _in_parts(whole: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (whole[start : start + PART] for start in range(0, len(whole), PART))


# -- pieces ------------------------------------------------------------------------------------------------------


def _pieces(
    texts: dict[str, Blocks], most: int | None, symbols: Symbols | None
) -> tuple[Symbols, dict[str, NDArray[Any]]]:
    if not isinstance(symbols, Pieces):
        symbols = _trained(texts["train"], MOST_PIECES if most is None else most)
    found = symbols

    def coded(blocks: Blocks) -> Iterator[NDArray[Any]]:
        for block in _whole(blocks()):
            yield from found.encode_blocks(_lines(block))

    return found, {name: _stored(coded(blocks), len(found) - 1) for name, blocks in texts.items()}


def _lines(block: str) -> list[str]:
    return block.splitlines(keepends=True)


def _trained(blocks: Blocks, most: int) -> Pieces:
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as fault:
        raise MissingExtraError("pieces are made by tokenizers: pip install 'unvanish[app]'") from fault
    if most < FEWEST_PIECES:
        raise OptionError(f"--vocabulary {most} is too small: pieces begin with {FEWEST_PIECES} bytes")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(map(_lines, _whole(blocks())), trainer)  # one long string takes it minutes
    return Pieces(tokenizer.to_str())
