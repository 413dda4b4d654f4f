"""Windows hold what stands in the series and nothing that comes later; likelihoods are what they are called."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions

from unvanish.data.sequences import Sequences, Target
from unvanish.train import TrainSettings
from unvanish.train.questions import read_material
from unvanish.train.questions.likelihoods import LEVELS, LIKELIHOODS
from unvanish.train.questions.series import Borders, SeriesMaterial, Windows
from unvanish.train.questions.units import season_of
from unvanish.train.schedule import Schedule

LENGTHS = (90, 40, 61)
H = 4


def series(offset: float = 0.0, gaps: float = 0.1) -> Sequences:
    """Three series of two columns, the first of which is forecast; some values are missing."""
    rng = np.random.default_rng(0)
    rows = [
        np.stack([100 * at + np.arange(length), rng.normal(size=length)], 1) for at, length in enumerate(LENGTHS)
    ]
    values = np.concatenate(rows).astype(np.float32)
    values[rng.random(len(values)) < gaps, 0] = np.nan
    values[:, 0] += offset
    target = Target("number", "step", ("y",), values[:, :1], ahead=H)
    lengths = np.array(LENGTHS)
    return Sequences("example", lengths, ("a", "b", "c"), values, ("y", "x"), target=target, known=("x",))


def material(data: Sequences, **changes: object) -> SeriesMaterial:
    given = {"horizon": H, "length": 12, "batch_size": 4, "epochs": 1, "known": ["x"], "kind": "given", **changes}
    found = read_material(TrainSettings(**given), given=data)
    assert isinstance(found, SeriesMaterial)
    return found


@pytest.mark.parametrize("scale", ["standard", "robust", "series", "window", "none"])
def test_a_window_holds_what_stands_in_the_series(scale: str) -> None:
    data = series(gaps=0.0)
    found = material(data, scale=scale)
    origins = np.array([30, 5, 44])
    x, y = found.window(Windows(np.arange(3), origins), every=False)
    lengths = x.lengths_B
    assert lengths is not None
    assert lengths.tolist() == [12, 6, 12]
    for row, (origin, start) in enumerate(zip(origins, data.starts_B, strict=True)):
        own = x.numbers_TBF[: lengths[row], row, 0] * y.scale_BG[row] + y.centre_BG[row]
        there = data.target.values[start + origin + 1 - lengths[row] : start + origin + 1, 0]
        np.testing.assert_allclose(own, there, atol=1e-3)
        ahead = y.values[row, :, 0] * y.scale_BG[row] + y.centre_BG[row]
        np.testing.assert_allclose(
            ahead, data.target.values[start + origin + 1 : start + origin + 1 + H, 0], atol=1e-3
        )
        known = x.ahead[row] * found.question.encoding.columns[0].scale + found.question.encoding.columns[0].centre
        np.testing.assert_allclose(
            known, data.numbers_NF[start + origin + 1 : start + origin + 1 + H, 1], atol=1e-5
        )
    assert (x.numbers_TBF[6:, 1] == 0).all(), "beyond the end of a row there is nothing"


def test_each_step_of_a_training_window_answers_for_the_steps_after_it_in_the_training_part() -> None:
    data = series()
    found = material(data)
    border = found.borders.train_S
    origin = int(border[0]) - 3
    x, y = found.window(Windows(np.array([0]), np.array([origin])), every=True)
    own = (y.values[:, 0, :, 0] * y.scale_BG[0] + y.centre_BG[0]).numpy()
    for step in range(12):
        place = origin - 11 + step
        for ahead in range(H):
            at = place + 1 + ahead
            expected = data.target.values[at, 0] if at < border[0] else np.nan
            np.testing.assert_allclose(own[step, ahead], expected, rtol=1e-4)
    assert x.ahead.shape == (12, 1, H)


@pytest.mark.parametrize("scale", ["standard", "series", "window"])
def test_nothing_of_what_is_held_back_is_in_what_is_trained_on(scale: str) -> None:
    data = series()
    found = material(data, scale=scale)
    later = data.target.values.copy()
    place = np.arange(len(later)) - np.repeat(data.starts_B, data.lengths_B)
    later[(place >= np.repeat(found.borders.train_S, data.lengths_B)) & np.isfinite(later[:, 0])] = 1e6
    numbers = data.numbers_NF.copy()
    numbers[:, 0] = later[:, 0]
    changed = dataclasses.replace(data, numbers_NF=numbers, target=dataclasses.replace(data.target, values=later))
    other = material(changed, scale=scale)
    for (x, y), (x_2, y_2) in zip(found.train(), other.train(), strict=True):
        for one, two in zip([*x, *y], [*x_2, *y_2], strict=True):
            if one is not None:
                torch.testing.assert_close(one, two, equal_nan=True)


def test_every_step_of_the_training_part_is_answered_once_an_epoch_wherever_it_begins() -> None:
    found = material(series(gaps=0.0), scale="none", length=10)
    for epoch in range(4):
        found.epoch = lambda epoch=epoch: epoch
        counted = sum(int(torch.isfinite(y.values[:, :, 0]).sum()) for _, y in found.train())
        whole = sum(max(0, int(border) - H) for border in found.borders.train_S)
        assert 0.6 * whole <= counted <= 1.3 * whole


def test_borders_hold_back_the_end_of_each_series() -> None:
    settings = TrainSettings(horizon=10, windows=3, stride=5, valid=0.1)
    borders = Borders.of(np.array([400, 65, 25, 12]), settings)
    assert borders.test_S.tolist() == [400, 65, 25, 12]
    assert (borders.test_S - borders.valid_S).tolist() == [20, 0, 0, 0]
    assert (borders.valid_S - borders.train_S).tolist() == [40, 20, 0, 0]


def test_the_naive_forecast_is_what_was_a_season_before() -> None:
    season = 7
    rng = np.random.default_rng(3)
    y = (rng.normal(size=season)[np.arange(200) % season] + 0.5 * rng.normal(size=200)).astype(np.float32)
    target = Target("number", "step", ("y",), y[:, None], ahead=9)
    data = Sequences("example", np.array([200]), ("a",), y[:, None], ("y",), target=target)
    found = material(data, horizon=9, season=season, known=[])
    windows = found.tested()
    (origin,) = windows.origin_B
    expected = np.concatenate([y[origin - 6 : origin + 1], y[origin - 6 : origin - 4]])
    error = np.abs(expected - y[origin + 1 : origin + 10])
    metrics = found.naive_metrics(windows)
    assert metrics["mae"] == pytest.approx(error.mean(), rel=1e-5)
    train = y[: found.borders.train_S[0]]
    in_sample = np.abs(train[season:] - train[:-season]).mean()
    assert metrics["mase"] == pytest.approx(error.mean() / in_sample, rel=1e-4)


@pytest.mark.parametrize("season", [1, 7, 60])
def test_the_naive_forecast_answers_the_values_that_the_network_is_judged_by(season: int) -> None:
    found = material(series(gaps=0.3), season=season)
    windows = found.validated()
    for row in range(len(windows)):
        at, origin = int(windows.series_B[row]), int(windows.origin_B[row])
        start = int(found.data.starts_B[at])
        before, came = np.split(found.values_NG[start : start + origin + 1 + H, 0], [origin + 1])
        error = [abs(_guess(before, ahead, season) - y) for ahead, y in enumerate(came) if np.isfinite(y)]
        if error:
            metrics = found.naive_metrics(Windows(windows.series_B[row : row + 1], windows.origin_B[row : row + 1]))
            assert metrics["mae"] == pytest.approx(np.mean(error), rel=1e-5)


def _guess(before: np.ndarray, ahead: int, season: int) -> float:
    """What the last season, that before it, and so on hold; else the last value."""
    long = range(len(before) + ahead - season, -1, -season)
    known = [before[place] for place in long if place < len(before) and np.isfinite(before[place])]
    return float(known[0] if known else before[np.isfinite(before)][-1])


def test_the_naive_forecast_of_a_series_that_has_no_value_yet_is_its_usual_one() -> None:
    data = series(gaps=0.0)
    data.target.values[: LENGTHS[0] - H] = np.nan
    found = material(data)
    metrics = found.naive_metrics(Windows(np.array([0]), np.array([LENGTHS[0] - 1 - H])))
    came = found.values_NG[LENGTHS[0] - H : LENGTHS[0], 0]
    assert metrics["mae"] == pytest.approx(np.abs(found.centre_SG[0, 0] - came).mean(), rel=1e-5)


def test_seasons_of_common_steps() -> None:
    assert [season_of(step) for step in ("1 hour", "6 hours", "1 day", "1 working day", "1 quarter", "7")] == [
        *(24, 4, 7, 5, 4, 1)
    ]


# -- likelihoods -------------------------------------------------------------------------------------------------

RAW = torch.tensor([[0.3, 0.8, 1.5], [-1.0, -0.5, 4.0], [2.0, 1.0, 0.1]], dtype=torch.float64)
ONE = torch.ones(3, dtype=torch.float64)


def soft(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softplus(x) + 1e-4


def test_densities_are_those_of_torch() -> None:
    y = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    normal = distributions.Normal(RAW[:, 0], soft(RAW[:, 1]))
    torch.testing.assert_close(LIKELIHOODS["gaussian"]().loss(RAW[:, :2], y, ONE), -normal.log_prob(y))
    student = distributions.StudentT(2 + soft(RAW[:, 2]), RAW[:, 0], soft(RAW[:, 1]))
    torch.testing.assert_close(LIKELIHOODS["student"]().loss(RAW, y, ONE), -student.log_prob(y))
    scale, counts = 10 * ONE, torch.tensor([3.0, 0.0, 41.0], dtype=torch.float64)
    mean, shape = soft(RAW[:, 0]) * scale, 1 / soft(RAW[:, 1])
    negative = distributions.NegativeBinomial(shape, logits=(mean / shape).log())
    torch.testing.assert_close(
        LIKELIHOODS["negbin"]().loss(RAW[:, :2], counts / scale, scale),
        -negative.log_prob(counts),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_quantiles_ascend_and_hold_their_shares(name: str) -> None:
    likelihood = LIKELIHOODS[name]()
    raw = torch.randn(50, likelihood.size, dtype=torch.float64)
    scale = torch.full((50,), 20.0, dtype=torch.float64)
    found = likelihood.quantiles(raw, scale)
    assert (found.diff(dim=-1) >= 0).all()
    if name == "gaussian":
        expected = stats.norm.ppf(LEVELS, raw[:, :1], soft(raw[:, 1:]))
    elif name == "student":
        expected = stats.t.ppf(LEVELS, 2 + soft(raw[:, 2:]), raw[:, :1], soft(raw[:, 1:2]))
    elif name == "negbin":
        drawn = distributions.NegativeBinomial(
            1 / soft(raw[:1, 1]), logits=(soft(raw[:1, 0]) * 20 * soft(raw[:1, 1])).log()
        ).sample((20_000,))
        shares = [(drawn <= found[0, place] * 20 + 1e-6).double().mean() for place in range(len(LEVELS))]
        assert all(share >= level - 0.01 for share, level in zip(shares, LEVELS, strict=True))
        return
    else:
        return
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_pinball_loss_is_least_at_the_quantiles() -> None:
    y = torch.randn(4000, dtype=torch.float64)
    raw = torch.zeros(len(LEVELS), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        LIKELIHOODS["quantiles"]().loss(raw.expand(4000, -1), y, ONE).mean().backward()
        optimizer.step()
    found = LIKELIHOODS["quantiles"]().quantiles(raw.detach()[None], ONE)[0]
    np.testing.assert_allclose(found, np.quantile(y, LEVELS), atol=0.1)


# -- the learning rate -------------------------------------------------------------------------------------------


def test_schedules_begin_and_end_where_they_should() -> None:
    def rates(**changes: object) -> list[float]:
        schedule = Schedule(TrainSettings(lr=1.0, **changes), total=100)
        return [schedule.rate(step) for step in range(100)]

    assert set(rates()) == {1.0}
    cosine = rates(schedule="cosine")
    assert cosine[0] == 1.0
    assert cosine[-1] == pytest.approx(0.01, abs=1e-3)
    cycle = rates(schedule="one-cycle")
    assert cycle[0] == pytest.approx(0.04)
    assert cycle.index(max(cycle)) == 30
    assert rates(warm_up=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_plateau_lowers_the_rate_and_patience_ends_it() -> None:
    schedule = Schedule(TrainSettings(lr=1.0, schedule="plateau", patience=4))
    ends = [schedule.validated(loss) for loss in (3.0, 2.0, 2.5, 2.5, 2.5, 2.5)]
    assert ends == [False, False, False, False, False, True]
    assert schedule.rate(0) == 0.25
    again = Schedule(TrainSettings(lr=1.0, schedule="plateau", patience=4))
    again.load_state_dict(schedule.state_dict())
    assert again.rate(0) == 0.25
