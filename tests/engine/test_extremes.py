"""Huge, tiny, infinite and missing numbers do in the kernels what they do in the reference.

With one difference: in the kernels a zero adjoint sends nothing, where torch sends NaN if it meets infinity.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import unvanish
from tests.support.whole import KINDS, usual
from unvanish import Cell, Recurrent

T, B, I, H = 3, 17, 5, 33
NAMES = ("lstm", "peephole_lstm", "gru_reset_before", "gru", "skip_rnn", "lem", "indrnn", "clockwork_rnn")
# What blanks an adjoint blanks an infinite one too, as long as it is not first multiplied with a zero.
GATES = {
    "abs": "h[t] = abs(U @ h[t-1] + W @ x[t])",
    "relu": "h[t] = relu(U @ h[t-1] + p * h[t-1] + W @ x[t])",
    "inner_relu": "h[t] = tanh(p * relu(U @ h[t-1]) + W @ x[t])",
    "maximum": "h[t] = maximum(p * (U @ h[t-1]), W @ x[t])",
    "minimum": "h[t] = minimum(U @ h[t-1], W @ x[t]) * p",
    "twice": "h[t] = maximum(h[t-1], h[t-1]) + W @ x[t]",
    "where": "h[t] = where(h[t-1] > 0.3, p * (W @ x[t]), U @ h[t-1])",
}
CELLS = [*(unvanish.cells[name] for name in NAMES), *(Cell(name, text) for name, text in GATES.items())]
PLACES = ("input", "weights", "states", "cotangents")
TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-10}  # of the largest: sums of 10^4 cancel
# Single precision has other functions, and the same text of a kernel: one cell of each kind.
BOTH = usual((*KINDS, "relu", "where"), [cell.name for cell in CELLS])
CASES = [(cell, torch.float64) for cell in CELLS] + [(cell, torch.float32) for cell in CELLS if cell.name in BOTH]
by_cell_and_dtype = pytest.mark.parametrize(
    ("cell", "dtype"), CASES, ids=lambda one: getattr(one, "name", str(one))
)


def pair(cell: Cell, dtype: torch.dtype, change: Callable[[Tensor], None] | None = None) -> list[Recurrent]:
    """The same layer on the reference and natively; `change` is done to its weights."""
    reference, native = (Recurrent(cell, I, H, dtype=dtype, engine=engine) for engine in ("reference", "native"))
    with torch.no_grad():
        for parameter in reference.parameters() if change else ():
            change(parameter.view(-1))
    native.load_state_dict(reference.state_dict())
    return [reference, native]


def given(layer: Recurrent, dtype: torch.dtype) -> list[Tensor]:
    """An input and initial states."""
    states = layer.zero_states(B)
    return [torch.randn(T, B, I, dtype=dtype), *(s + torch.randn(s.shape, dtype=dtype) for s in of_numbers(states))]


def of_numbers(states: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """All but the index of the step."""
    return (state for state in states if state.is_floating_point())


def results(
    layer: Recurrent, start: list[Tensor], cotangents: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Output, final states, states of all steps; and the gradients of what was given and of the weights."""
    leaves = [array.clone().requires_grad_() for array in start]
    states = (*leaves[1:], *(s for s in layer.zero_states(B) if not s.is_floating_point()))
    output, final, every = layer(leaves[0], states if len(states) > 1 else states[0], all_states=True)
    final = final if isinstance(final, tuple) else (final,)
    values = [output, *of_numbers(final), *every.values()]
    leaves += layer.parameters()
    found = torch.autograd.grad(values, leaves, [cotangents(value) for value in values], materialize_grads=True)
    return [value.detach() for value in values], list(found)


def put(value: float) -> Callable[[Tensor], None]:
    """Return what puts a value at some places of an array, the same in every run."""

    def change(flat: Tensor) -> None:
        places = torch.randint(len(flat), (3,), generator=torch.Generator().manual_seed(len(flat)))
        flat[places] = value * torch.tensor([1, -1, 1], dtype=flat.dtype)

    return change


def cotangents(value: float | None) -> Callable[[Tensor], Tensor]:
    def draw(like: Tensor) -> Tensor:
        drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(1), dtype=like.dtype)
        if value is not None:
            put(value)(drawn.view(-1))
        return drawn

    return draw


def assert_same(found: Tensor, wanted: Tensor, value: float) -> None:
    """Finite where the other is, and close there; with infinities of both signs the sums may be of either kind."""
    assert torch.equal(found.isfinite(), wanted.isfinite())
    if value != float("inf"):
        assert torch.equal(found.isnan(), wanted.isnan())
        infinite = wanted.isinf()
        assert torch.equal(found[infinite], wanted[infinite])
    assert_close(found, wanted)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Close to the other wherever that is finite."""
    finite = wanted.isfinite()
    scale = float(wanted[finite].abs().max()) + 1e-3 if finite.any() else 1.0
    torch.testing.assert_close(found[finite] / scale, wanted[finite] / scale, rtol=0, atol=TOLERANCE[wanted.dtype])


@by_cell_and_dtype
@pytest.mark.parametrize("place", PLACES)
def test_extreme_numbers_do_what_they_do_in_the_reference(cell: Cell, dtype: torch.dtype, place: str) -> None:
    denormal = torch.finfo(dtype).tiny / 1000
    for value in (1e4, denormal, float("inf"), float("nan")):
        layers = pair(cell, dtype, put(value) if place == "weights" else None)
        start = given(layers[0], dtype)
        for array in {"input": start[:1], "states": start[1:]}.get(place, ()):
            put(value)(array.view(-1))
        draw = cotangents(value if place == "cotangents" else None)
        wanted, found = (results(layer, start, draw) for layer in layers)
        for one, other in zip(found[0], wanted[0], strict=True):
            assert_same(one, other, value)
        for one, other in zip(found[1], wanted[1], strict=True):
            assert_close(one, other)


@by_cell_and_dtype
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_not_a_number_stays_in_its_row(cell: Cell, dtype: torch.dtype, threads: int) -> None:
    _, layer = pair(cell, dtype)
    start, before = given(layer, dtype), torch.get_num_threads()
    torch.set_num_threads(threads)
    whole, gradients = results(layer, start, cotangents(None))
    whole += gradients[: len(start)]
    for row in (0, 3, B - 1):
        for index, array in enumerate(start):
            broken = [other.clone() for other in start]
            broken[index][0 if array.shape[0] == T else -1, row, 2] = float("nan")
            others = [other for other in range(B) if other != row]
            values, gradients = results(layer, broken, cotangents(None))
            values += gradients[: len(start)]
            assert values[0][:, row].isnan().any()
            for value, sound in zip(values, whole, strict=True):
                assert torch.equal(value[..., others, :], sound[..., others, :])
    torch.set_num_threads(before)
