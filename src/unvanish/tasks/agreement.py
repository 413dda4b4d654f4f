"""Number agreement across a relative clause: "the cat , which … , was full", "the cats , which … , were full".

To say whether `was` or `were` follows, a network has to keep the number of the subject through a clause of any
length. Nouns of the other number in between, the attractors, mislead whoever keeps only the latest noun (Linzen,
Dupoux, Goldberg 2016, "Assessing the ability of LSTMs to learn syntax-sensitive dependencies").

Shapes: T steps, B sentences, V words.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.checks import whole_number
from unvanish.errors import DataError, OptionError, printable

NOUNS = (
    *(("cat", "cats"), ("dog", "dogs"), ("bird", "birds"), ("horse", "horses"), ("child", "children")),
    *(("teacher", "teachers"), ("doctor", "doctors"), ("farmer", "farmers"), ("singer", "singers")),
    *(("friend", "friends"), ("sailor", "sailors"), ("king", "kings"), ("mouse", "mice"), ("woman", "women")),
)
# In the past, where verbs are the same for one and for many.
DID_TO = ("chased", "saw", "followed", "helped", "liked", "met", "heard", "found")
DID = ("slept", "sang", "waited", "laughed", "walked", "smiled")
WHERE = ("near", "behind", "beside", "with")
HOW = ("quietly", "slowly", "often", "happily", "again", "there", "alone", "outside")
BE = ("was", "were")
ADJECTIVES = ("full", "happy", "tired", "ready", "hungry", "old")
_FORMS = [word for pair in NOUNS for word in pair]
WORDS = ("the", ",", "which", "and", ".", *BE, *_FORMS, *DID_TO, *DID, *WHERE, *HOW, *ADJECTIVES)
CODES = {word: code for code, word in enumerate(WORDS)}
FRAME = 4  # steps from the noun to the verb beside the clause: the noun itself, two commas, which
NOUN_STEPS = 3  # of a clause for each attractor: a word before it, `the`, the noun


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences of one distance, as codes of `WORDS`.

    Attributes:
        codes_TB: the words.
        plural_B: whether the subject is.
        verb: the step of the verb, the same in all.
    """

    codes_TB: Tensor
    plural_B: Tensor
    verb: int

    def text(self) -> list[str]:
        """The sentences as text."""
        return [" ".join(WORDS[code] for code in row) for row in self.codes_TB.T.tolist()]


