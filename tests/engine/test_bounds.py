"""What is kept for later passes stays within bounds, and holds no layer that its user has dropped."""

from __future__ import annotations

import gc
import weakref

import torch

import unvanish
from tests.support.whole import whole_only
from unvanish import Cell, Recurrent
from unvanish.engine import make_plan
from unvanish.engine.ir.lower import lower
from unvanish.engine.native.binding import bind
from unvanish.engine.native.emit import emit
from unvanish.engine.native.kernel import load
from unvanish.engine.native.schedule import even
from unvanish.engine.operator import _known, _recent

LAYERS = 1_000


@whole_only
def test_thousand_layers_made_and_dropped_leave_nothing_behind() -> None:
    x_TBI, dropped, others = torch.randn(3, 2, 4), [], len(_known)
    for hidden in range(1, LAYERS + 1):
        layer = unvanish.LSTM(4, hidden % 290 + 1, num_layers=1 + (hidden > 990))
        if hidden % 3 == 0:
            layer(x_TBI)[0].sum().backward()
        dropped.append(weakref.ref(layer))
    del layer
    gc.collect()
    assert not any(ref() is not None for ref in dropped)
    assert len(_known) <= len(_recent) + others
    assert len(_recent) <= 256
    shelves = [one.shelf for one in (make_plan, lower, emit, load, bind, even)]
    assert all(len(shelf.found) <= shelf.most <= 256 for shelf in shelves)
    assert all(len(one.prepared.found) <= one.prepared.most for one in even.shelf.found.values())


def test_thousand_cells_made_and_dropped_leave_no_more_than_the_last() -> None:
    others = len(_known)
    for number in range(LAYERS):
        cell = Cell(f"cell{number}", f"h[t] = tanh(W @ x[t] + U @ h[t-1] + {number + 1})")
        Recurrent(cell, 2, 3, engine="reference")
    assert len(make_plan.shelf.found) <= 256
    gc.collect()
    assert len(_known) <= len(_recent) + others


def test_graph_finds_a_layer_that_was_dropped_a_short_while_ago() -> None:
    layer, x_TBI = unvanish.PeepholeLSTM(4, 5), torch.randn(3, 2, 4)
    wanted, program = layer(x_TBI)[0], torch.export.export(layer, (x_TBI,))
    del layer
    gc.collect()
    torch.testing.assert_close(program.module()(x_TBI)[0], wanted)
