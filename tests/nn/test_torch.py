"""Our RNN, LSTM and GRU are torch's: the same numbers, the same states, the same gradients, the same weights.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from unvanish import Recurrent

TIME, BATCH, INPUT, HIDDEN = 4, 3, 2, 5
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


@dataclass(frozen=True)
class Kind:
    """A torch layer and how ours is made."""

    theirs: type[nn.RNNBase]
    ours: str
    keywords: tuple[tuple[str, Any], ...] = ()

    def pair(self, engine: str, **options: Any) -> tuple[nn.RNNBase, Recurrent]:
        keywords = {**dict(self.keywords), **options, "dtype": torch.float64}
        return self.theirs(INPUT, HIDDEN, **keywords), Recurrent(
            self.ours, INPUT, HIDDEN, engine=engine, **keywords
        )


KINDS = {
    "rnn-tanh": Kind(nn.RNN, "rnn", (("nonlinearity", "tanh"),)),
    "rnn-relu": Kind(nn.RNN, "rnn", (("nonlinearity", "relu"),)),
    "lstm": Kind(nn.LSTM, "lstm"),
    "lstm-projected": Kind(nn.LSTM, "lstm", (("proj_size", 3),)),
    "gru": Kind(nn.GRU, "gru"),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def inputs(batch_first: bool) -> Iterator[tuple[Tensor, Any, bool]]:
    """Yield a leaf, what is made of it for the layer, and whether that has a batch."""
    x_TI, x_TBI = noise(TIME, INPUT).requires_grad_(), noise(TIME, BATCH, INPUT)
    x_TBI = (x_TBI.transpose(0, 1) if batch_first else x_TBI).detach().requires_grad_()
    yield x_TI, x_TI, False
    yield x_TBI, x_TBI, True
    for lengths_B, is_sorted in ([4, 3, 1], True), ([2, 4, 1], False):
        lengths = torch.tensor(lengths_B)
        yield x_TBI, pack_padded_sequence(x_TBI, lengths, batch_first, is_sorted), True


def everything(layer: nn.Module, leaf: Tensor, given: Any, states: tuple[Tensor, ...], seed: int) -> list[Tensor]:
    """Return output, final states and the gradients of all that goes in, for a random cotangent."""
    generator = torch.Generator().manual_seed(seed)
    states = tuple(state.clone().requires_grad_() for state in states)
    output, final = layer(given, states if len(states) > 1 else states[0])
    if isinstance(output, PackedSequence):
        output = output.data
    made = [output, *(final if isinstance(final, tuple) else (final,))]
    total = sum((v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in made)
    return made + list(torch.autograd.grad(total, [leaf, *states, *layer.parameters()], retain_graph=True))


def compare(theirs: nn.RNNBase, ours: Recurrent, batch_first: bool) -> None:
    parts = theirs.num_layers * (1 + theirs.bidirectional)
    widths = [theirs.proj_size or HIDDEN, HIDDEN][: 1 + isinstance(theirs, nn.LSTM)]
    for seed, (leaf, given, batched) in enumerate(inputs(batch_first)):
        states = tuple(noise(parts, *([BATCH] if batched else []), width) for width in widths)
        wanted, found = (everything(layer, leaf, given, states, seed) for layer in (theirs, ours))
        names = ["output", *ours.state_names, "∂x", *(f"∂{n}" for n in ours.state_names)]
        names += [f"∂{name}" for name, _ in theirs.named_parameters()]
        for name, one, other in zip(names, found, wanted, strict=True):
            torch.testing.assert_close(one, other, **TIGHT, msg=lambda m, at=f"{name}, input {seed}": f"{at}: {m}")


@each_kind
@pytest.mark.parametrize("engine", ["reference", "builtin", "native"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_numbers_and_gradients_are_torchs(
    kind: Kind, engine: str, layers: int, bidirectional: bool, bias: bool
) -> None:
    for batch_first, ours_from_theirs in ((False, True), (True, False)):  # weights know nothing of the batch
        theirs, ours = kind.pair(
            engine, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first
        )
        if ours_from_theirs:
            assert str(ours.load_state_dict(theirs.state_dict(), strict=True)) == "<All keys matched successfully>"
        else:
            assert str(theirs.load_state_dict(ours.state_dict(), strict=True)) == "<All keys matched successfully>"
        compare(theirs, ours, batch_first)


@each_kind
def test_one_seed_gives_the_same_weights_under_the_same_names(kind: Kind) -> None:
    torch.manual_seed(11)
    theirs, _ = kind.pair("auto", num_layers=2, bidirectional=True)
    torch.manual_seed(11)
    ours = Recurrent(kind.ours, INPUT, HIDDEN, 2, bidirectional=True, dtype=torch.float64, **dict(kind.keywords))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())


@each_kind
def test_states_default_to_zeros_as_in_torch(kind: Kind) -> None:
    theirs, ours = kind.pair("auto")
    ours.load_state_dict(theirs.state_dict())
    for _, given, _ in inputs(False):
        for one, other in zip(ours(given), theirs(given), strict=True):
            one, other = (v.data if isinstance(v, PackedSequence) else v for v in (one, other))
            torch.testing.assert_close(one, other, **TIGHT)


@each_kind
def test_packed_output_is_packed_as_torch_packs_it(kind: Kind) -> None:
    theirs, ours = kind.pair("auto")
    for _, given, _ in list(inputs(False))[2:]:
        one, other = ours(given)[0], theirs(given)[0]
        for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            left, right = getattr(one, name), getattr(other, name)
            assert (left is None and right is None) or torch.equal(left, right)


@each_kind
def test_dropout_draws_the_same_masks_as_torch(kind: Kind) -> None:
    theirs, ours = kind.pair("reference", num_layers=2, dropout=0.5)
    ours.load_state_dict(theirs.state_dict())
    x_TBI, found = noise(TIME, BATCH, INPUT), []
    for layer in (theirs, ours):
        torch.manual_seed(2)
        found.append(layer(x_TBI)[0])
    torch.testing.assert_close(found[1], found[0], **TIGHT)
