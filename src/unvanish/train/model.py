"""A network that reads characters and predicts the next: embedding, recurrent layers, one linear layer.

Shapes: T time, B batch, H hidden, V vocabulary, L layers, W width of a state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unvanish.data.text import Vocabulary
from unvanish.equations import Cell
from unvanish.errors import OptionError, RunError
from unvanish.nn import Recurrent, States
from unvanish.record import RunRecord
from unvanish.train.settings import TrainSettings


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
            dropout=settings.dropout,
            recurrent_dropout=settings.recurrent_dropout,
            zoneout=settings.zoneout,
            weight_drop=settings.weight_drop,
            layer_norm=settings.layer_norm,
            skips=settings.skips,
            connect=settings.connect,
            constrain=settings.constrain,
            init=list(settings.init),
            engine=settings.engine,
            **settings.cell_options,
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


@contextlib.contextmanager
def unheard(layer: Recurrent) -> Iterator[None]:
    """Run a layer by itself: no clip changes its backward pass inside the block, and no penalty listens to it."""
    before = layer.tapes, layer.step_clip
    layer.tapes = layer.step_clip = None
    try:
        yield
    finally:
        layer.tapes, layer.step_clip = before


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
    if not 0 <= temperature < float("inf") or length < 0:
        raise OptionError("temperature and length are numbers from 0 on: give such ones")
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
    return torch.multinomial(torch.softmax(logits_V / temperature, 0), 1, generator=generator)


WEIGHTS = "weights.safetensors"
CHECKPOINTS = "checkpoints"
CHARACTERS = "characters"


def load_model(folder: Path) -> tuple[TextModel, Vocabulary, Mapping[str, Any]]:
    """Load the trained network of a run: nothing in the folder is executed or unpickled."""
    record = RunRecord.open(folder)
    config = record.config
    weights = folder / CHECKPOINTS / WEIGHTS
    try:
        settings = TrainSettings.from_dict(config["settings"])
        cell = Cell.from_dict(config["cell"]["definition"])
        vocabulary = Vocabulary(config["data"][CHARACTERS])
        model = TextModel(cell, len(vocabulary), settings)
        model.load_state_dict(load_file(weights))
    except FileNotFoundError:
        raise RunError(f"{folder} has no weights yet ({weights} is missing): train it first") from None
    except (KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as fault:
        raise RunError(f"{folder} cannot be loaded: {fault}; restore it or train anew") from fault
    model.eval()
    return model, vocabulary, config
