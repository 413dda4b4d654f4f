"""A network that reads characters and predicts the next: embedding, recurrent layers, one linear layer.

Shapes: T time, B batch, H hidden, V vocabulary, L layers, W width of a state.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unvanish.data.text import Vocabulary
from unvanish.equations import Cell
from unvanish.errors import OptionError
from unvanish.nn import Recurrent, States
from unvanish.train.settings import MAX_SEED, TrainSettings


class TextModel(nn.Module):
    """Predict the next character at every step."""

    def __init__(self, cell: Cell, vocabulary_size: int, settings: TrainSettings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, settings.hidden)
        self.recurrent = Recurrent(
            cell,
            settings.hidden,
            settings.hidden,
            settings.layers,
            engine=settings.engine,
            **settings.keywords(),
        )
        self.head = nn.Linear(settings.hidden, vocabulary_size)

    def forward(self, x_TB: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Return the logits of the next characters, (T, B, V), and the states to carry on."""
        logits_TBV, states, _ = self.run(x_TB, states)
        return logits_TBV, states

    def run(
        self, x_TB: Tensor, states: States | None = None, *, all_states: bool = False
    ) -> tuple[Tensor, States, dict[str, Tensor]]:
        """Return what `forward` does, and where asked for the states of all steps, (L, T, B, W), by name."""
        found = self.recurrent(self.embedding(x_TB), states, all_states=all_states)
        logits_TBV: Tensor = self.head(found[0])
        return logits_TBV, found[1], found[2] if all_states else {}

    def loss(self, logits_TBV: Tensor, y_TB: Tensor) -> Tensor:
        """Return the cross-entropy in nats per character."""
        return F.cross_entropy(logits_TBV.flatten(0, 1), y_TB.flatten())


def build_model(cell: Cell, vocabulary_size: int, settings: TrainSettings) -> TextModel:
    """Make a network.

    Raises:
        OptionError: it cannot be made with these settings, or there is no room for it.
    """
    try:
        return TextModel(cell, vocabulary_size, settings)
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


def detached(states: States) -> States:
    """Cut the graph at a window's border: what truncates backpropagation through time."""
    return states.detach() if isinstance(states, Tensor) else tuple(state.detach() for state in states)


@torch.no_grad()
def generate(
    model: TextModel,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    temperature: float = 1.0,
    seed: int | None = None,
) -> str:
    """Continue a prompt by `length` characters, drawn at a temperature (0 takes the most likely one)."""
    unknown = sorted(set(prompt) - set(vocabulary.characters))
    if unknown:
        raise OptionError(f"the run has never seen {unknown[0]!r}: take it out of the prompt")
    if not 0 <= temperature < math.inf:
        raise OptionError(f"--temperature is {temperature}: give a finite number from 0 on")
    if length < 0:
        raise OptionError(f"--length is {length}: give the number of characters to write, from 0 on")
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise OptionError(f"--seed is {seed}: give a whole number from 0 to {MAX_SEED}")
    device = model.head.weight.device
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    numbers = vocabulary.encode(prompt or vocabulary.characters[0]).to(device)
    states: States | None = None
    found: list[int] = []
    was_training = model.training
    model.eval()
    for _ in range(length):
        logits_TBV, states = model(numbers[:, None], states)
        numbers = _drawn(logits_TBV[-1, 0, 1:].float().cpu(), temperature, generator).to(device) + 1
        found.append(int(numbers))
    model.train(was_training)
    return vocabulary.decode(found)


def _drawn(logits_V: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits_V.argmax()[None]
    # In double precision and with the largest at 0, so that no temperature, however low, overflows.
    logits_V = (logits_V.double() - logits_V.max()) / temperature
    return torch.multinomial(torch.softmax(logits_V, 0), 1, generator=generator)
