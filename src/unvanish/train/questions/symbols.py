"""Which symbol comes next: text by characters, bytes, words or pieces, in streams whose states are carried.

Shapes: T time, B batch, V symbols, N symbols of a text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unvanish.data.dependency import dependency
from unvanish.data.text import Windows, random_borders
from unvanish.data.tokens import Symbols, Tokens
from unvanish.data.tokens.symbols import Characters
from unvanish.equations import Cell
from unvanish.errors import DataError, OptionError, UnvanishError
from unvanish.record.measures import perplexity_text
from unvanish.record.run import VOCABULARY
from unvanish.train.model import Network, TextModel, output_width
from unvanish.train.questions.question import Batches, Material, Need, Question, Sums, unfit
from unvanish.train.settings import TrainSettings

PROBE_STEPS, PROBE_ROWS = 200, 8
NEED_FROM = 50_000  # symbols: some seconds
PIECE = 1 << 21  # symbols that are counted at a time
SAMPLE_PROMPT, SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 40, 400, 0.8
SHORT = {"character": "char", "byte": "byte", "word": "word", "piece": "piece"}


class SymbolQuestion(Question):
    """Which symbol comes next?

    Attributes:
        writes: whether its network has learnt to go on with a text.
    """

    kind, carries, writes = "text", True, True

    def __init__(self, symbols: Symbols) -> None:
        self.symbols, self.unit = symbols, symbols.unit

    def network(self, cell: Cell, settings: TrainSettings) -> TextModel:
        """Make a network that answers it."""
        if settings.bidirectional:
            raise OptionError("--bidirectional reads what is to be predicted: leave it away for text")
        model = TextModel(cell, len(self.symbols), settings)
        if settings.document_mark is not None:
            model.mark = self._mark(settings.document_mark)
        return model

    def _mark(self, mark: str) -> int:
        """The number of the symbol that starts a document."""
        numbers = self.symbols.encode(mark).tolist()
        if len(numbers) != 1 or not numbers[0]:
            raise OptionError(f"--document-mark {mark!r} is not one {self.unit} of the text: name one that it has")
        return int(numbers[0])

    def check(self, weights: Mapping[str, Any], settings: TrainSettings) -> str:
        """Say what in weights cannot be of a network of this question."""
        return unfit(weights, "embedding.weight", (len(self.symbols), output_width(settings)))

    def example(self) -> Tensor:
        """Return one symbol."""
        return torch.zeros(1, 1, dtype=torch.long)

    def loss(self, network: Network, answer: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy in nats per symbol."""
        assert isinstance(network, TextModel)
        return network.loss(answer, y)

    def answered(self, y: Tensor) -> Tensor:
        """Count the symbols that are to be predicted."""
        return torch.tensor(y.numel(), device=y.device)

    def judge(self, network: Network, answer: Tensor, y: Tensor) -> Sums:
        """Return the cross-entropy in nats, and of how many symbols."""
        return {"loss": self.loss(network, answer, y) * y.numel(), "count": torch.tensor(y.numel())}

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Return the cross-entropy in nats and in bits, and the perplexity."""
        return symbol_metrics(float(sums["loss"]) / float(sums["count"]))

    def line(self, metrics: Mapping[str, float]) -> str:
        """Say the metrics in few words."""
        return (
            f"loss {metrics['loss']:.3f} nats  {metrics['bits']:.3f} bits/{SHORT[self.unit]}  "
            f"perplexity {perplexity_text(metrics['perplexity'])}"
        )

    def count(self, x: Tensor) -> int:
        """Count the symbols of a batch."""
        return x.numel()

    def at_steps(self, network: Network, answer: Tensor, y: Tensor) -> Tensor | None:
        """Return the cross-entropy at every time step and row, (T, B)."""
        if isinstance(network.head, nn.AdaptiveLogSoftmaxWithLoss):
            return -network.head(answer.flatten(0, 1), y.flatten()).output.view(y.shape)  # type: ignore[no-any-return]
        return F.cross_entropy(answer.permute(0, 2, 1), y, reduction="none")

    def kept(self) -> dict[str, Any]:
        """Return the characters, or what tells which file of symbols belongs to this run."""
        if isinstance(self.symbols, Characters):
            return {"characters": self.symbols.characters}
        content = self.files()[VOCABULARY]
        return {"cut": self.symbols.kind, "vocabulary": hashlib.sha256(content).hexdigest()}

    def files(self) -> dict[str, bytes]:
        """Return the symbols, which may be many, in a file of their own."""
        if isinstance(self.symbols, Characters):
            return {}
        return {VOCABULARY: (json.dumps(self.symbols.to_dict(), ensure_ascii=False) + "\n").encode()}


def symbol_metrics(nats: float) -> dict[str, float]:
    """Return a cross-entropy in nats and in bits, and as the number of symbols that are equally likely."""
    return {
        "loss": nats,
        "bits": nats / math.log(2),
        "perplexity": math.exp(nats) if nats < 700 else math.inf,
    }


@dataclass
class TextMaterial(Material):
    """A text, cut into streams."""

    tokens: Tokens
    question: SymbolQuestion
    usual: ClassVar[dict[str, Any]] = {"length": 50, "batch_size": 50, "epochs": 3, "schedule": "constant"}

    @classmethod
    def of(cls, tokens: Tokens, settings: TrainSettings) -> TextMaterial:
        """Take a text.

        Raises:
            DataError: it is too short.
        """
        _check_long_enough(tokens, settings)
        question = SymbolQuestion(tokens.symbols)
        return cls(question, settings, tokens.source, tokens.digest, tokens.told, tokens)

    def train(self) -> Windows:
        """Return the windows to train on."""
        borders = self._borders if self.settings.random_windows else None
        return Windows(self.tokens.parts["train"], self.settings.length, self.settings.rows, borders)

    def _borders(self, steps: int) -> list[int]:
        """Where the windows of this epoch begin and end."""
        rng = np.random.default_rng((self.settings.seed, 2, self.epoch()))
        return random_borders(steps, self.settings.length, rng)

    def valid(self) -> Windows:
        """Return the windows to validate on."""
        return self.windows("valid")

    def test(self) -> Batches | None:
        """Return the windows to test on."""
        return self.windows("test") if "test" in self.tokens.parts else None

    def windows(self, part: str) -> Windows:
        """Return the windows of a part, in as many streams as it fills."""
        numbers_N = self.tokens.parts[part]
        streams = min(self.settings.rows, max(1, len(numbers_N) // (self.settings.length + 1)))
        return Windows(numbers_N, self.settings.length, streams)

    def probe(self) -> Tensor:
        """Return symbols to measure the reach on, (T, B): longer than a window, so that it can be seen."""
        numbers_N = self.tokens.parts["valid"]
        steps = min(PROBE_STEPS, len(numbers_N) - 1)
        rows = min(PROBE_ROWS, len(numbers_N) // (steps + 1))
        x_TB, _ = next(iter(Windows(numbers_N, steps, rows)))
        return x_TB

    def need(self) -> Need | None:
        """Measure how much context the beginning of the text needs."""
        codes_N = self.tokens.parts["train"][:NEED_FROM].numpy().astype(np.int64)
        try:
            found = dependency(codes_N, kind="symbols")
        except UnvanishError:  # too short, or of one symbol only
            return None
        return Need(found.needed, found.censored, len(codes_N), found.note)

    def baselines(self) -> Iterable[tuple[str, dict[str, float]]]:
        """Yield what the frequencies of symbols, and of pairs of them, come to."""
        count = len(self.tokens.symbols)
        train_N, valid_N = (self.tokens.parts[name] for name in ("train", "valid"))
        shares_V, counts_V = _frequencies(train_N, count)
        valid = valid_N.long()
        yield "frequencies", symbol_metrics(float(-shares_V.log()[valid].mean()))
        yield (
            "frequencies after the last symbol",
            symbol_metrics(_bigram(train_N, valid, count, shares_V, counts_V)),
        )

    def describe(self) -> str:
        """Say in a line what there is to train on."""
        sizes = {name: len(numbers_N) for name, numbers_N in self.tokens.parts.items()}
        tested = f", {sizes['test']:,} to test on" if "test" in sizes else ""
        return (
            f"{self.source}: {sizes['train']:,} {self.question.unit}s to train on, {sizes['valid']:,} to validate "
            f"on{tested}, vocabulary {len(self.tokens.symbols):,}"
        )

    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` says of the data."""
        sizes = {name: len(numbers_N) for name, numbers_N in self.tokens.parts.items()}
        return {"source": self.source, "sizes": sizes, "vocabulary_size": len(self.tokens.symbols)}

    def opening(self) -> str:
        """Return some text to go on from."""
        numbers = self.tokens.parts["valid"][:SAMPLE_PROMPT].tolist()
        return self.tokens.symbols.decode([number for number in numbers if number])


