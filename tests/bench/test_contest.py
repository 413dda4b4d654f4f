"""A contest says how fast a cell is beside others, and whether it makes the numbers of its equations."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

import unvanish
from tests.support.whole import usual
from unvanish.bench import Contest, Shape, Span, contest
from unvanish.errors import OptionError

SMALL = Shape(length=12, batch_size=3, input=4, hidden=8)
CELLS = usual(("lstm", "skip_rnn", "gru"), tuple(unvanish.cells))


def raced(name: str, **options: object) -> Contest:
    return contest(unvanish.cells[name], SMALL, rounds=5, **options)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_makes_the_numbers_of_its_equations(name: str) -> None:
    found = raced(name)
    assert found.is_same
    assert 0 < found.difference < 1e-5, "two programs of the same equations round differently"
    assert (found.engine, found.why) == ("native", "")
    assert found.rounds == 5
    assert found.parameters == sum(p.numel() for p in unvanish.Recurrent(name, 4, 8).parameters())


@pytest.mark.parametrize(("name", "own"), [("lstm", ""), ("gru", "torch.nn.GRU"), ("rnn", "torch.nn.RNN")])
def test_each_has_its_peers(name: str, own: str) -> None:
    peers = ["plain PyTorch", "torch.nn.LSTM", *filter(None, [own])]
    found = raced(name)
    for of in ("training step", "forward pass"):
        assert list(found.ratios[of]) == peers
        assert list(found.milliseconds[of]) == ["unvanish", *peers]
        for peer in peers:
            ratio = found.milliseconds[of][peer].median / found.milliseconds[of]["unvanish"].median
            assert 0.2 * ratio < found.ratios[of][peer].median < 5 * ratio, "theirs over ours"


def test_what_takes_longer_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that waits ten milliseconds more."""
    quick = raced("lstm")
    forward = torch.nn.LSTM.forward

    def late(self: torch.nn.LSTM, *given: Tensor) -> object:
        time.sleep(0.02)
        return forward(self, *given)

    monkeypatch.setattr(torch.nn.LSTM, "forward", late)
    slow = raced("lstm")
    for of in quick.ratios:
        assert slow.milliseconds[of]["torch.nn.LSTM"].low >= 20
        assert slow.ratios[of]["torch.nn.LSTM"].median > 3 * quick.ratios[of]["torch.nn.LSTM"].median


def test_other_numbers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel would make them that is wrong in one place."""
    forward = unvanish.Recurrent.forward

    def wrong(self: unvanish.Recurrent, *given: Tensor) -> object:
        output, states = forward(self, *given)
        return (output * 1.01 if self.engine == "auto" else output), states

    monkeypatch.setattr(unvanish.Recurrent, "forward", wrong)
    found = raced("lstm")
    assert not found.is_same
    assert found.difference == pytest.approx(0.01, rel=0.2)


def test_equations_without_a_kernel_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unvanish.engine.native.backend.no_compiler", lambda: "no C++ compiler was found")
    monkeypatch.setenv("CXX", "none")
    found = raced("mgu")
    assert found.engine == "reference"
    assert "compiler" in found.why


def test_options_and_the_random_state_of_the_caller_are_kept() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert raced("skip_rnn", d=5).parameters == raced("skip_rnn").parameters
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(OptionError, match="has no option"):
        raced("lstm", d=5)


def test_a_span_is_of_the_middle_half() -> None:
    assert Span.of([5.0, 1.0, 100.0, 2.0, 3.0, 4.0, 6.0, 0.1]) == Span(3.5, 2.0, 5.0)
    assert Span.of([2.0]) == Span(2.0, 2.0, 2.0)
