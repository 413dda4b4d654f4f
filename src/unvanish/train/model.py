"""A network on sequences: what reads a step, recurrent layers, what answers.

Shapes: T time, B batch, F numbers of a step, C categories of a step, I input of the layers, W width of the output,
V symbols, L layers, O numbers of an answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unvanish.equations import Cell
from unvanish.errors import OptionError
from unvanish.nn import Recurrent, States
from unvanish.train.settings import TrainSettings

ADAPTIVE_FROM = (2_000, 10_000)  # where the clusters of rarer symbols begin
WIDEST_CATEGORY = 50  # units of the embedding of a category


class Inputs(NamedTuple):
    """Steps of numbers and categories.

    Attributes:
        numbers_TBF: with 0 where one is missing.
        codes_TBC: from 1 on; 0 where one is missing.
        lengths_B: how many steps of each row are steps; None where all are.
        ahead: what is known of the steps to come, for a head that takes it.
    """

    numbers_TBF: Tensor
    codes_TBC: Tensor
    lengths_B: Tensor | None = None
    ahead: Tensor | None = None

    @property
    def steps(self) -> int:
        """How many steps there are, without what only fills rows up."""
        whole = self.numbers_TBF.shape[0] * self.numbers_TBF.shape[1]
        return whole if self.lengths_B is None else int(self.lengths_B.sum())


class Steps(nn.Module):
    """Makes one vector of the numbers and categories of a step."""

    def __init__(self, numbers: int, levels: Sequence[int]) -> None:
        super().__init__()
        widths = [min(WIDEST_CATEGORY, (count + 2) // 2) for count in levels]
        self.categories = nn.ModuleList(
            nn.Embedding(count + 1, width) for count, width in zip(levels, widths, strict=True)
        )
        self.width = numbers + sum(widths)

    def forward(self, x: Inputs) -> Tensor:
        """Return (T, B, I)."""
        embedded = [one(x.codes_TBC[..., place]) for place, one in enumerate(self.categories)]
        return torch.cat([x.numbers_TBF, *embedded], -1) if embedded else x.numbers_TBF


class Network(nn.Module):
    """Embedding, recurrent layers and head, one after the other."""

    def __init__(self, embedding: nn.Module, recurrent: Recurrent, head: nn.Module) -> None:
        super().__init__()
        self.embedding, self.recurrent, self.head = embedding, recurrent, head

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.recurrent.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        return next(self.recurrent.parameters()).dtype

    def forward(self, x: Any, states: States | None = None) -> tuple[Any, States]:
        """Return the answer, and the states to carry on."""
        answer, states, _ = self.run(x, states)
        return answer, states

    def run(
        self, x: Any, states: States | None = None, *, all_states: bool = False
    ) -> tuple[Any, States, dict[str, Tensor]]:
        """Return what `forward` does, and where asked for the states of all steps, (L, T, B, W), by name."""
        lengths = x.lengths_B if isinstance(x, Inputs) else None
        found = self.recurrent(
            self.embedding(x), states, lengths=lengths, reset=self.restarts(x), all_states=all_states
        )
        return self.answer(found[0], x), found[1], found[2] if all_states else {}

    def restarts(self, x: Any) -> Tensor | None:
        """Where rows are reset within a batch, (T, B); None where none are."""
        return None

    def answer(self, output_TBW: Tensor, x: Any) -> Any:
        """Make the answer of the output of the layers."""
        return self.head(output_TBW, x)


class Readout(nn.Module):
    """A linear answer, to the whole sequence or to each step of it.

    Args:
        per: `step`, `last` (the output of a row's last step; of a layer that runs backwards, of its first), or
            `mean` over all steps of the row.
        directions: of the layers.
    """

    def __init__(self, width: int, outputs: int, per: str, directions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.per, self.directions = per, directions

    def forward(self, output_TBW: Tensor, x: Inputs) -> Tensor:
        """Return (T, B, O) or (B, O)."""
        return self.linear(self.read(output_TBW, x.lengths_B))  # type: ignore[no-any-return]

    def read(self, output_TBW: Tensor, lengths_B: Tensor | None) -> Tensor:
        """Take what is judged of the output of all steps."""
        if self.per == "step":
            return output_TBW
        if self.per == "mean":  # the layers give 0 after a row's end
            return output_TBW.sum(0) / (len(output_TBW) if lengths_B is None else lengths_B[:, None])
        last_BW = self.last(output_TBW, lengths_B)
        if self.directions == 1:
            return last_BW
        half = output_TBW.shape[-1] // 2
        return torch.cat([last_BW[:, :half], output_TBW[0, :, half:]], -1)

    @staticmethod
    def last(output_TBW: Tensor, lengths_B: Tensor | None) -> Tensor:
        """Take the output of each row's last step."""
        if lengths_B is None:
            return output_TBW[-1]
        return output_TBW[lengths_B - 1, torch.arange(len(lengths_B), device=output_TBW.device)]


class TiedHead(nn.Module):
    """Predicts symbols with the matrix that embeds them (Press, Wolf 2017; Inan et al. 2017)."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros_like(embedding.weight[:, 0]))
        self._embedding = [embedding]  # in a list: it is kept where it belongs

    def forward(self, output_TBW: Tensor) -> Tensor:
        """Return the logits, (T, B, V)."""
        return F.linear(output_TBW, self._embedding[0].weight, self.bias)


class TextModel(Network):
    """Predict the next symbol at every step.

    Attributes:
        mark: the symbol that starts a document, where states are reset; None where there is no such symbol.
    """

    mark: int | None = None

    def __init__(self, cell: Cell, vocabulary_size: int, settings: TrainSettings) -> None:
        width = output_width(settings)
        embedding = nn.Embedding(vocabulary_size, width)
        recurrent = make_layers(cell, width, settings)
        super().__init__(embedding, recurrent, _symbol_head(embedding, width, settings))
        if settings.tied:  # of the size that a linear layer begins with, as the logits are products with it
            nn.init.uniform_(embedding.weight, -(width**-0.5), width**-0.5)

    def restarts(self, x: Any) -> Tensor | None:
        """Return where a document begins, (T, B)."""
        if self.mark is None:
            return None
        found: Tensor = x == self.mark
        return found

    def answer(self, output_TBW: Tensor, x: Any) -> Any:
        """Return the logits of the next symbols, (T, B, V); an adaptive softmax takes the output as it is."""
        return output_TBW if isinstance(self.head, nn.AdaptiveLogSoftmaxWithLoss) else self.head(output_TBW)

    def logits(self, answer_TBV: Tensor) -> Tensor:
        """Return what softmax makes probabilities of."""
        if isinstance(self.head, nn.AdaptiveLogSoftmaxWithLoss):
            return self.head.log_prob(answer_TBV.flatten(0, -2)).view(*answer_TBV.shape[:-1], -1)
        return answer_TBV

    def loss(self, answer_TBV: Tensor, y_TB: Tensor) -> Tensor:
        """Return the cross-entropy in nats per symbol."""
        if isinstance(self.head, nn.AdaptiveLogSoftmaxWithLoss):
            return self.head(answer_TBV.flatten(0, 1), y_TB.flatten()).loss  # type: ignore[no-any-return]
        return F.cross_entropy(answer_TBV.flatten(0, 1), y_TB.flatten())


def _symbol_head(embedding: nn.Embedding, width: int, settings: TrainSettings) -> nn.Module:
    count = embedding.num_embeddings
    if settings.softmax == "adaptive":
        if settings.tied:
            raise OptionError("--tied and --softmax adaptive exclude each other: leave one of them away")
        cutoffs = [cut for cut in ADAPTIVE_FROM if cut < count - 1]
        if not cutoffs:
            raise OptionError(
                f"--softmax adaptive is for more than {ADAPTIVE_FROM[0]:,} symbols, and there are {count:,}: "
                "leave it away"
            )
        return nn.AdaptiveLogSoftmaxWithLoss(width, count, cutoffs)
    return TiedHead(embedding) if settings.tied else nn.Linear(width, count)


def output_width(settings: TrainSettings) -> int:
    """How wide the output of the layers of a run is."""
    width: int = settings.proj_size or settings.hidden
    return 2 * width if settings.bidirectional else width


def make_layers(cell: Cell, width: int, settings: TrainSettings) -> Recurrent:
    """Make the recurrent layers of a run."""
    cell.check_options(settings.cell_options)
    return Recurrent(cell, width, settings.hidden, settings.layers, engine=settings.engine, **settings.keywords())


@contextlib.contextmanager
def fitting_memory() -> Iterator[None]:
    """Say what to do where there is no room for a network.

    Raises:
        OptionError: it cannot be made with these settings, or there is no room for it.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError) as fault:  # torch's ways to say that there is no room
        raise OptionError(f"no network of this size can be made: {fault}; lower --hidden or --layers") from fault


@contextlib.contextmanager
def unheard(layer: Recurrent) -> Iterator[None]:
    """Run a layer by itself: no clip changes its backward pass inside the block, and no penalty listens to it."""
    before, layer.taps = layer.taps, ()
    try:
        yield
    finally:
        layer.taps = before


def on(model: Network, given: Any) -> Any:
    """Move what a network reads, or is to answer, to where it is, numbers as numbers of its type."""
    if given is None:
        return None
    if isinstance(given, Tensor):
        return given.to(model.device, model.dtype if given.is_floating_point() else given.dtype)
    return type(given)(*(on(model, one) for one in given))


def detached(states: States) -> States:
    """Cut the graph at a window's border: what truncates backpropagation through time."""
    return states.detach() if isinstance(states, Tensor) else tuple(state.detach() for state in states)
