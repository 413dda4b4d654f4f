"""The needed lag: series whose shortest sufficient context is known, promises about chance, and what is asked back.

Shapes: T steps, B sequences, F features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.whole import usual
from unvanish.data.dependency import Dependency, dependency
from unvanish.data.dependency.needed import needed_of_numbers, needed_of_symbols, standard
from unvanish.data.dependency.needed.curve import judged
from unvanish.data.dependency.needed.ordered import Ordered, Sums
from unvanish.errors import DataError

Rng = np.random.Generator
Values = NDArray[Any]
STEPS = 12_000


def autoregression(*weights: float) -> Callable[[Rng, int], Values]:
    """x_t = Σ_i weights_i x_{t−i} + noise; the first steps are left out."""

    def draw(rng: Rng, steps: int) -> Values:
        order, noise = len(weights), rng.normal(size=steps + 1000)
        x = np.zeros(steps + 1000)
        for t in range(order, len(x)):
            x[t] = np.dot(weights, x[t - order : t][::-1]) + noise[t]
        return x[1000:]

    return draw


def sine(noise: float, period: float = 24.0) -> Callable[[Rng, int], Values]:
    return lambda rng, steps: (
        np.sin(2 * np.pi * np.arange(steps) / period + 7 * rng.random()) + noise * rng.normal(size=steps)
    )


def chaos(rng: Rng, steps: int) -> Values:
    """The logistic map: uncorrelated, and told by the step before."""
    x = [0.1 + 0.8 * rng.random()]
    for _ in range(steps):
        x.append(4 * x[-1] * (1 - x[-1]))
    return np.array(x[1:])


def tent(rng: Rng, steps: int) -> Values:
    """A map with a kink, which no product of two columns tells; a little noise keeps it going in floats."""
    x = [rng.random()]
    for _ in range(steps):
        x.append(abs(1 - abs(1 - 2 * x[-1]) - 1e-3 * rng.random()))
    return np.array(x[1:])


def henon(rng: Rng, steps: int) -> Values:
    x = [0.1 * rng.random(), 0.0]
    for _ in range(steps):
        x.append(1 - 1.4 * x[-1] ** 2 + 0.3 * x[-2])
    return np.array(x[2:])


def spread(rng: Rng, steps: int) -> Values:
    """GARCH(1, 1): the past tells how far the next value may lie, and not where."""
    x, variance = [], 1.0
    for noise in rng.normal(size=steps):
        x.append(noise * math.sqrt(variance))
        variance = 0.1 + 0.3 * x[-1] ** 2 + 0.6 * variance
    return np.array(x)


def seasonal(rng: Rng, steps: int) -> Values:
    return autoregression(*[0.0] * 11, 0.6)(rng, steps)


def leading(rng: Rng, steps: int) -> Values:
    """Feature 1 leads feature 0 by seven steps."""
    lead = rng.normal(size=steps + 7)
    return np.stack([lead[:-7] + 0.3 * rng.normal(size=steps), lead[7:]], 1)


def product(rng: Rng, steps: int) -> Values:
    """The product of two steps, a tenth of its signs wrong: joint dependence, none pair by pair."""
    x = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0]
    for wrong in rng.random(steps) < 0.1:
        x.append(x[-5] * x[-9] * (-1 if wrong else 1))
    return np.array(x[9:])


NUMBERS: dict[str, tuple[Callable[[Rng, int], Values], tuple[int, int]]] = {
    "AR(1), φ = .5": (autoregression(0.5), (1, 1)),
    "AR(1), φ = .99": (autoregression(0.99), (1, 1)),
    "AR(2)": (autoregression(0.5, 0.3), (2, 2)),
    "AR(3), last .2": (autoregression(0.3, 0.2, 0.2), (3, 3)),
    "AR with lag 12 only": (seasonal, (12, 12)),
    "sine": (sine(0.0), (2, 2)),
    "sine of an odd period": (sine(0.0, 20.27), (2, 2)),
    "random walk": (lambda rng, steps: np.cumsum(rng.normal(size=steps)), (1, 1)),
    "walk far from zero": (lambda rng, steps: 1e9 + np.cumsum(rng.normal(size=steps)), (1, 1)),
    "white noise": (lambda rng, steps: rng.normal(size=steps), (0, 0)),
    "GARCH": (spread, (0, 0)),
    "logistic map": (chaos, (1, 1)),
    "tent map": (tent, (1, 1)),
    "Hénon map": (henon, (2, 2)),
    "one feature leads": (leading, (7, 7)),
    "product of two steps": (product, (9, 9)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_need_what_their_law_says(name: str) -> None:
    draw, (low, high) = NUMBERS[name]
    for seed in range(2):
        found = dependency(draw(np.random.default_rng(seed), STEPS), lags=60, draws=10, seed=seed)
        assert low <= found.needed <= high
        assert not found.censored


@pytest.mark.parametrize(
    ("draw", "needed"),
    [(autoregression(0.99), (1, 1)), (sine(0.3), (22, 27)), (seasonal, (12, 12))],
    ids=["AR(1), φ = .99", "sine of period 24 under noise", "AR with lag 12 only"],
)
def test_far_lags_that_tell_nothing_do_not_disturb(
    draw: Callable[[Rng, int], Values], needed: tuple[int, int]
) -> None:
    """As many as there are by default: a thousand."""
    found = dependency(draw(np.random.default_rng(4), STEPS), draws=10)
    assert found.lags[-1] == 1000
    assert needed[0] <= found.needed <= needed[1]
    assert not found.censored


def test_what_is_handed_on_is_visible_from_afar_and_needed_from_near() -> None:
    walk = autoregression(0.99)(np.random.default_rng(5), STEPS)
    found = dependency(walk, draws=10)
    assert found.needed == 1
    assert found.visible > 50
    wave = dependency(sine(0.0)(np.random.default_rng(5), 4000), draws=10)
    assert (wave.needed, wave.censored) == (2, False)
    assert wave.visible_censored, "a sine is dependent for ever"


@pytest.mark.parametrize("name", ["AR(1), φ = .5", "AR(1), φ = .99", "random walk", "white noise", "AR(2)"])
def test_short_series_are_not_overfitted(name: str) -> None:
    for seed in range(10):
        found = dependency(NUMBERS[name][0](np.random.default_rng(seed), 200), draws=10)
        assert found.needed <= 2
        if found.needed < NUMBERS[name][1][0]:
            assert "too small" in found.note
            assert found.needed or found.censored


def chain(order: int, size: int) -> Callable[[Rng, int], Values]:
    """A Markov chain whose next symbol is told by `order` symbols."""

    def draw(rng: Rng, steps: int) -> Values:
        edges = rng.dirichlet([0.5] * size, size**order).cumsum(1)
        state, found = 0, []
        for u in rng.random(steps):
            found.append(min(int(np.searchsorted(edges[state], u)), size - 1))
            state = (state * size + found[-1]) % size**order
        return np.array(found)

    return draw


def parity(one: int, other: int, wrong: float = 0.1) -> Callable[[Rng, int], Values]:
    """Bits, each the parity of two before it, a tenth of them wrong."""

    def draw(rng: Rng, steps: int) -> Values:
        bits = rng.integers(0, 2, other).tolist()
        for error in (rng.random(steps) < wrong).tolist():
            bits.append(bits[-one] ^ bits[-other] ^ error)
        return np.array(bits[other:])

    return draw


SYMBOLS: dict[str, tuple[Callable[[Rng, int], Values], int]] = {
    **{f"chain of order {m}": (chain(m, 3), m) for m in (1, 2, 3, 4)},
    "chain of order 4, bits": (chain(4, 2), 4),
    "chain of order 2, ten symbols": (chain(2, 10), 2),
    "parity of lags 5 and 9": (parity(5, 9), 9),
    "parity of lags 5 and 19": (parity(5, 19), 19),
    "period of 12 symbols": (lambda rng, steps: np.arange(steps) % 12, 1),
    "independent": (lambda rng, steps: rng.integers(0, 4, steps), 0),
    "independent, rare": (lambda rng, steps: np.minimum(rng.geometric(0.1, steps), 30), 0),
}


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols_need_what_their_law_says(name: str) -> None:
    draw, needed = SYMBOLS[name]
    for seed in range(2):
        found = dependency(draw(np.random.default_rng(seed), STEPS), lags=20, draws=10, seed=seed)
        assert found.needed == needed
        assert not found.censored


@pytest.mark.parametrize("size", [2, 4, 12, 50])
def test_copy_of_an_input_needs_its_lag(size: int) -> None:
    source = np.random.default_rng(size).integers(0, size, 8037)
    found = dependency(source[37:], target=source[:-37], lags=80, draws=10)
    assert (found.needed, found.censored) == (37, False)
    numbers = np.random.default_rng(size).normal(size=8037)
    assert dependency(numbers[37:], target=numbers[:-37], lags=80, draws=10).needed == 37
    assert dependency(numbers, target=numbers, lags=80, draws=10).needed == 0, "the present input tells all"


def test_curve_rises_to_what_can_be_predicted() -> None:
    """An AR(1) of variance 1 leaves 1 − φ² of it."""
    x = autoregression(0.8)(np.random.default_rng(6), STEPS)
    curve = dependency(x, lags=30, draws=10).curve
    assert curve.unit == "share of the variance"
    assert np.abs(curve.gain - 0.64).max() < 0.03
    assert (curve.error > 0).all()
    chance = 0.1
    bits = np.cumsum(np.random.default_rng(7).random(STEPS) < chance) % 2
    curve = dependency(bits, lags=30, draws=10).curve
    wanted = math.log(2) + chance * math.log(chance) + (1 - chance) * math.log(1 - chance)
    assert curve.unit == "nats"
    assert np.abs(curve.gain - wanted).max() < 4 * curve.error.max()


def test_curve_that_still_rises_is_said_to() -> None:
    """A level that moves slowly under noise: each further step makes the mean of the past better."""
    rng = np.random.default_rng(8)
    level = np.cumsum(0.02 * rng.normal(size=STEPS))
    level = level - np.linspace(level[0], level[-1], STEPS)
    found = dependency(level + rng.normal(size=STEPS), lags=12, draws=10)
    assert found.needed > 6
    assert found.censored
    assert "≥" in repr(found)
    short = dependency(autoregression(*[0.0] * 11, 0.6)(rng, STEPS), lags=12, draws=10)
    assert (short.needed, short.censored) == (12, True), "nothing is known of lag 13"


def test_only_the_lags_looked_at_count() -> None:
    x = seasonal(np.random.default_rng(9), 6000)
    assert dependency(x, lags=[3, 12, 20], draws=10).needed == 12
    assert dependency(x, lags=[3, 7, 11], draws=10).needed == 0


def test_sequences_are_not_joined() -> None:
    rows = np.cumsum(np.random.default_rng(10).normal(size=(300, 20)), axis=1)[:, :, None]
    assert dependency(rows, draws=10).needed == 1
    ragged = [row[: 8 + index % 13] for index, row in enumerate(rows)]
    assert dependency(ragged, draws=10).needed == 1


@pytest.mark.parametrize("lag", [0, 4, 11])
def test_label_of_a_sequence_needs_its_place(lag: int) -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(800, 13, 2))
    label = x[:, 12 - lag, 1] + 0.2 * rng.normal(size=800)
    order = np.argsort(label)  # whoever keeps labelled data often keeps them sorted
    assert dependency(x[order], target=label[order], draws=10).needed == lag
    classes = (label[order] > 0).astype(int)
    assert dependency(x[order], target=classes, draws=10).needed == lag


def test_scale_and_names_do_not_matter() -> None:
    x = autoregression(0.5, 0.3)(np.random.default_rng(12), 4000)
    assert {dependency(scale * x + shift, draws=10).needed for scale in (1e-12, -1, 1e12) for shift in (0, 5)} == {
        2
    }
    s = chain(2, 3)(np.random.default_rng(12), 4000)
    texts: list[Any] = [s, s - 7, s * 10**9, "".join(np.array(list("abc"))[s]), s.astype(np.uint8).tobytes()]
    assert {dependency(text, lags=30, draws=10).needed for text in texts} == {2}


def test_a_constant_feature_is_left_out() -> None:
    x = autoregression(0.8)(np.random.default_rng(13), 2000)
    assert dependency(np.stack([x, np.full_like(x, 3.0)], 1), draws=10).needed == 1


def test_many_features_are_looked_at_where_they_depend_most() -> None:
    rng = np.random.default_rng(14)
    x = rng.normal(size=(6000, 40))
    x[150:, 3] = x[:-150, 8] + 0.1 * rng.normal(size=5850)
    found = dependency(x, lags=200, draws=10)
    assert found.needed == 150
    assert "of 200 lags" in found.note


DRAWS = {
    "numbers": lambda rng, seed: _numbers(rng.normal(size=(300, 1)), seed),
    "heavy tails": lambda rng, seed: _numbers(rng.standard_t(2, size=(300, 1)), seed),
    "no variance at all": lambda rng, seed: _numbers(rng.standard_cauchy(size=(300, 1)), seed),
    "symbols": lambda rng, seed: _symbols(rng.integers(0, 4, 400), seed),
    "one symbol rare": lambda rng, seed: _symbols((rng.random(400) < 0.05).astype(np.int64), seed),
    "labels": lambda rng, seed: _labels(rng.normal(size=(4000, 1)), rng.integers(0, 2, (200, 1)), seed),
    "heavy labels": lambda rng, seed: _labels(rng.normal(size=(4000, 1)), rng.standard_t(2, size=(200, 1)), seed),
}


def _numbers(x: Values, seed: int) -> int:
    x, lags = standard(x), np.arange(1, 31)
    found = needed_of_numbers(x, x, np.array([300]), lags, 1 / lags, 0.05, rng=np.random.default_rng(seed))
    return found.steps


def _labels(x: Values, y: Values, seed: int) -> int:
    """Sequences of 20 steps with a label each."""
    x, y, lags, lengths = standard(x), standard(y.astype(np.float64)), np.arange(20), np.full(len(y), 20)
    rng = np.random.default_rng(seed)
    return needed_of_numbers(x, y, lengths, lags, 1 / (1 + lags), 0.05, labels=True, rng=rng).steps


def _symbols(s: Values, seed: int) -> int:
    lags = np.arange(1, 31)
    return needed_of_symbols(s, s, np.array([400]), lags, 1 / lags, 0.05, np.random.default_rng(seed)).steps


@pytest.mark.parametrize("name", usual(("numbers", "one symbol rare", "labels"), DRAWS))
def test_false_alarms_keep_their_level(name: str) -> None:
    """Of 2,000 draws at most 5 % may need anything (`make test-full`); of fewer, within the error of it."""
    draws = usual(25, 2000)
    alarms = sum(DRAWS[name](np.random.default_rng(seed), seed) > 0 for seed in range(draws))
    assert alarms <= draws * 0.05 + 2 * math.sqrt(draws * 0.05 * 0.95)


def test_one_factorisation_is_least_squares_of_every_length() -> None:
    rng = np.random.default_rng(15)
    x, y = torch.from_numpy(rng.normal(size=(50, 6))), torch.from_numpy(rng.normal(size=(50, 2)))
    fit = Ordered(Sums.of(x, y), threshold=0.0, jitter=0.0)
    terms = fit.terms(x)
    for count in range(1, 7):
        design = torch.cat([torch.ones(50, 1, dtype=torch.float64), x[:, :count]], 1)
        wanted = design @ torch.linalg.lstsq(design, y).solution
        got = fit.y_mean + terms[:count].T @ fit.weights[:count]
        torch.testing.assert_close(got, wanted)


def test_judge_takes_the_shortest_context_that_is_as_good() -> None:
    rng = np.random.default_rng(16)
    losses = np.array([1.0, 0.6, 0.6, 0.2, 0.2, 0.2]) + 1e-4 * rng.normal(size=(20, 6))
    need = judged(losses, np.arange(1, 6), 0.05, "nats", [], -400 * losses.mean(0))
    assert (need.steps, need.censored, need.note) == (3, False, "")
    assert need.curve.gain == pytest.approx([0.4, 0.4, 0.8, 0.8, 0.8], abs=1e-3)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_table_is_not_read_as_prose(tmp_path: Path, separator: str, end: str) -> None:
    rng = np.random.default_rng(17)
    names = separator.join(["date", "x", "y"])
    rows = [
        separator.join([f"2024-01-{day:02d}", f"{x:.3f}", f"{y:.2e}"])
        for day, (x, y) in enumerate(rng.normal(size=(60, 2)))
    ]
    table = end.join([names, *rows])
    (tmp_path / "table.csv").write_text(table, newline="")
    for data in (table, tmp_path / "table.csv"):
        with pytest.raises(DataError, match="table of numbers"):
            dependency(data)


@pytest.mark.parametrize(
    ("data", "target", "message"),
    [
        ("notes.txt", None, "looks like the path"),
        ("/home/me/data/notes.txt", None, "looks like the path"),
        ("C:\\data\\notes.txt", None, "looks like the path"),
        ((np.zeros((50, 3)), np.zeros(50)), None, "give the second as target="),
        ([np.zeros(50), np.zeros(50, dtype=int)], None, "give the second as target="),
        (np.zeros((50, 20)), np.zeros(50), "50 sequences of 20 steps, or one of 50 steps"),
        (np.zeros((50, 20)), np.zeros((50, 20)), "50 sequences of 20 steps, or one of 50 steps"),
    ],
)
def test_what_can_be_meant_in_two_ways_is_asked_back(data: Any, target: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        dependency(data, target=target)
    assert "\n" not in str(raised.value)


def test_answers_to_what_is_asked_back_are_taken() -> None:
    rng = np.random.default_rng(18)
    x = rng.normal(size=(60, 20))
    assert dependency([x], target=x[:, 0], draws=10).needed == 0
    assert dependency(x[:, :, None], target=x[:, 17], draws=10).needed == 2
    assert dependency("the moon is over the sea, v1.2\n" * 40, lags=5, draws=10).needed > 0


def test_stream_is_measured_in_its_head_and_says_so() -> None:
    s = chain(2, 3)(np.random.default_rng(19), 140_000).astype(np.uint8)
    pieces = (s[start : start + 9999] for start in itertools.chain.from_iterable([range(0, len(s), 9999)] * 9))
    found = dependency(pieces, lags=20, draws=10)
    assert found.needed == 2
    assert "first 131,072 symbols" in found.note


def test_both_lags_go_into_json_and_words() -> None:
    found: Dependency = dependency(autoregression(0.9)(np.random.default_rng(20), 3000), draws=10)
    kept = found.to_dict()
    assert (kept["needed"], kept["visible"]) == (found.needed, found.visible)
    assert set(kept["curve"]) == {"lags", "gain", "error", "unit"}
    assert "needed 1 steps" in repr(found)


R = np.random.default_rng(21)
ODD: dict[str, tuple[Any, Any]] = {
    "as few numbers as can be": (R.normal(size=33), None),
    "as few symbols as can be": (R.integers(0, 2, 32), None),
    "as few labels as can be": (R.normal(size=(10, 3, 1)), np.arange(10.0)),
    "labels of symbols": (R.integers(0, 3, (10, 5)), np.arange(10) % 2),
    "sequences of two steps": (R.integers(0, 3, (100, 2)), None),
    "one spike": (np.r_[np.zeros(500), 1e6, np.zeros(499)], None),
    "heavy tails": (R.standard_cauchy(2000), None),
    "huge": (1e300 * R.normal(size=500), None),
    "tiny": (1e-300 * R.normal(size=500), None),
    "one rare symbol": (np.r_[np.zeros(900, int), 1, np.zeros(99, int)], None),
    "numbers beside symbols": (R.normal(size=(400, 2)), R.integers(0, 3, 400)),
    "symbols beside numbers": (R.integers(0, 3, 400), R.normal(size=400)),
    "several targets": (R.integers(0, 3, 400), R.integers(0, 3, (400, 2))),
    "features that are copies": (np.repeat(R.normal(size=(300, 1)), 3, 1), None),
    "more features than steps": (R.normal(size=(100, 200)), None),
    "ragged": ([R.normal(size=steps) for steps in (1, 2, 50, 400)], None),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_are_measured_and_need_nothing(name: str) -> None:
    """All are independent: no warning, no alarm, and plain numbers."""
    data, target = ODD[name]
    found = dependency(data, target=target, draws=10)
    assert found.needed == 0
    assert np.isfinite(found.curve.gain).all()
    assert np.isfinite(found.curve.error).all()


# -- labels of sequences whose steps have many columns ------------------------------------------------------------


def shown_at(
    rng: np.random.Generator, back: int, columns: int, count: int = 300, steps: int = 40
) -> tuple[Values, Values]:
    """Sequences in which one step, `back` from the last, has a picture of one of four kinds under noise."""
    pictures = rng.normal(size=(4, columns))
    kinds = rng.integers(0, 4, count)
    x = rng.normal(size=(count, steps, columns))
    x[:, steps - 1 - back] += 2 * pictures[kinds]
    return x, kinds


@pytest.mark.parametrize("back", [0, 7, 30])
@pytest.mark.parametrize("columns", [5, 60])
def test_labels_that_one_step_of_many_columns_tells_need_that_step(back: int, columns: int) -> None:
    x, kinds = shown_at(np.random.default_rng(back + columns), back, columns)
    found = dependency(list(x), target=kinds, draws=10, kind="numbers")
    assert abs(found.needed - back) <= 1, found
    assert found.curve.gain.max() > 0.3


def test_columns_that_hardly_ever_differ_spoil_no_guess() -> None:
    """Of images the border is black in all but a few, whose least squares know no bounds."""
    rng = np.random.default_rng(2)
    x, kinds = shown_at(rng, 12, 40)
    x[:, :, 20:] = rng.random(x[:, :, 20:].shape) < 1e-4
    found = dependency(list(x), target=kinds, draws=10, kind="numbers")
    assert found.curve.gain.min() > -1, found
    assert abs(found.needed - 12) <= 2, found


def test_of_few_sequences_what_pairs_show_is_the_least_that_is_needed() -> None:
    rng = np.random.default_rng(0)
    x_BT, y_B = rng.integers(4, 8, (40, 120)), rng.integers(0, 4, 40)
    assert dependency(x_BT, target=y_B).needed == 0
    x_BT[:, 0] = y_B  # which 40 rows are too few to find among 120 steps by a regression
    found = dependency(x_BT, target=y_B)
    assert (found.needed, found.visible) == (119, 119)
    assert found.censored == ("too few to tell" in found.note)
