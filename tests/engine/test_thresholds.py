"""The kernels agree with the reference on both sides of every threshold that a user meets, where it is shipped."""

from __future__ import annotations

import itertools

import pytest
import torch

import unvanish
from tests.support.pairs import assert_agree
from tests.support.whole import usual
from unvanish import Cell
from unvanish.engine.native import backend

WIDTHS, BATCHES = (1, 16, 17, 100, 512, 513), (1, 3, 4, 17)
# Both sides of each threshold of width and of rows.
SIDES = [(1, 1), (16, 4), (17, 3), (100, 17), (512, 3), (513, 4)]
SIDES = usual(SIDES, [*itertools.product(WIDTHS, BATCHES)])
# Each reads a product of the input, which may be worked out before the loop, in another way.
STREAMS = {
    "softmax": "h[t] = tanh(softmax(W @ x[t]) + U @ h[t-1])",
    "layernorm": "h[t] = tanh(layernorm(W @ x[t]) * p + U @ h[t-1])",
    "product": "h[t] = tanh(A @ (B @ x[t]) + U @ h[t-1])",
    "both": "v = W @ x[t]\nh[t] = tanh(A @ v + softmax(v) + v * (U @ h[t-1]))",
    "twice": "v = W @ x[t]\nq = softmax(A @ v)\nh[t] = tanh(q * v + U @ h[t-1] + layernorm(q + v))",
    "gate": "v = W @ x[t]\nh[t] = maximum(v, 0.5 * softmax(v)) + 0.5 * tanh(U @ h[t-1])",
    "carried": "v[t] = W @ x[t]\nh[t] = tanh(U @ h[t-1] + v[t] + softmax(v[t-1]))",
    "only_added": "v[t] = W @ x[t]\nh[t] = tanh(U @ h[t-1] + v[t] + 0.5 * v[t-1])",
    "added_and_multiplied": "v = W @ x[t]\nh[t] = tanh(A @ v + v + U @ h[t-1])",
    "added_and_normalised": "v = U @ h[t-1]\nh[t] = tanh(layernorm(v) + v + W @ x[t])",
    "hoisted": "v = exp(-softplus(W @ x[t]))\nh[t] = v * h[t-1] + (1 - v) * tanh(A @ v + b)",
}
CELLS = [*(Cell(name, text) for name, text in STREAMS.items()), *(unvanish.cells[n] for n in ("lstm", "lem"))]


def test_thresholds_are_where_these_tests_look() -> None:
    assert (backend.FOLD_UP_TO, backend.FOLD_FROM_ROWS, backend.FOLD_ALWAYS_UP_TO) == (512, 4, 16)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_input_of_any_width_and_batch_gives_what_the_reference_gives(cell: Cell) -> None:
    for width, batch in SIDES:
        assert_agree(cell, width, 9, batch, 3)


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before"])
def test_normalised_layer_of_any_width_and_batch_gives_what_the_reference_gives(name: str) -> None:
    for width, batch in SIDES:
        assert_agree(name, width, 9, batch, 3, layer_norm=True)


@pytest.mark.parametrize("name", ["softmax", "product"])
def test_single_precision_agrees_before_the_loop_and_inside(name: str) -> None:
    for width, batch in ((16, 1), (17, 1), (513, 17)):
        assert_agree(Cell(name, STREAMS[name]), width, 9, batch, 3, torch.float32)
