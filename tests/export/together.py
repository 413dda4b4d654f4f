"""Many layers in one graph: an export takes seconds, whatever is in it.

Shapes: T time, B batch, I input, L layers, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.nn.layers import INPUT, as_tuple, made, random_states
from unvanish import Recurrent
from unvanish.export import to_onnx
from unvanish.export.form import Parts, form_of


def layer_of(name: str, **options: Any) -> Recurrent:
    """A layer of a cell of the catalogue in single precision, with weights at which its states move."""
    return made(name, dtype=torch.float32, **options).eval()


class Together(nn.Module):
    """Layers that read one input, each from its own states; of `lengths` where it is given them."""

    def __init__(self, layers: dict[str, Recurrent], streaming: bool, lengths: bool = False) -> None:
        super().__init__()
        self.forms = nn.ModuleDict(
            {name: form_of(Parts(None, layer, None), streaming) for name, layer in layers.items()}
        )
        self.counts = [len(layer.state_names) for layer in layers.values()]
        self.lengths = lengths

    def forward(self, input: Tensor, *rest: Tensor) -> list[Tensor]:
        lengths, states = (rest[0], list(rest[1:])) if self.lengths else (None, list(rest))
        found: list[Tensor] = []
        for form, count in zip(self.forms.values(), self.counts, strict=True):
            output, final = form(input, tuple(states.pop(0) for _ in range(count)), lengths)
            found += [output, *final]
        return found


class Exported:
    """The same layers in onnxruntime."""

    def __init__(
        self, layers: dict[str, Recurrent], path: Path, streaming: bool = False, lengths: bool = False
    ) -> None:
        self.layers, self.path = layers, path
        states = tuple(state for layer in layers.values() for state in layer.zero_states(2))
        batch, axes = Dim("batch"), {0: Dim("time"), 1: Dim("batch")}
        given = [torch.zeros(2, INPUT) if streaming else torch.zeros(3, 2, INPUT)]
        free: list[Any] = [{1: batch} for _ in states]
        if lengths:
            given, free = [*given, torch.full((2,), 3)], [{0: batch}, *free]
        shapes = ({0: batch} if streaming else axes, tuple(free))
        to_onnx(Together(layers, streaming, lengths), path, example=(*given, *states), dynamic_shapes=shapes)
        self.session = onnxruntime.InferenceSession(path)

    def run(
        self, input: Tensor, states: dict[str, tuple[Tensor, ...]], lengths: Tensor | None = None
    ) -> dict[str, tuple[Tensor, tuple[Tensor, ...]]]:
        """Output and states of each layer."""
        arrays = [input, *([] if lengths is None else [lengths]), *(s for some in states.values() for s in some)]
        names = [given.name for given in self.session.get_inputs()]
        feed = dict(zip(names, (array.numpy() for array in arrays), strict=True))
        outputs = [torch.from_numpy(np.asarray(value)) for value in self.session.run(None, feed)]
        found = {}
        for name, layer in self.layers.items():
            output, outputs = outputs[0], outputs[1:]
            count = len(layer.state_names)
            found[name], outputs = (output, tuple(outputs[:count])), outputs[count:]
        return found


def states_of(layers: dict[str, Recurrent], batch: int) -> dict[str, tuple[Tensor, ...]]:
    """States to begin with."""
    return {name: random_states(layer, batch) for name, layer in layers.items()}


@torch.no_grad()
def ours(
    layer: Recurrent, input: Tensor, states: tuple[Tensor, ...], **keywords: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Output and states of a layer in torch."""
    output, final = layer(input, states if len(states) > 1 else states[0], **keywords)
    return output, as_tuple(final)


def near(found: Any, wanted: Any) -> None:
    """Equal to the last digits of single precision."""
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
