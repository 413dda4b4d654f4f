"""Causes that need a closer look than the suite gives: padding, overflow, cuts, losses of any size."""

from __future__ import annotations

import cProfile
import dataclasses
import math
import sys
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

import unvanish
from tests.diagnosis.spoilt import Words
from tests.diagnosis.suite import cases
from tests.diagnosis.written import Written, cut
from tests.diagnosis.zoo import near_one
from unvanish.diagnosis import Diagnosis, diagnose
from unvanish.diagnosis.causes import explains
from unvanish.errors import FlowError
from unvanish.flow.finding.graph import kept_directly, rate_with_all_kept


def asked(model: nn.Module, batch: Any, need: int = 20, **more: Any) -> Diagnosis:
    return diagnose(model, batch, near_one, need=need, prescriptions=False, **more)


def kinds(found: Diagnosis) -> list[str]:
    return [cause.kind for cause in found.causes]


# -- padding -----------------------------------------------------------------------------------------------------


class Gathered(Words):
    """Every row is read at its own last step."""

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        y = self.rnn(self.table(words))[0]
        return self.out(y[torch.arange(len(words)), lengths - 1])


class Averaged(Words):
    """All steps are read, the padded ones too."""

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        return self.out(self.rnn(self.table(words))[0].mean(1))


def rows(lengths: list[int]) -> tuple[Tensor, Tensor]:
    count = torch.tensor(lengths)
    words = torch.randint(1, 30, (len(lengths), max(lengths)))
    return words * (torch.arange(max(lengths)) < count[:, None]), count


@pytest.mark.parametrize("kind", [Words, Averaged, Gathered])
def test_padding_is_a_cause_only_where_the_loss_reads_it(kind: type[Words]) -> None:
    torch.manual_seed(0)
    found = asked(kind(12, packs=False), rows([60, 40, 33, 50, 21, 60]))
    assert ("padding read" in kinds(found)) == (kind is not Gathered)
    if kind is not Gathered:
        cause = next(cause for cause in found.causes if cause.kind == "padding read")
        assert cause.number == 39
        assert "4 of 6 rows" in cause.text


class MasksItself(Words):
    """The lengths are found by what stands at the end of the rows."""

    def forward(self, words: Tensor) -> Tensor:
        y = self.rnn(self.table(words))[0]
        if self.way == "gathered":
            return self.out(y[torch.arange(len(words)), (words != 0).sum(1) - 1])
        mask = (words != 0).float()[:, :, None]
        if self.way == "averaged":
            return self.out((y * mask).sum(1) / mask.sum(1))
        weight = self.out(y).masked_fill(mask == 0, -1e9).softmax(1)
        return self.out((weight * y).sum(1))


@pytest.mark.parametrize("way", ["gathered", "averaged", "attended"])
def test_padding_that_a_model_masks_itself_is_not_read(way: str) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model = MasksItself(12, packs=False)
        model.way = way
        assert "padding read" not in kinds(asked(model, (rows([60, 40, 33, 50, 21, 60])[0],)))


@pytest.mark.parametrize("same", ["all rows", "in the middle"])
def test_one_number_many_times_is_no_padding(same: str) -> None:
    torch.manual_seed(0)
    words, lengths = rows([60, 40, 33, 50, 21, 60])
    words = torch.where(torch.arange(60) < 45, torch.randint(1, 30, (6, 60)), 0) if same == "all rows" else words
    if same == "in the middle":
        words[:, 3:15] = 0
    assert "padding read" not in kinds(asked(Words(12, packs=False), (words, lengths)))


# -- no memory at all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch", "verdict"),
    [
        (nn.Linear(4, 1), torch.randn(8, 100, 4), "dead"),
        (nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 1)), torch.randint(0, 10, (8, 100)), "dead"),
        (nn.Conv1d(4, 4, 3, padding=1), torch.randn(8, 4, 100), "vanishing"),
        (nn.Linear(4, 1), torch.randn(100, 4), "dead"),
    ],
)
def test_loss_at_every_step_gives_a_model_no_memory(model: nn.Module, batch: Tensor, verdict: str) -> None:
    found = asked(model, (batch,), need=50)
    assert found.verdict == verdict
    assert "detached state" not in kinds(found)


# -- no state to be seen -----------------------------------------------------------------------------------------


