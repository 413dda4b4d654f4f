"""The task of agreement: whether a network gives a verb the number of its subject, far before it.

A network is trained on sentences of all distances up to the one that is asked for, a distance a batch, and
validated with nothing but attractors between subject and verb, by distance and by their number.

Shapes: T time, B sentences, V words.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.data.sequences import Categories, Sequences, Target
from unvanish.data.tokens.symbols import Words
from unvanish.errors import DataError, OptionError
from unvanish.tasks import Agreement, read_agreement
from unvanish.tasks.agreement import BE, FRAME, NOUN_STEPS, NOUNS, WORDS
from unvanish.train.model import Network, TextModel
from unvanish.train.questions.question import Material, Need, Sums
from unvanish.train.questions.symbols import SymbolQuestion
from unvanish.train.settings import TrainSettings

STEPS = 100  # of an epoch
TESTED = 200  # sentences of each distance with each number of attractors
DISTANCES = 4  # that are tested, the one that was asked for among them
FROM_END = 3  # of what is to be predicted: the verb, an adjective, a full stop
PLAIN = 1  # steps from subject to verb where no clause is between
MOST_WORDS = 10_000  # of a corpus
ACCURACY = "accuracy"

_SYMBOLS = Words(WORDS, spaced=True)
_NUMBER_V = torch.full((len(_SYMBOLS),), -1)  # of nouns: 0 for one, 1 for many
for _one, _many in NOUNS:
    _NUMBER_V[_SYMBOLS.numbers[_one]], _NUMBER_V[_SYMBOLS.numbers[_many]] = 0, 1


class AgreementQuestion(SymbolQuestion):
    """Does the verb agree? The loss is that of the verb alone, so that all of the gradient begins there."""

    carries, writes = False, False

    def __init__(self) -> None:
        super().__init__(_SYMBOLS)

    def loss(self, network: Network, answer: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of the verb in nats."""
        return F.cross_entropy(_logits(network, answer), y[-FROM_END])

    def answered(self, y: Tensor) -> Tensor:
        """Count the verbs."""
        return torch.tensor(y.shape[1], device=y.device)

    def judge(self, network: Network, answer: Tensor, y: Tensor) -> Sums:
        """Return the cross-entropy, and how many verbs are right by distance and attractors."""
        logits_BV, verb_B = _logits(network, answer), y[-FROM_END]
        sums = {"loss": F.cross_entropy(logits_BV, verb_B, reduction="sum"), "count": torch.tensor(len(verb_B))}
        was, were = (_SYMBOLS.numbers[form] for form in BE)
        right_B = (logits_BV[:, were] > logits_BV[:, was]) == (verb_B == were)
        number_TB = _NUMBER_V.to(y.device)[y]
        attractors_B = ((number_TB[1:] >= 0) & (number_TB[1:] != number_TB[0])).sum(0)
        for count in torch.unique(attractors_B).tolist():
            of_B = attractors_B == count
            place = f"{len(y) - FROM_END}/{count}"
            sums[f"of/{place}"], sums[f"right/{place}"] = of_B.sum(), (right_B & of_B).sum()
        return sums

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Return the cross-entropy, and the share of verbs that are right, by distance and attractors."""
        counts = {name.removeprefix("of/"): float(one) for name, one in sums.items() if name.startswith("of/")}
        right = {place: float(sums[f"right/{place}"]) for place in counts}
        found = {"loss": float(sums["loss"]) / float(sums["count"])}
        found[ACCURACY] = sum(right.values()) / max(sum(counts.values()), 1.0)
        for place in sorted(counts, key=lambda one: tuple(map(int, one.split("/")))):
            found[_called(*map(int, place.split("/")))] = right[place] / counts[place]
        return found

    def line(self, metrics: Mapping[str, float]) -> str:
        """Say the metrics in few words."""
        return f"loss {metrics['loss']:.3f} nats  verbs right {metrics[ACCURACY]:.1%}"

    def at_steps(self, network: Network, answer: Tensor, y: Tensor) -> None:
        """One step alone has a loss."""


def _logits(network: Network, answer: Tensor) -> Tensor:
    """What softmax makes probabilities of at the verb, (B, V)."""
    assert isinstance(network, TextModel)
    return network.logits(answer[-FROM_END])


def _called(distance: int, attractors: int) -> str:
    steps, some = (
        f"{one} {word}{'s' * (one != 1)}" for one, word in ((distance, "step"), (attractors, "attractor"))
    )
    return f"{ACCURACY}, {steps}, {some}"


class Drawn:
    """Batches of sentences, each of one distance.

    Args:
        draws: gives distance, attractors, rows and seed of each; and whether all nouns between are attractors.
    """

    def __init__(self, draws: Callable[[], Iterable[tuple[int, int, int, int, bool]]], count: int) -> None:
        self.draws, self.count = draws, count
        self.first, self.share = 0, (0, 1)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        first, self.first = self.first, 0
        rank, world = self.share
        for distance, attractors, rows, seed, hard in itertools.islice(self.draws(), first, None):
            codes_TB = 1 + Agreement(max(distance, FRAME + 1), attractors).draw(rows, seed, hard=hard).codes_TB
            if distance == PLAIN:
                codes_TB = torch.cat([codes_TB[:2], codes_TB[-FROM_END:]])
            own_TB = codes_TB.tensor_split(world, 1)[rank].contiguous()
            yield (own_TB[:-1], own_TB[1:]) if own_TB.shape[1] else (codes_TB[:-1, :1].contiguous(), None)


@dataclass
class AgreementMaterial(Material):
    """Sentences without end."""

    task: Agreement
    usual: ClassVar[dict[str, Any]] = {"batch_size": 50, "epochs": 10, "schedule": "constant"}

    @classmethod
    def of(cls, settings: TrainSettings) -> AgreementMaterial:
        """Make the task of the settings.

        Raises:
            OptionError: it cannot be made, or is to be read in pieces.
        """
        task = Agreement(settings.distance, settings.attractors)
        if settings.length and settings.length != task.steps - 1:
            raise OptionError(f"--length {settings.length}: --task agreement reads sentences whole; leave it away")
        named = f"agreement {task} {WORDS}"
        digest = hashlib.sha256(named.encode()).hexdigest()[:16]
        return cls(AgreementQuestion(), settings, "the task of agreement", digest, (), task)

    def train(self) -> Drawn:
        """Return sentences of all distances and numbers of nouns up to those that were asked for."""
        return Drawn(self._drawn, STEPS)

    def _drawn(self) -> Iterator[tuple[int, int, int, int, bool]]:
        for step in range(STEPS):
            rng = np.random.default_rng((self.settings.seed, 1, self.epoch(), step))
            distance = int(rng.integers(FRAME, self.task.distance + 1))
            distance = PLAIN if distance == FRAME else distance
            attractors = int(rng.integers(_most(distance, self.task.attractors) + 1))
            yield distance, attractors, self.settings.rows, int(rng.integers(2**31)), False

    def valid(self) -> Drawn:
        """Return sentences with attractors only, of some distances."""
        draws = [
            (distance, attractors, TESTED, 2 * self.settings.seed + 1, True)
            for distance in self.distances()
            for attractors in range(_most(distance, self.task.attractors) + 1)
        ]
        return Drawn(lambda: draws, len(draws))

    def distances(self) -> list[int]:
        """The distances that are tested."""
        low, high = FRAME + 1, self.task.distance
        return sorted({PLAIN} | {round(low + (high - low) * k / (DISTANCES - 1)) for k in range(DISTANCES)})

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return sentences of the longest distance."""
        draws = [(self.task.distance, self.task.attractors, self.settings.rows, self.settings.seed, False)]
        x_TB, y_TB = next(iter(Drawn(lambda: draws, 1)))
        assert y_TB is not None
        return x_TB, y_TB

    def probe(self) -> Tensor:
        """Return sentences of the longest distance."""
        return 1 + self.task.draw(8, self.settings.seed).codes_TB[:-1]

    def need(self) -> Need:
        """Say what is known: the verb needs its subject."""
        return Need(self.task.needed, False, self.task.steps, "known of the task")

    def baselines(self) -> Iterable[tuple[str, dict[str, float]]]:
        """Yield what guessing comes to, and what whoever keeps only the latest noun does."""
        yield "guessing", {ACCURACY: self.task.chance}
        cells = [count for one in self.distances() for count in range(_most(one, self.task.attractors) + 1)]
        yield "agreeing with the latest noun", {ACCURACY: cells.count(0) / len(cells)}

    def describe(self) -> str:
        """Say in a line what there is to train on."""
        return (
            f"{self.source}: sentences with {PLAIN} to {self.task.distance} steps from subject to verb, up to "
            f"{self.task.attractors} attractors; chance {self.task.chance:.0%}, solved from {self.task.solved:.0%}"
        )

    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` says of the data."""
        return {"source": self.source, "sizes": {}, "vocabulary_size": len(_SYMBOLS)}


def _most(distance: int, attractors: int) -> int:
    """How many attractors fit into a distance."""
    return min(attractors, max(0, distance - FRAME) // NOUN_STEPS)


def corpus(path: Path) -> Sequences:
    """Read a corpus of agreement: the words before each verb, to tell whether that is singular or plural.

    Raises:
        DataError: it cannot be read.
    """
    found = [one for one in read_agreement(path) if one.verb]
    if not found:
        raise DataError(f"{path}: no verb has words before it")
    counts = Counter(word for one in found for word in one.words[: one.verb])
    levels = tuple(word for word, _ in counts.most_common(MOST_WORDS))
    number = {word: code for code, word in enumerate(levels)}
    codes_N = np.array([number.get(word, -1) for one in found for word in one.words[: one.verb]], np.int32)
    plural_BG = np.array([[int(one.plural)] for one in found])
    told = (
        f"{int((codes_N < 0).sum()):,} of {len(codes_N):,} words are rarer than the {len(levels):,} that are read"
    )
    return Sequences(
        str(path),
        np.array([one.verb for one in found], np.int64),
        tuple(map(str, range(1, len(found) + 1))),
        np.zeros((len(codes_N), 0), np.float32),
        (),
        (Categories("word", levels, codes_N),),
        Target("class", "sequence", ("verb",), plural_BG, ("singular", "plural")),
        told=(told,) if len(counts) > MOST_WORDS else (),
    )
