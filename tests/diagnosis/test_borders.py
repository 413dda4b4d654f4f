"""A verdict does not hang on the directions that happen to be drawn: near a border it is borderline."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unvanish
from tests.diagnosis import zoo
from tests.diagnosis.zoo import Case
from tests.support.whole import WHOLE
from unvanish.diagnosis.costs import cost_of
from unvanish.diagnosis.findings import worst
from unvanish.diagnosis.measure import judge, look
from unvanish.flow.finding.calling import called
from unvanish.flow.finding.graph import DRAWS, MORE, drawn
from unvanish.flow.finding.observe import observe
from unvanish.flow.measuring.profile import Profile, reach_of

NEED, T, H = 30, 32, 12


def kept_after(share: float) -> nn.Module:
    """A model whose recurrence keeps some share of a gradient after the needed lag, in the mean over directions."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = unvanish.Recurrent("rnn", 2, H, nonlinearity="relu"), nn.Linear(H, 1)
            with torch.no_grad():
                self.rnn["U_h"].copy_(torch.linalg.qr(torch.randn(H, H))[0] * share ** (1 / NEED))
                self.rnn["U_h"][:, H // 3 :] *= 0.3  # so that directions differ
                self.rnn["b_h"].fill_(1.0)

        def forward(self, x_TBI: Tensor) -> Tensor:
            return self.out(self.rnn(x_TBI)[0][-1])

    return Model()


@pytest.mark.parametrize("share", np.geomspace(1e-3, 30, 24 if WHOLE else 6))
def test_verdict_never_goes_from_healthy_to_vanishing_with_the_seed(share: float) -> None:
    torch.manual_seed(0)
    model, x_TBI = kept_after(share), torch.randn(T, 4, 2)
    verdicts = {
        unvanish.diagnose(
            model, x_TBI, lambda y: y.square().mean(), need=NEED, prescriptions=False, seed=seed
        ).verdict
        for seed in range(100 if WHOLE else 12)
    }
    assert not {"healthy", "vanishing"} <= verdicts


def flips(case: Case, seeds: int) -> set[str]:
    """The verdicts on the worst part of a patient, over seeds of the directions."""
    patient = case.make(0)
    seen = observe(patient.model, lambda: patient.loss(called(patient.model, patient.batch)), need=patient.need)
    found = set()
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        verdicts = []
        for part in seen.parts.values():
            module = seen.module_of(part.name)
            verdicts.append(look(part, module, patient.need, module.longest, generator)[1].verdict)
        found.add(worst(verdicts))
    return found


# Stepped parts: those of a loop are measured in the graph of the run, from directions that do not change.
STEPPED = [
    case for case in zoo.cases() if case.cause in (None, "weights", "forgetting", "saturation", "input scale")
]


@pytest.mark.parametrize("case", STEPPED[:50] if WHOLE else STEPPED[:50:9], ids=lambda case: case.name)
def test_verdict_is_the_same_for_all_seeds(case: Case) -> None:
    assert len(flips(case, 100 if WHOLE else 10)) == 1


def profile_of(left: float, low: float, high: float) -> Profile:
    def curve(end: float) -> np.ndarray:
        return np.geomspace(1.0, end, NEED + 1)

    reach = int(np.flatnonzero(curve(left) >= 0.01)[-1])
    band = (curve(low), curve(high))
    return Profile("l0", curve(left), {}, math.log(left) / NEED, 0.0, reach, reach == NEED, band=band)


@pytest.mark.parametrize(
    ("left", "low", "high", "verdict"),
    [
        (0.02, 0.015, 0.03, "healthy"),
        (0.02, 0.008, 0.04, "borderline"),
        (0.008, 0.006, 0.012, "borderline"),
        (0.008, 0.007, 0.009, "vanishing"),
        (150.0, 120.0, 200.0, "exploding"),
        (150.0, 80.0, 300.0, "borderline"),
    ],
)
def test_band_that_meets_a_border_is_borderline(left: float, low: float, high: float, verdict: str) -> None:
    assert judge(profile_of(left, low, high), NEED, T).verdict == verdict


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (0.02, f"0.02 of the gradient is left after {NEED} steps"),
        (1.0, f"all of the gradient is left after {NEED} steps"),
        (56.0, f"after {NEED} steps the gradient is 56 times what it was"),
    ],
)
def test_a_gradient_that_grew_is_told_as_a_multiple_of_what_it_was(left: float, told: str) -> None:
    assert judge(profile_of(left, left, left), NEED, T).because == told