class Scanned(nn.Module):
    """A linear recurrence as a convolution with its impulse response, e^(-rate k)."""

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__()
        self.rise, self.out = nn.Linear(2, 8), nn.Linear(8, 1)
        self.kernel_T = torch.exp(-rate * torch.arange(steps))

    def forward(self, x_TBI: Tensor) -> Tensor:
        y = self.rise(x_TBI)
        spectrum = torch.fft.rfft(y, 2 * len(y), 0) * torch.fft.rfft(self.kernel_T, 2 * len(y))[:, None, None]
        return self.out(torch.fft.irfft(spectrum, 2 * len(y), 0)[len(y) - 1])


@pytest.mark.parametrize(("rate", "verdict"), [(0.01, "healthy"), (0.15, "vanishing"), (0.7, "vanishing")])
def test_gradient_by_the_input_may_decay_to_nothing(rate: float, verdict: str) -> None:
    torch.manual_seed(0)
    assert asked(Scanned(rate, 60), torch.randn(60, 3, 2), 50).verdict == verdict


# -- where a state is cut ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "kind"), [("detach", "detached state"), ("zero", "state reset")])
def test_cut_is_counted_where_it_is(how: str, kind: str) -> None:
    torch.manual_seed(0)
    found = asked(Written(cut(how, 25), 12, 1.0), torch.randn(60, 3, 2), 30)
    (cause,) = [cause for cause in found.causes if cause.kind == kind]
    assert "2 of 59 times" in cause.text
    assert cause.number == 25
    assert found.parts[0].profile.reach == 24
    assert found.verdict == "vanishing"


def test_cut_beyond_what_is_needed_is_none() -> None:
    torch.manual_seed(0)
    found = asked(Written(cut("detach", 25), 12, 1.0), torch.randn(74, 3, 2), 20)
    assert (found.verdict, found.causes) == ("healthy", ())
    late = asked(Written(cut("detach", 25), 12, 1.0), torch.randn(60, 3, 2), 20)
    assert late.causes[0].kind == "detached state"  # ten steps before the loss
    assert (late.verdict, late.parts[0].window) == ("vanishing", 11)


# -- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0**-80, 2.0**70])
def test_norms_are_those_of_the_loss_as_it_is(factor: float) -> None:
    """Small numbers are measured at another scale, and told at their own."""
    torch.manual_seed(0)
    model, x = Words(12, packs=False), rows([30, 30])
    plain = asked(model, x).parts[0].loss_norms
    scaled = diagnose(model, x, lambda y: factor * near_one(y), need=20, prescriptions=False).parts[0].loss_norms
    for state, norms in plain.items():
        told = torch.tensor(scaled[state], dtype=torch.float64) / factor
        torch.testing.assert_close(told, torch.tensor(norms, dtype=torch.float64), rtol=1e-4, atol=1e-12)


def test_gradient_behind_many_layers_is_measured() -> None:
    """Its squares are too small for single precision; the verdict on the recurrence is that of the recurrence."""
    torch.manual_seed(0)
    model: Any = Words(12, packs=False)
    model.out = nn.Sequential(*[layer for _ in range(30) for layer in (nn.Linear(12, 12), nn.Sigmoid())])
    found = asked(model, rows([30, 30]))
    assert (found.verdict, kinds(found)[0]) == ("healthy", "starved")
    assert 0 < max(found.parts[0].loss_norms["h"]) < 1e-18


# -- patients of the suite, whose causes may not be missed ---------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "gradients of one layer add up",
        "relu that is dead before",
        "LSTM, units of sensors",
        "layer that overflows",
        "exponential gates overflow",
        "infinity in the input",
        "stabilised exponential gates, 5.0",
        "a branch that begins with zero",
    ],
)
def test_first_cause(name: str) -> None:
    case = next(case for case in cases() if case.name == name)
    patient = case.make(3)
    found = diagnose(
        patient.model, patient.batch, patient.loss, need=patient.need, prescriptions=False, **patient.more
    )
    assert found.verdict == case.verdict
    assert kinds(found)[:1] == ([] if case.cause is None else [case.cause])


@pytest.mark.parametrize("reentrant", [True, False])
def test_older_checkpoints_are_refused_in_one_line(reentrant: bool) -> None:
    class Saved(Written):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], 12)
            for x_t in x:
                h = torch.utils.checkpoint.checkpoint(self.once, x_t, h, use_reentrant=reentrant)
            return self.out(h)

        def once(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.w(x) + self.u(h))

    torch.manual_seed(0)
    model, x = Saved(cut("detach", 99), 12, 1.0), torch.randn(40, 3, 2).requires_grad_()
    if reentrant:
        with pytest.raises(FlowError, match="use_reentrant=False"):
            asked(model, x)
    else:
        assert asked(model, x).verdict in ("healthy", "vanishing")


