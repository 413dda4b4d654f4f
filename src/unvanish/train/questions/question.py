"""What every question has: how a network answers it, how an answer is judged, what is kept of it with a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unvanish.equations import Cell
from unvanish.train.model import Network
from unvanish.train.settings import TrainSettings

Sums = dict[str, Tensor]


@dataclass(frozen=True)
class Need:
    """How many steps back the data need, measured in a sample of `of` steps."""

    lag: int
    censored: bool
    of: int
    note: str

    def __str__(self) -> str:
        return f"{'at least ' if self.censored else ''}{self.lag:,} {'step' if self.lag == 1 else 'steps'}"


class Batches(Protocol):
    """What is gone through once an epoch, from the batch `first` on, by one of several processes (`share`)."""

    first: int
    share: tuple[int, int]

    def __len__(self) -> int: ...

    def __iter__(self) -> Any: ...


class Question(ABC):
    """A question, without the data that ask it: enough to answer it of other data.

    Attributes:
        kind: its name in a run's configuration.
        unit: what one loss is of: `character`, `sequence`, `step`.
        carries: whether a batch goes on where the last one ended, so that states are carried.
    """

    kind: ClassVar[str]
    carries: ClassVar[bool] = False
    unit: str

    @abstractmethod
    def network(self, cell: Cell, settings: TrainSettings) -> Network:
        """Make a network that answers it.

        Raises:
            OptionError: it cannot be made with these settings.
        """

    @abstractmethod
    def check(self, weights: Mapping[str, Any], settings: TrainSettings) -> str:
        """Say what in weights cannot be of a network of this question, before room is made; empty if nothing."""

    @abstractmethod
    def example(self) -> Any:
        """Return the smallest input that such a network takes."""

    @abstractmethod
    def loss(self, network: Network, answer: Any, y: Any) -> Tensor:
        """Return what is trained on: the mean loss of a batch."""

    @abstractmethod
    def answered(self, y: Any) -> Tensor:
        """Count the values of a batch that its loss is the mean of."""

    @abstractmethod
    def judge(self, network: Network, answer: Any, y: Any) -> Sums:
        """Return sums over a batch that `metrics` is made of; `loss` and `count` are among them."""

    @abstractmethod
    def metrics(self, sums: Sums) -> dict[str, float]:
        """Return what the sums of all batches come to; `loss` is the first."""

    @abstractmethod
    def line(self, metrics: Mapping[str, float]) -> str:
        """Say the metrics in few words."""

    @abstractmethod
    def count(self, x: Any) -> int:
        """Count the steps of a batch, without what only fills it up."""

    @abstractmethod
    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` keeps of it."""

    def files(self) -> dict[str, bytes]:
        """Return what is kept in files of its own, by name."""
        return {}

    def at_steps(self, network: Network, answer: Any, y: Any) -> Tensor | None:
        """Return the loss at every time step and row, (T, B), where there is one."""
        return None


def unfit(weights: Mapping[str, Any], name: str, wanted: tuple[int, ...]) -> str:
    """Say that an array of weights has another shape than is wanted; nothing if it has that."""
    shape = tuple(getattr(weights.get(name), "shape", ()))
    return "" if shape == wanted else f"its {name.partition('.')[0]} is {shape}, not {wanted}"


def long_ones(lengths_B: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the longest of some sequences, the longest first: none that is less than half as long as that.

    They are cut to the shortest of them to be measured together, and one short one would leave nothing to measure.

    >>> long_ones(np.array([40, 5, 90, 60]), 8).tolist()
    [2, 3]
    """
    longest: NDArray[np.int64] = np.argsort(-lengths_B, kind="stable")[:most]
    kept: NDArray[np.int64] = longest[2 * lengths_B[longest] >= lengths_B.max()]
    return kept


@dataclass
class Material(ABC):
    """The data of a run, split, as numbers.

    Attributes:
        told: what was found in the data and how it was dealt with, a line each.
        epoch: says which epoch it is; what is drawn for it follows from that and the seed.
    """

    question: Question
    settings: TrainSettings
    source: str
    digest: str
    told: tuple[str, ...]
    epoch: Callable[[], int] = field(default=lambda: 0, kw_only=True)

    @abstractmethod
    def train(self) -> Batches:
        """Return the batches of an epoch: pairs of what a network reads, and what it is to answer."""

    @abstractmethod
    def valid(self) -> Batches:
        """Return the batches to validate on."""

    def test(self) -> Batches | None:
        """Return the batches to test on, once and at the end, where there are any."""
        return None

    def sample(self) -> tuple[Any, Any]:
        """Return a batch to look at."""
        found: tuple[Any, Any] = next(iter(self.train()))
        return found

    @abstractmethod
    def probe(self) -> Any:
        """Return an input to measure the gradient on: rows of one length, longer than a window if possible."""

    @abstractmethod
    def need(self) -> Need | None:
        """Measure how much context the data need, in a sample; None where that cannot be told."""

    def baselines(self) -> Iterable[tuple[str, dict[str, float]]]:
        """Yield naive answers and their metrics on what is validated on."""
        return ()

    @abstractmethod
    def describe(self) -> str:
        """Say in a line what there is to train on."""

    @abstractmethod
    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` says of the data."""
