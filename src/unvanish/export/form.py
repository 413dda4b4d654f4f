"""What is exported: layers with what stands before and behind them, for whole sequences or step by step.

Shapes: T time, B batch, I input, W width, L layers, R directions, D how many steps back a state is read, H steps
ahead, K numbers known of each of them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unvanish.errors import ExportError
from unvanish.nn import Recurrent


@dataclass(frozen=True)
class Parts:
    """What a model is made of: an input goes through the embedding, the layers and the head, step by step.

    Attributes:
        ahead: (H, K), where K numbers are known beforehand of each of the next H steps: the head is then run at the
            last step alone, and reads them in a row behind the output.
        mark: the symbol at which the states of a row are reset, before it is read.
    """

    embedding: nn.Module | None
    recurrent: Recurrent
    head: nn.Module | None
    ahead: tuple[int, int] | None = None
    mark: int | None = None


def parts_of(model: Any) -> Parts | None:
    """Return the parts of a layer, or of what has one as `recurrent`; None for any other module.

    Raises:
        ExportError: a part is not a module, or the model is not one.

    >>> import unvanish
    >>> parts_of(unvanish.LSTM(3, 4)).head is None, parts_of(nn.Linear(3, 4))
    (True, None)
    """
    if isinstance(model, Recurrent):
        return Parts(None, model, None)
    recurrent = getattr(model, "recurrent", None)
    if not isinstance(recurrent, Recurrent):
        if not isinstance(model, nn.Module):
            raise ExportError(
                f"{type(model).__name__} cannot be exported: give a layer, or a torch module with layers"
            )
        return None
    found = {name: getattr(model, name, None) for name in ("embedding", "head")}
    for name, part in found.items():
        if part is not None and not isinstance(part, nn.Module):
            raise ExportError(f"the {name} is a {type(part).__name__}, code of Python: make it a torch module")
    return Parts(
        found["embedding"],
        recurrent,
        found["head"],
        _ahead_of(model, found["head"]),
        _mark_of(model, found["embedding"]),
    )


def _ahead_of(model: Any, head: nn.Module | None) -> tuple[int, int] | None:
    match getattr(model, "ahead", None):
        case None:
            return None
        case (int(horizon), int(known)) if horizon > 0 and known > 0 and head is not None:
            return horizon, known
    raise ExportError(
        "ahead is (steps ahead, numbers known of each), two whole numbers from 1 on, which a head reads: give both"
    )


def _mark_of(model: Any, embedding: nn.Module | None) -> int | None:
    mark = getattr(model, "mark", None)
    if mark is None:
        return None
    if isinstance(embedding, nn.Embedding) and isinstance(mark, int) and 0 <= mark < embedding.num_embeddings:
        return mark
    raise ExportError(
        f"mark={mark!r} is not a symbol at which states are reset: give the number of one that the embedding has"
    )


def file_at(path: str | Path) -> Path:
    """Return where a file is to be written.

    Raises:
        ExportError: its folder is not there.
    """
    found = Path(path)
    if not found.parent.is_dir():
        raise ExportError(f"there is no folder {found.parent}: make it first")
    return found


Model = TypeVar("Model", bound=nn.Module)


def ready(model: Model) -> Model:
    """Return a copy in evaluation on the CPU, which holds its matrices as they are read."""
    layers = [module for module in model.modules() if isinstance(module, Recurrent)]
    kept: dict[int, Any] = {id(layer.taps): () for layer in layers}  # listeners hold passes, and are for training
    found = copy.deepcopy(model, kept).cpu().eval().requires_grad_(False)
    for module in found.modules():
        if parametrize.is_parametrized(module):
            _as_read(module)
    return found.requires_grad_(False)


def _as_read(module: nn.Module) -> None:
    """Keep what parametrised arrays are read as, not what they are made of."""
    assert isinstance(module.parametrizations, nn.ModuleDict)
    values = {array: getattr(module, array).detach() for array in module.parametrizations}
    # torch's own way back would change the class, which a copy shares with its original.
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for array, value in values.items():
        module.register_parameter(array, nn.Parameter(value))


class Sequences(nn.Module):
    """A model as it is called where it has been exported to: (input, states) -> (output, states)."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.embedding, self.recurrent, self.head = parts.embedding, parts.recurrent, parts.head
        self.mark = parts.mark

    def forward(self, input: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None = None) -> Any:
        """Run whole sequences."""
        output, final = self.layers(input, states, lengths)
        return output if self.head is None else self.head(output), final

    def layers(
        self, input: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the layers give, and their states."""
        x = input if self.embedding is None else self.embedding(input)
        given = states if len(states) > 1 else states[0]
        reset = None if self.mark is None else input == self.mark
        output, final = self.recurrent(x, given, lengths=lengths, reset=reset)
        return output, final if isinstance(final, tuple) else (final,)

    @property
    def time(self) -> int:
        """Which axis of an input is time."""
        return int(self.recurrent.batch_first)


class Steps(Sequences):
    """The same for one step."""

    def forward(self, input: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None = None) -> Any:
        """Run one step."""
        output, final = super().forward(input.unsqueeze(self.time), states)
        return output.squeeze(self.time), final

    def layers(
        self, input: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the layers give, and their states; the last is the index of the step where it is read."""
        if not self.recurrent.batch_norm:
            return super().layers(input, states, lengths)
        index_LB1, own = states[-1], states[: len(self.recurrent.state_names)]
        with self.recurrent.counted_from(index_LB1[0, :, 0]):
            output, final = super().layers(input, own, lengths)
        return output, final if len(own) == len(states) else (*final, index_LB1 + 1)


class AheadOfSequences(Sequences):
    """Whole sequences, answered once: from the output of each row's last step, and what is known ahead of it."""

    def forward(  # type: ignore[override]
        self, input: Tensor, states: tuple[Tensor, ...], ahead: Tensor, lengths: Tensor | None = None
    ) -> Any:
        """Run whole sequences, with (B, H, K) ahead."""
        output, final = self.layers(input, states, lengths)
        return self.answer(self.last(output, lengths), ahead), final

    def last(self, output: Tensor, lengths: Tensor | None) -> Tensor:
        """Take the output of each row's last step."""
        if lengths is None:
            return output.select(self.time, -1)
        rows_B = torch.arange(lengths.shape[0], device=output.device)
        last_B = lengths.clamp(min=1) - 1  # a row without a step gives zeros
        return output[rows_B, last_B] if self.time else output[last_B, rows_B]

    def answer(self, output_BW: Tensor, ahead_BHK: Tensor) -> Tensor:
        """Run the head."""
        assert self.head is not None
        found: Tensor = self.head(torch.cat([output_BW, ahead_BHK.flatten(1)], -1))
        return found


class AheadOfSteps(AheadOfSequences, Steps):
    """The same for one step."""

    def forward(  # type: ignore[override]
        self, input: Tensor, states: tuple[Tensor, ...], ahead: Tensor, lengths: Tensor | None = None
    ) -> Any:
        """Run one step, with (B, H, K) ahead."""
        return AheadOfSequences.forward(self, input.unsqueeze(self.time), states, ahead)


def form_of(parts: Parts, streaming: bool) -> Sequences:
    """Return what is exported of these parts.

    Raises:
        ExportError: a step of a layer with two directions.
    """
    layer = parts.recurrent
    if streaming and layer.bidirectional:
        raise ExportError("a layer with two directions reads its input to the end: export it with streaming=False")
    if parts.ahead is not None:
        return ready(AheadOfSteps(parts) if streaming else AheadOfSequences(parts))
    return ready(Steps(parts) if streaming else Sequences(parts))


def example_of(parts: Parts, example: Tensor | None, streaming: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return an input and states by name to export with, of two rows or more and, for sequences, two steps or more.

    A graph takes what has one row or step for what can have no more.

    Raises:
        ExportError: no example is given and none can be made, or it has no time and batch.
    """
    layer = parts.recurrent
    found = _made(parts) if example is None else example.detach().cpu()
    if found.dim() < 2 or 0 in found.shape[:2]:
        raise ExportError(
            f"the example has shape {tuple(found.shape)}: give (T, B, …), or (B, T, …) with batch_first"
        )
    for axis in (0, 1):
        found = torch.cat([found, found], axis) if found.shape[axis] == 1 else found
    time = int(layer.batch_first)
    batch = found.shape[1 - time]
    states = {name: state.cpu() for name, state in zip(layer.state_names, layer.zero_states(batch), strict=True)}
    counts = bool(layer.batch_norm) and "t" not in states  # it has statistics of each step
    if streaming and counts:
        states["t"] = torch.zeros(layer.num_layers, batch, 1, dtype=torch.long, device="cpu")
    return found.select(time, 0) if streaming else found, states


def _made(parts: Parts) -> Tensor:
    match parts.embedding:
        case None:
            weight = next(parts.recurrent.parameters())
            return torch.zeros(2, 2, parts.recurrent.input_size, dtype=weight.dtype, device="cpu")
        case nn.Embedding():
            return torch.zeros(2, 2, dtype=torch.long, device="cpu")
        case nn.Linear() as linear:
            return torch.zeros(2, 2, linear.in_features, dtype=linear.weight.dtype, device="cpu")
    name = type(parts.embedding).__name__
    raise ExportError(f"what a {name} reads is not known: give example=, an input of a few steps of a few rows")
