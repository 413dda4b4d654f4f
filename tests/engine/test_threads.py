"""Threads of Python may share layers, cells and caches: every pass gives, bit by bit, what it gives alone.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.support.whole import usual
from unvanish import LSTM, Recurrent
from unvanish.engine.shared import Shelf

THREADS, PASSES = 8, usual(1_500, 5_000)


@pytest.fixture(autouse=True)
def _one_thread_inside() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def layers() -> list[Recurrent]:
    """Two of one cell and one size, one of another size, one of another cell."""
    return [LSTM(8, 16), LSTM(8, 16), LSTM(8, 5), Recurrent("gru_reset_before", 8, 16)]


def trained(layer: Recurrent, x_TBI: Tensor, lengths: list[int] | None) -> list[Tensor]:
    output, _ = layer(x_TBI, lengths=lengths)
    return [output.detach(), *torch.autograd.grad(output.sin().sum(), list(layer.parameters()))]


def inferred(layer: Recurrent, x_TBI: Tensor, lengths: list[int] | None) -> list[Tensor]:
    with torch.inference_mode():
        return [layer(x_TBI, lengths=lengths)[0].clone()]


def test_eight_threads_over_four_layers_give_what_one_gives() -> None:
    made = layers()
    inputs = [(torch.randn(steps, 4, 8), lengths) for steps in (3, 11, 20) for lengths in (None, [steps, 1, 2, 3])]
    work = [(run, layer, *given) for run in (trained, inferred) for layer in made for given in inputs]
    truth = [run(*given) for run, *given in work]
    wrong: list[int] = []

    def walk(seed: int) -> None:
        order = torch.randint(0, len(work), (PASSES // THREADS,), generator=torch.Generator().manual_seed(seed))
        for number in order.tolist():
            run, *given = work[number]
            found = run(*given)
            if not all(map(torch.equal, found, truth[number])):
                wrong.append(number)

    threads = [threading.Thread(target=walk, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_that_ask_at_once_get_one_object() -> None:
    shelf, begun, made, found = Shelf(4), threading.Barrier(THREADS), [], []

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask() -> None:
        begun.wait()
        found.append(shelf.get("key", make))

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(one is made[0] for one in found)


def test_shelf_keeps_the_last_keys_and_no_more() -> None:
    shelf, made = Shelf(2), []
    for key in ("a", "b", "a", "c", "a", "b"):
        shelf.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "b"]