@dataclass(frozen=True)
class Agreement:
    """Sentences whose verb stands `distance` steps after its subject, with so many nouns in between.

    To train on, each of these nouns is as often of the subject's number as of the other, so that nothing but the
    subject tells the verb. To test with (`hard`), all of them are attractors, of the other number.

    Attributes:
        chance: the share that is right by guessing; `solved`: from which on the task is.
        source: where it comes from.

    >>> task = Agreement(distance=12, attractors=2)
    >>> print(task.draw(1, seed=2).text()[0])
    the horses , which the king behind the dog followed again alone , were hungry .
    """

    distance: int
    attractors: int = 0
    chance: float = 0.5
    solved: float = 0.99
    source: str = "Linzen, Dupoux, Goldberg 2016"

    def __post_init__(self) -> None:
        whole_number(self.distance, "distance", give="how many steps lie between subject and verb")
        whole_number(self.attractors, "attractors", at_least=0, give="how many nouns of the other number")
        least = FRAME + max(1, NOUN_STEPS * self.attractors)
        if self.distance < least:
            raise OptionError(
                f"{self.attractors} attractors do not fit into a distance of {self.distance}: give {least} or more"
            )

    @property
    def needed(self) -> int:
        """The needed lag: from the verb back to its subject."""
        return self.distance

    @property
    def steps(self) -> int:
        """How many words a sentence has."""
        return self.distance + 4

    def draw(self, rows: int, seed: int, *, hard: bool = False) -> Sentences:
        """Draw sentences; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        plural_B = rng.integers(0, 2, rows)
        sentences = [[CODES[word] for word in self._sentence(bool(one), hard, rng)] for one in plural_B]
        codes_TB = torch.tensor(sentences, dtype=torch.long, device="cpu").T.contiguous()
        return Sentences(codes_TB, torch.from_numpy(plural_B).bool(), self.distance + 1)

    def accuracy(self, logits_TBV: Tensor, sentences: Sentences) -> float:
        """The share of sentences in which the right form of the verb is likelier than the other, from the words
        before it."""
        was, were = (logits_TBV[sentences.verb - 1, :, CODES[word]] for word in BE)
        return float(((were > was) == sentences.plural_B.to(was.device)).float().mean())

    def _sentence(self, plural: bool, hard: bool, rng: np.random.Generator) -> list[str]:
        subject = NOUNS[rng.integers(len(NOUNS))][plural]
        between = [not plural if hard else bool(rng.integers(2)) for _ in range(self.attractors)]
        clause = self._clause(between, rng)
        return ["the", subject, ",", "which", *clause, ",", BE[plural], _one(ADJECTIVES, rng), "."]

    def _clause(self, plurals: Sequence[bool], rng: np.random.Generator) -> list[str]:
        """A clause of the length that is wanted, with nouns of these numbers at its beginning."""
        words: list[str] = []
        for plural in plurals:
            words += [_one(WHERE, rng)] * bool(words) + ["the", NOUNS[rng.integers(len(NOUNS))][plural]]
        words.append(_one(DID_TO if words else DID, rng))
        left = self.distance - FRAME - len(words)
        while left > 0:
            more = ["and", _one(DID, rng), _one(HOW, rng)] if left >= 3 and rng.random() < 0.5 else [_one(HOW, rng)]
            words += more
            left -= len(more)
        return words


def _one(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


# -- public corpora ----------------------------------------------------------------------------------------------

COLUMNS = ("orig_sentence", "verb_pos", "verb_index", "distance", "n_diff_intervening")
CODE = "utf-8-sig"  # with or without a mark of its order of bytes
NUMBERS = {"VBZ": False, "VBP": True}


@dataclass(frozen=True)
class Found:
    """A sentence of a corpus: its words, where its verb is, whether that is plural, and how hard it is."""

    words: tuple[str, ...]
    verb: int
    plural: bool
    distance: int
    attractors: int


def read_agreement(path: Path) -> list[Found]:
    """Read a corpus of agreement: tab-separated, packed or not, with the columns of Linzen et al. (2016).

    Raises:
        DataError: a column is missing, or a row is damaged; with its number.
    """
    found = []
    for number, row in enumerate(_rows(path), 2):
        missing = next((name for name in COLUMNS if row.get(name) is None), None)
        if missing is not None:
            raise DataError(f"{path}, row {number}: it has no {missing}; a row has {', '.join(COLUMNS)}")
        try:
            words = tuple(row["orig_sentence"].split())
            verb = int(row["verb_index"]) - 1
            one = Found(words, verb, NUMBERS[row["verb_pos"]], int(row["distance"]), int(row["n_diff_intervening"]))
        except (KeyError, ValueError) as fault:
            raise DataError(f"{path}, row {number}: {printable(str(fault))} is not understood") from fault
        if not 0 <= verb < len(words):
            raise DataError(f"{path}, row {number}: word {verb + 1} of {len(words)} cannot be the verb")
        found.append(one)
    if not found:
        raise DataError(f"{path} has no rows: name a corpus with a head and sentences")
    return found


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        packed = path.read_bytes()[:2] == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding=CODE) if packed else path.open(encoding=CODE) as file:
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"{path} cannot be read: {printable(str(fault))}") from fault


def by_difficulty(found: Sequence[Found], right: NDArray[np.bool_]) -> dict[tuple[int, int], tuple[int, int]]:
    """How many were right, of how many, by distance and attractors."""
    told: dict[tuple[int, int], tuple[int, int]] = {}
    for one, good in zip(found, right.tolist(), strict=True):
        before = told.get((one.distance, one.attractors), (0, 0))
        told[one.distance, one.attractors] = before[0] + good, before[1] + 1
    return told
