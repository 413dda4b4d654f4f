"""What a text is cut into, and which number each of these has; 0 is what is not known."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.text import Vocabulary
from unvanish.errors import RunError

UNKNOWN_WORD = "<unk>"
# <unk> and the like; numbers with their marks; a clitic by itself; words with what is joined to them; a mark; a
# line's end.
WORD = re.compile(
    r"<\w+>|\d+(?:[.,]\d+)*|['’](?:s|m|d|re|ve|ll|t)\b|[^\W\d_]\w*(?:['’-]\w+)*|\w+|[^\w\s]|\n",
)
SPACED = re.compile(r"\S+|\n")
NO_SPACE_BEFORE = frozenset(".,;:!?)]}%’'") | {"'s", "n't", "'m", "'d", "'re", "'ve", "'ll", "\n"}
NO_SPACE_AFTER = frozenset("([{$\n")


class Symbols(ABC):
    """The symbols of a run: text to numbers and back. 0 is what is not known; it is never written.

    Attributes:
        kind: how a text is cut.
        unit: what one of them is called.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int:
        """How many numbers there are, the 0 among them."""

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text, (N,) int64."""

    @abstractmethod
    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of numbers."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""

    def cut(self, text: str) -> Sequence[str]:
        """Cut a text into its symbols."""
        return [self.decode([number]) for number in self.encode(text).tolist()]


class Characters(Vocabulary, Symbols):
    """One symbol for each character: see `Vocabulary`."""

    kind, unit = "chars", "character"

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of numbers."""
        return super().decode(list(numbers))

    def cut(self, text: str) -> Sequence[str]:
        """Cut a text into its characters."""
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {"kind": self.kind, "characters": self.characters}


class Bytes(Symbols):
    """The bytes of the text in UTF-8, each by its value and one.

    >>> Bytes().encode("é").tolist(), Bytes().decode([0xC3 + 1, 0xA9 + 1])
    ([196, 170], 'é')
    """

    kind, unit = "bytes", "byte"

    def __len__(self) -> int:
        return 257

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text, (N,) int64."""
        return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).astype(np.int64) + 1)

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of numbers; bytes that are no UTF-8 become replacement characters."""
        return bytes(number - 1 for number in numbers if number).decode(errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {"kind": self.kind}


class Words(Symbols):
    """Words, marks and line ends, the most frequent first.

    A text that holds `<unk>` has been cut by somebody else, as the corpora of language models are: it is cut at
    spaces, and `<unk>` is what is not known.

    >>> words = Words(["the", "cat", ",", "."])
    >>> words.encode("the cat, the dog.").tolist(), words.decode([1, 2, 3, 1, 0, 4])
    ([1, 2, 3, 1, 0, 4], 'the cat, the <unk>.')
    """

    kind, unit = "words", "word"

    def __init__(self, words: Sequence[str], *, spaced: bool = False) -> None:
        self.words, self.spaced = tuple(words), spaced
        self.numbers = {word: number for number, word in enumerate(self.words, 1)}
        self.pattern = SPACED if spaced else WORD

    def __len__(self) -> int:
        return len(self.words) + 1

    def cut(self, text: str) -> Sequence[str]:
        """Cut a text into its words."""
        found: list[str] = self.pattern.findall(text)
        return found

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text, (N,) int64."""
        get = self.numbers.get
        return torch.tensor([get(word, 0) for word in self.cut(text)], dtype=torch.long)

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of numbers, with spaces where one writes them."""
        found: list[str] = []
        for number in numbers:
            word = self.words[number - 1] if number else UNKNOWN_WORD
            joined = not found or word in NO_SPACE_BEFORE or found[-1] in NO_SPACE_AFTER
            found += [word] if joined else [" ", word]
        return "".join(found)

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {"kind": self.kind, "spaced": self.spaced, "words": list(self.words)}


class Pieces(Symbols):
    """Pieces of words, found by merging frequent pairs of bytes (Sennrich et al. 2016); nothing is unknown.

    Attributes:
        text: the tokenizer as its library writes it.
    """

    kind, unit = "bpe", "piece"

    def __init__(self, text: str) -> None:
        from tokenizers import Tokenizer

        self.text, self.tokenizer = text, Tokenizer.from_str(text)

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size()) + 1

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text, (N,) int64."""
        return torch.tensor(self.tokenizer.encode(text).ids, dtype=torch.long) + 1

    def encode_blocks(self, blocks: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the numbers of several texts, worked out side by side."""
        return [np.array(one.ids, dtype=np.int64) + 1 for one in self.tokenizer.encode_batch(blocks)]

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of numbers."""
        return str(self.tokenizer.decode([number - 1 for number in numbers if number]))

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {"kind": self.kind, "tokenizer": json.loads(self.text)}


def symbols_of(plain: Any) -> Symbols:
    """Make symbols of what `to_dict` returned.

    Raises:
        RunError: it is something else.

    >>> symbols_of({"kind": "words", "spaced": False, "words": ["a", "b"]}).encode("b a c").tolist()
    [2, 1, 0]
    """
    try:
        kind = plain["kind"]
        if kind == "bytes":
            return Bytes()
        if kind == "chars":
            return Characters(str(plain["characters"]))
        if kind == "words":
            words = [word for word in plain["words"] if isinstance(word, str)]
            if len(set(words)) == len(plain["words"]):
                return Words(words, spaced=plain["spaced"] is True)
        if kind == "bpe":
            return Pieces(json.dumps(plain["tokenizer"]))
    except RunError:
        raise
    except Exception as fault:  # the library of tokenizers raises plain exceptions
        raise RunError(f"the vocabulary of the run cannot be read: {fault}; restore it") from fault
    raise RunError("the vocabulary of the run is not one: restore it, or start a new run")