@pytest.mark.parametrize(("left", "count"), [(0.2, DRAWS), (0.015, MORE), (1e-4, DRAWS), (125.0, MORE)])
def test_more_directions_are_drawn_where_few_do_not_tell_the_side_of_a_border(left: float, count: int) -> None:
    def squares_of(draws: int, seed: int) -> np.ndarray:
        kept_D = np.random.default_rng(seed).chisquare(4, draws) / 4
        return np.stack([np.ones(draws), kept_D * left**2, np.zeros(draws)], 1)[:, :, None]

    assert len(drawn(squares_of, 1)) == count


def comb(delay: int, steps: int, kept: float = 1.0) -> Profile:
    """The profile of a recurrence that keeps a gradient along its delay, and loses it fast between."""
    lags = np.arange(steps)
    norms = kept ** (lags // delay) * 0.4 ** (lags % delay)
    reach, censored = reach_of(norms, delay)
    return Profile("l0", norms, {"h": norms}, -0.01, 0.0, reach, censored, delay, (norms, norms))


def test_delays_whose_next_lag_was_not_measured_are_not_called_healthy_short_of_the_need() -> None:
    found = judge(comb(45, 120), 119, 119)
    assert comb(45, 120).reach == 95
    assert (found.verdict, "1 % reaches 95 steps" in found.because) == ("borderline", True)
    assert judge(comb(45, 200), 119, 199).verdict == "healthy"  # 135 was measured: the most over one period counts
    assert judge(comb(45, 200, kept=0.2), 119, 199).verdict == "vanishing"
    assert judge(comb(39, 120), 119, 119).verdict == "healthy"
    assert judge(comb(2, 120), 119, 119).verdict == "healthy"


def test_skips_that_are_prescribed_reach_the_needed_lag_itself() -> None:
    torch.manual_seed(0)
    model, out = nn.LSTM(4, 16), nn.Linear(16, 1)
    whole = nn.Sequential(model, Taken(), out)
    found = unvanish.diagnose(whole, torch.randn(120, 4, 4), lambda y: y.square().mean())
    (skips,) = [one for one in found.prescriptions if one.name == "skips"]
    assert (skips.verdict, skips.reach >= 119) == ("healthy", True)
    low, high = skips.cost_range
    assert 0 < low <= skips.cost <= high
    assert skips.cost_text in ("", f"{skips.cost:.2g} × ({low:.2g}–{high:.2g})")


class Taken(nn.Module):
    """The last output of a layer."""

    def forward(self, answer: tuple[Tensor, object]) -> Tensor:
        return answer[0][-1]


def test_a_cost_is_that_of_the_change_alone_and_threads_are_as_before() -> None:
    torch.manual_seed(0)
    one, four = (nn.Sequential(nn.LSTM(8, 32, count), Taken()) for count in (1, 4))
    x_TBI, before = torch.randn(60, 16, 8), torch.get_num_threads()

    def run(model: nn.Module) -> Tensor:
        found: Tensor = model(x_TBI).square().mean()
        return found

    same, more = cost_of(one, one, run), cost_of(four, one, run)
    assert same.low < 1.2
    assert same.high > 0.8
    assert more.median > 1.5 * same.median
    assert torch.get_num_threads() == before
    assert all(parameter.grad is None for parameter in one.parameters())