def _frequencies(train_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How likely each symbol is, one more of each counted, and how often it came."""
    counts_V = torch.bincount(train_N.int(), minlength=count).double()
    return (counts_V + 1) / (counts_V.sum() + count), counts_V


def _bigram(train_N: Tensor, valid_N: Tensor, count: int, shares_V: Tensor, counts_V: Tensor) -> float:
    """The cross-entropy of what followed each symbol, mixed with the frequencies (Witten, Bell 1991)."""
    pairs, times = _pairs(train_N, count)
    kinds_V = torch.bincount(pairs // count, minlength=count).double()  # how many symbols followed
    before, after = valid_N[:-1], valid_N[1:]
    wanted = before * count + after
    place = torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)
    seen = torch.where(pairs[place] == wanted, times[place], 0).double()
    total = counts_V[before] + kinds_V[before]
    likely = torch.where(
        total > 0, (seen + kinds_V[before] * shares_V[after]) / total.clamp_min(1), shares_V[after]
    )
    return float(-likely.log().mean())


def _pairs(train_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which pairs of symbols there are, as one number each, ascending, and how often; a long text in pieces."""
    pairs, times = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    for start in range(0, len(train_N) - 1, PIECE):
        piece = train_N[start : start + PIECE + 1].long()
        new, often = torch.unique(piece[:-1] * count + piece[1:], return_counts=True)
        pairs, place = torch.unique(torch.cat([pairs, new]), return_inverse=True)
        times = torch.zeros(len(pairs), dtype=torch.long).index_add_(0, place, torch.cat([times, often]))
    return pairs, times


def _check_long_enough(tokens: Tokens, settings: TrainSettings) -> None:
    """Refuse a text that does not fill one window of every stream."""
    train, unit = len(tokens.parts["train"]), f"{tokens.symbols.unit}s"
    length, streams = settings.length, settings.rows
    needed = (length + 1) * streams
    if train < length + 1:
        raise DataError(
            f"{tokens.source} has {train:,} {unit} to train on, fewer than one window of {length} steps and the "
            f"{tokens.symbols.unit} after it: use a longer text, or a smaller --length"
        )
    if train < needed:
        raise DataError(
            f"{tokens.source} has {train:,} {unit} to train on, {streams} streams of one window "
            f"need {needed:,}: use --batch-size {train // (length + 1)}, or a smaller --length"
        )
    if len(tokens.parts["valid"]) < 2:
        raise DataError(f"{tokens.source} leaves no text to validate on: use a longer text")
