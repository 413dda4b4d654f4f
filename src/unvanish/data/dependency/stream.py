"""Symbols by the gigabyte, read once and never held.

Counts of pairs are kept for every lag; the past is kept as far as the largest lag. For shuffled data every piece of
the stream is set beside stretches, drawn at random, of a pool: a uniform sample of the blocks read so far.

Shapes: T time, N pairs, K lags, D draws, R² cells of a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency.reading import check_table, symbols_of
from unvanish.data.dependency.significance import LONGEST_BLOCK, Tail, fit_tail
from unvanish.data.dependency.symbols import Alphabet, Codes, count_pairs, information
from unvanish.errors import DataError

HEAD = 1 << 20  # symbols that are looked at before the alphabet is settled; a stream that ends here is no stream
START = 1 << 17  # symbols in which the needed lag is measured
PIECE = 1 << 16
_READ = 1 << 18  # characters of a file at a time

Pieces = Iterator[NDArray[Any]]


def opened(source: Path | Iterable[Any]) -> tuple[NDArray[Any], Pieces | None]:
    """The head of a stream, and the pieces that follow: None where the head is all."""
    pieces = _recut(_characters(source) if isinstance(source, Path) else source, PIECE)
    head: list[NDArray[Any]] = []
    for piece in pieces:
        head.append(piece)
        if len(head) * PIECE > HEAD:
            return np.concatenate(head[:-1]), _again(piece, pieces)
    if not head:
        raise DataError("the stream holds no symbols: give a file or an iterator with something in it")
    return np.concatenate(head), None


def _again(first: NDArray[Any], rest: Pieces) -> Pieces:
    yield first
    yield from rest


def _characters(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            checked = False
            while text := file.read(_READ):
                if not checked:
                    check_table(text)
                    checked = True
                yield text
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason}): give an iterator over its bytes, or convert it"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give a file of text") from error


def _recut(chunks: Iterable[Any], size: int) -> Pieces:
    """The same symbols in pieces of one size, so that nothing depends on how they came."""
    held: list[NDArray[Any]] = []
    count = 0
    for chunk in chunks:
        symbols = _checked(chunk, held)
        while len(symbols):
            taken, symbols = symbols[: size - count], symbols[size - count :]
            held.append(taken)
            count += len(taken)
            if count == size:
                yield np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def _checked(chunk: Any, held: list[NDArray[Any]]) -> NDArray[Any]:
    symbols = symbols_of(chunk)
    if symbols.ndim != 1 or symbols.dtype.kind == "f":
        raise DataError(
            f"a chunk of the stream is {symbols.dtype} of shape {symbols.shape}: give text, bytes, or integers (n,)"
        )
    if held and (held[-1].dtype.kind in "US") != (symbols.dtype.kind in "US"):
        raise DataError("the stream mixes words and numbers: give chunks of one kind")
    return symbols


def measured(
    head_T: NDArray[Any], pieces: Pieces, lags_K: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[Tail]]:
    """Raw values (K,), numbers of pairs (K,), and what chance gives (K)."""
    alphabet = Alphabet.of(head_T)
    first_T = alphabet.encode(head_T)
    if (first_T == first_T[0]).all():
        raise DataError("the first 2^20 symbols are all the same: nothing can depend on a constant")
    counts = _Counts(lags_K, alphabet.size)
    null = _Shuffled(first_T, alphabet.size, draws, rng)
    for start in range(0, len(first_T), PIECE):
        counts.add(first_T[start : start + PIECE])
        null.add(first_T[start : start + PIECE], start)
    for piece in pieces:
        codes_N = alphabet.encode(piece)
        counts.add(codes_N)
        null.add(codes_N)
        null.remember(codes_N)
    raw_K = np.array([information(table, alphabet.size) for table in counts.tables])
    samples_K = np.array([table.sum() for table in counts.tables])
    chance_D = np.array([information(table, alphabet.size) * table.sum() for table in null.tables])
    chance = fit_tail(chance_D, shape=None, count=1.0)
    return raw_K, samples_K, [chance.scaled(1 / count) for count in samples_K.tolist()]


class _Counts:
    """A table of pairs for every lag."""

    def __init__(self, lags_K: NDArray[np.int64], size: int) -> None:
        self.lags, self.size = lags_K.tolist(), size
        self.tables = np.zeros((len(lags_K), size * size), dtype=np.int64)
        self.past = np.empty(0, dtype=np.uint16)

    def add(self, codes_N: Codes) -> None:
        """Count the pairs whose later symbol is in this piece."""
        both = np.concatenate([self.past, codes_N])
        for table, lag in zip(self.tables, self.lags, strict=True):
            y_N = both[max(len(self.past), lag) :]
            x_N = both[len(both) - len(y_N) - lag : len(both) - lag]
            table += count_pairs(x_N, y_N, self.size, self.size)
        self.past = both[-self.lags[-1] :]


class _Shuffled:
    """A table for every draw, of each piece beside stretches of the pool."""

    def __init__(self, head_T: Codes, size: int, draws: int, rng: np.random.Generator) -> None:
        self.pool, self.size, self.rng = head_T.copy(), size, rng
        self.tables = np.zeros((draws, size * size), dtype=np.int64)
        self.blocks = len(head_T) // LONGEST_BLOCK
        self.seen = self.blocks

    def add(self, codes_N: Codes, place: int | None = None) -> None:
        """Count a piece, itself at `place` in the pool, beside stretches from elsewhere."""
        length, whole = LONGEST_BLOCK, len(self.pool)
        ring = np.concatenate([self.pool, self.pool[:length]])
        count = -(-len(codes_N) // length)
        # Stretches begin anywhere: were they whole blocks, a period that divides their length would meet itself.
        first, room = (0, whole) if place is None else (place + PIECE + length, whole - PIECE - 3 * length)
        for table in self.tables:
            starts = (first + self.rng.integers(0, room, count)) % whole
            y_N = np.concatenate([ring[start : start + length] for start in starts])[: len(codes_N)]
            table += count_pairs(codes_N, y_N, self.size, self.size)

    def remember(self, codes_N: Codes) -> None:
        """Let each whole block of a piece into the pool with the chance that keeps it a uniform sample."""
        for start in range(0, len(codes_N) - LONGEST_BLOCK + 1, LONGEST_BLOCK):
            self.seen += 1
            chosen = int(self.rng.integers(0, self.seen))
            if chosen < self.blocks:
                at = chosen * LONGEST_BLOCK
                self.pool[at : at + LONGEST_BLOCK] = codes_N[start : start + LONGEST_BLOCK]