def test_gradients_of_a_table_may_be_sparse() -> None:
    torch.manual_seed(0)
    model = Words(12, packs=False)
    model.table = nn.Embedding(30, 2, sparse=True)
    assert asked(model, rows([30, 30])).verdict == "healthy"


def test_part_that_runs_seldom_is_no_short_window_where_another_remembers() -> None:
    class SlowAndFast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slow, self.fast, self.out = nn.GRUCell(2, 8), nn.GRUCell(10, 8), nn.Linear(8, 1)
            for cell in (self.slow, self.fast):
                cell.bias_ih.data[8:16] = 6.0

        def forward(self, x: Tensor) -> Tensor:
            slow = fast = x.new_zeros(x.shape[1], 8)
            for t, x_t in enumerate(x):
                slow = self.slow(x_t, slow) if t % 5 == 0 else slow
                fast = self.fast(torch.cat([x_t, slow], 1), fast)
            return self.out(fast)

    torch.manual_seed(0)
    found = asked(SlowAndFast(), torch.randn(60, 3, 2), 40)
    assert (found.verdict, kinds(found)) == ("healthy", [])


# -- the house -----------------------------------------------------------------------------------------------------


def test_profiler_is_given_back() -> None:
    torch.manual_seed(0)
    model = Words(12, packs=False)
    optimizer, x = torch.optim.SGD(model.parameters(), 0.1), rows([30, 30])

    def step() -> None:
        near_one(model(*x)).backward()
        optimizer.step()

    profiler = cProfile.Profile()
    profiler.enable()
    before = sys.getprofile()  # from Python 3.12 on it is none of these
    try:
        assert "no zero_grad" in kinds(asked(model, x, optimizer=optimizer, step=step))
        assert sys.getprofile() is before
    finally:
        profiler.disable()


def test_what_is_done_is_said() -> None:
    torch.manual_seed(0)
    said: list[str] = []
    model = nn.Sequential(unvanish.Recurrent("rnn", 2, 8), Last())
    diagnose(model, torch.randn(40, 2, 2), near_one, need=30, say=said.append)
    assert said[:3] == ["finding the recurrences", "measuring 0.l0", "looking for causes"]
    assert all(line.startswith("trying ") for line in said[3:])
    assert len(said) > 4


class Last(nn.Module):
    """The last output of a layer."""

    def forward(self, given: tuple[Tensor, Any]) -> Tensor:
        return given[0][-1]


# -- what is blamed is changed, and nothing else -------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_rate_with_all_kept_is_that_of_the_changed_jacobian(kept: float) -> None:
    """Of s = k s + A s with a second state: the spectral radius of J, with (1 - k) I added to the block of s."""
    torch.manual_seed(0)
    small_HH, mixed_HH = 0.2 * torch.randn(6, 6).double(), 0.3 * torch.randn(6, 6).double()
    small_HH.fill_diagonal_(0.0)
    s, r = (torch.randn(1, 6).double().requires_grad_() for _ in range(2))
    states = [[s, r]]
    for _ in range(400):
        s, r = kept * s + s @ small_HH.T + 0.1 * r, s @ mixed_HH.T
        states.append([s, r])
    keep_W = kept_directly(states, draws=400)[0]
    assert float(keep_W.mean()) == pytest.approx(kept, abs=0.02)
    identity = torch.eye(6).double()
    top = torch.cat([identity + small_HH, 0.1 * identity], 1)
    changed = torch.cat([top, torch.cat([mixed_HH, torch.zeros(6, 6).double()], 1)])
    radius = float(torch.linalg.eigvals(changed).abs().max())
    assert rate_with_all_kept(states, 0, torch.full((6,), kept)) == pytest.approx(math.log(radius), abs=0.01)


def test_a_path_is_blamed_only_where_keeping_it_would_help() -> None:
    patient = next(case for case in cases() if case.name == "loop, a constant damps").make(0)
    part = diagnose(patient.model, patient.batch, patient.loss, need=40, prescriptions=False).parts[0]
    (memory,) = part.saturation.memories
    assert memory.whole == pytest.approx(0.0, abs=0.1)
    assert explains(memory, part, 40)
    assert not explains(dataclasses.replace(memory, whole=part.profile.rate), part, 40)
