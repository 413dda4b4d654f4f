"""What the data need: closed forms, promises about chance, and the same answer however the data come.

Shapes: B sequences, T steps, F features.
"""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.whole import usual
from unvanish.data.dependency import Dependency, dependency
from unvanish.data.dependency.needed import Curve, Need
from unvanish.data.dependency.numbers import Correlation
from unvanish.data.dependency.result import Pairwise, judged
from unvanish.data.dependency.significance import Tail, discoveries, shuffled_blocks
from unvanish.data.dependency.symbols import Alphabet, Information
from unvanish.errors import DataError, OptionError


def flips(rng: np.random.Generator, chance: float, steps: int) -> NDArray[np.int64]:
    """Two states, left with one and the same probability."""
    return np.cumsum(rng.random(steps) < chance) % 2


def autoregression(rng: np.random.Generator, phi: float, steps: int) -> NDArray[np.float64]:
    """x_t = φ x_{t-1} + noise, with variance 1."""
    noise = rng.normal(size=steps) * math.sqrt(1 - phi**2)
    x = [rng.normal()]
    for value in noise:
        x.append(phi * x[-1] + value)
    return np.array(x[1:])


def at(found: Dependency, lag: int) -> int:
    return found.lags.tolist().index(lag)


def same(one: Dependency, other: Dependency) -> bool:
    mine, theirs = one.to_dict(), other.to_dict()
    mine, theirs = {**mine, **mine.pop("curve")}, {**theirs, **theirs.pop("curve")}
    return all(
        np.allclose(value, theirs[key], rtol=1e-9, atol=1e-9) if isinstance(value, list) else value == theirs[key]
        for key, value in mine.items()
    )


@pytest.mark.parametrize("chance", [0.05, 0.2, 0.4, 0.9])
def test_information_of_a_two_state_chain(chance: float) -> None:
    """s_t = s_{t-k} with probability (1 + (1 − 2q)^k) / 2, and I(k) is log 2 less the entropy of that."""
    steps = 60_000
    found = dependency(flips(np.random.default_rng(1), chance, steps), lags=12)
    memory = 1 - 2 * chance
    stays = (1 + memory**found.lags) / 2
    wanted = math.log(2) + stays * np.log(stays) + (1 - stays) * np.log(1 - stays)
    # dI = artanh(c) dc for the correlation c; and chance itself makes some 1/2N, in a series with a memory more.
    longer = (1 + memory**2) / (1 - memory**2)
    error = np.sqrt((np.arctanh(np.abs(memory) ** found.lags) ** 2 + 2 / steps * longer) * longer / steps)
    assert (np.abs(found.values - wanted) < 4 * error).all()


@pytest.mark.parametrize("phi", [0.5, 0.9, -0.8])
def test_rank_correlation_of_an_autoregression(phi: float) -> None:
    """For Gaussians of correlation r Spearman's is 6/π · asin(r / 2)."""
    steps = 40_000
    found = dependency(autoregression(np.random.default_rng(2), phi, steps), lags=10)
    spearman = 6 / math.pi * np.arcsin(phi**found.lags / 2)
    longer = (1 + phi**2) / (1 - phi**2)
    error = np.sqrt(4 * spearman**2 * longer / steps + 2 * (longer / steps) ** 2)
    assert (np.abs(found.values - spearman**2) < 4 * error + 8 * longer / steps).all()
    assert found.unit == "squared rank correlation"


def test_spread_that_depends_on_the_past_is_seen_where_the_level_does_not() -> None:
    rng = np.random.default_rng(3)
    loud = np.repeat(rng.integers(0, 2, 400) * 4 + 1, 25)
    found = dependency(loud * rng.normal(size=len(loud)), lags=60)
    assert found.significant[:10].all()
    assert 10 <= found.visible < 40
    assert found.needed == 0, "the spread is not the value"


INDEPENDENT = {
    "symbols": lambda rng: (rng.integers(0, 5, 400), None),
    "rare symbols": lambda rng: (np.minimum(rng.zipf(1.6, 400), 200), None),
    "numbers": lambda rng: (rng.normal(size=400), None),
    "features": lambda rng: (rng.normal(size=(400, 8)), None),
    "labels": lambda rng: (rng.integers(0, 3, (60, 13)), rng.integers(0, 2, 60)),
    "number labels": lambda rng: (rng.normal(size=(60, 13, 2)), rng.normal(size=60)),
    "mixed steps": lambda rng: (rng.normal(size=(400, 2)), rng.integers(0, 3, 400)),
}


@pytest.mark.parametrize("name", usual(("rare symbols", "labels", "mixed steps"), INDEPENDENT))
def test_independent_data_keep_the_promise(name: str) -> None:
    """Any lag at all in at most `level` of runs, within the error of counting them; and p-values are uniform."""
    runs, level = usual(30, 50), 0.1
    found = [
        dependency(*INDEPENDENT[name](np.random.default_rng(seed)), lags=12, level=level, draws=40, seed=seed)
        for seed in range(runs)
    ]
    highest = runs * level + 3 * math.sqrt(runs * level * (1 - level))
    assert sum(bool(one.significant.any()) for one in found) <= highest
    assert sum(bool((one.raw > one.null_high).any()) for one in found) <= highest
    small = np.concatenate([one.p_values for one in found]) < 0.2
    assert small.mean() < 0.2 + 4 * math.sqrt(0.2 * 0.8 / len(small))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("symbols", lambda rng: flips(rng, 0.05, 2000)),
        ("numbers", lambda rng: autoregression(rng, 0.9, 2000)),
    ],
)
def test_memory_widens_the_band(name: str, make: Any) -> None:
    """At lags where a chain has long forgotten, it finds nothing, though single steps shuffled would say much."""
    runs, lags = 50, range(150, 200, 4)
    found = [
        dependency(make(np.random.default_rng(seed)), lags=lags, draws=40, seed=seed, level=0.1)
        for seed in range(runs)
    ]
    assert sum(bool(one.significant.any()) for one in found) <= runs * 0.1 + 3 * math.sqrt(runs * 0.09)
    # In independent data of that length 2 N I has the mean 1, and N ρ² the largest of four such.
    narrow = {"symbols": 0.5, "numbers": 3.0}[name]
    assert np.mean([one.null_mean * one.samples for one in found]) > 2 * narrow


@pytest.mark.parametrize("name", ["symbols", "numbers", "rare symbols", "labels"])
def test_correction_takes_away_what_chance_alone_gives(name: str) -> None:
    found = [
        dependency(*INDEPENDENT[name](np.random.default_rng(seed)), lags=[1, 2], seed=seed) for seed in range(40)
    ]
    values = np.array([one.values.mean() for one in found])
    raw = np.array([one.raw.mean() for one in found])
    assert abs(values.mean()) < 4 * values.std(ddof=1) / math.sqrt(len(values))
    assert raw.mean() > 5 * raw.std(ddof=1) / math.sqrt(len(raw))


def test_shuffled_mean_is_that_of_miller_where_pairs_are_frequent() -> None:
    found = dependency(np.random.default_rng(4).integers(0, 4, 40_000), lags=3, draws=400)
    assert found.null_mean * found.samples == pytest.approx((4 - 1) ** 2 / 2, rel=5 * math.sqrt(2 / 9 / 400))


def repeating(rng: np.random.Generator, lag: int, blocks: int) -> NDArray[np.int64]:
    """Random stretches, each followed by its copy: dependent at this lag, and at no multiple of it."""
    fresh = rng.integers(0, 12, (blocks, lag))
    return np.concatenate([fresh, fresh], 1).ravel()


@pytest.mark.parametrize("lag", [1, 37, 60])
def test_copy_is_found_at_its_lag(lag: int) -> None:
    source = np.random.default_rng(5).integers(0, 12, 6000)
    found = dependency(source[lag:], target=source[:-lag])
    assert found.needed == found.visible == lag
    assert found.raw[at(found, lag)] == pytest.approx(math.log(12), abs=0.005)
    within = dependency(repeating(np.random.default_rng(6), lag, 12_000 // lag))
    # Every second pair is a copy, so p(a, a) = 1/2r + 1/2r², p(a, b) = 1/2r².
    share = np.array([0.5 + 0.5 / 12] + [0.5 / 12] * 11)
    assert within.visible == lag
    assert within.values[at(within, lag)] == pytest.approx(float(share @ np.log(12 * share)), rel=0.1)


def test_copies_of_copies_stand_at_the_multiples_and_nowhere_else() -> None:
    rng, lag, kept = np.random.default_rng(7), 37, 0.8
    series = list(rng.integers(0, 6, lag))
    for fresh, copy in zip(rng.integers(0, 6, 30_000), rng.random(30_000) < kept, strict=True):
        series.append(series[-lag] if copy else int(fresh))
    found = dependency(series, lags=range(1, 161))
    strong = found.lags[found.raw > found.null_high]
    assert strong.tolist() == [37, 74, 111, 148]
    for times in (1, 2, 3, 4):
        share = np.array([kept**times + (1 - kept**times) / 6] + [(1 - kept**times) / 6] * 5)
        wanted = float(share @ np.log(6 * share))
        assert found.values[at(found, lag * times)] == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize(("top", "visible"), [(0.1, 60), (1.0, 40)])
def test_one_false_discovery_far_away_does_not_decide(top: float, visible: int) -> None:
    """Lags 41 to 60 tell little, under 1 % or not; 900 is one of the 5 % that may be false."""
    lags = np.arange(1, 1001)
    raw = np.select([lags <= 40, lags <= 60, lags == 900], [top, 0.008, 0.0014], 1e-5)
    chi_squared = Tail(shape=0.5, count=1.0, scale=2e-4, mean=1e-4)
    need = Need(0, False, "", Curve(lags, 0.0 * raw, 0.0 * raw, "nats"))
    found = judged(Pairwise("symbols", lags, raw, np.full(1000, 5000), [chi_squared] * 1000), need, level=0.05)
    assert found.lags[found.significant].tolist() == [*range(1, 61), 900]
    assert found.visible == visible
    assert not found.visible_censored


@pytest.mark.parametrize("period", [2, 8, 12])
def test_period_is_seen_at_all_lags(period: int) -> None:
    """A period has no end; and one that divides a power of two must not hide in the shuffled blocks."""
    found = dependency(np.arange(3000) % period)
    assert found.significant.all()
    assert found.visible_censored
    assert (found.needed, found.censored) == (1, False), "a symbol tells the next"
    assert found.raw == pytest.approx(math.log(period), rel=1e-3)


def test_target_is_told_by_the_right_lags() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(4000, 2))
    y = np.roll(x[:, 0], 5) ** 3 + 0.5 * np.roll(x[:, 1], 11) + 0.1 * rng.normal(size=4000)
    found = dependency(x, target=y, lags=40)
    assert found.lags[found.raw > found.null_high].tolist() == [5, 11]
    binned = dependency(x, target=(y > 0).astype(int), lags=40)
    assert (binned.kind, binned.unit) == ("mixed", "nats")
    assert binned.lags[binned.raw > binned.null_high].tolist() == [5, 11]


def test_temporal_order_shows_both_symbols_at_their_places() -> None:
    """The class is told by two symbols, each at one of five places: I = log 2 / 5 at each of these."""
    rng, count = np.random.default_rng(10), 3000
    x, rows = rng.integers(2, 6, (count, 30)), np.arange(count)
    first, second = rng.integers(0, 2, (2, count))
    x[rows, rng.integers(3, 8, count)] = first
    x[rows, rng.integers(15, 20, count)] = second
    found = dependency(x, target=2 * first + second)
    assert found.lags[found.raw > found.null_high].tolist() == [*range(10, 15), *range(22, 27)]
    assert found.needed == found.visible == 26
    assert not found.censored, "nothing lies before the beginning"
    assert found.values[found.raw > found.null_high] == pytest.approx(math.log(2) / 5, rel=0.25)


def test_adding_problem_is_small_but_there() -> None:
    """One of ten values in each half counts: each place has a correlation of 1/(10 √2) with the sum."""
    rng, count = np.random.default_rng(11), 6000
    value, mark = rng.random((count, 20)), np.zeros((count, 20))
    mark[np.arange(count), rng.integers(0, 10, count)] = 1
    mark[np.arange(count), rng.integers(10, 20, count)] = 1
    found = dependency(np.stack([value, mark], 2), target=(value * mark).sum(1))
    assert found.lags.tolist() == list(range(20))
    assert found.significant.mean() > 0.7
    assert found.values.mean() == pytest.approx(1 / 200, rel=0.3)
    assert found.visible >= 17
    assert found.needed == 19


def test_sequences_are_not_joined_at_their_ends() -> None:
    """Each sequence repeats one symbol: one step tells the next, but not over an end."""
    rows = np.repeat(np.random.default_rng(12).integers(0, 4, (300, 1)), 15, axis=1)
    found = dependency(rows, lags=[1, 9])
    share = np.bincount(rows[:, 0]) / 300
    assert found.samples.tolist() == [300 * 14, 300 * 6]
    assert found.raw == pytest.approx(-float(share @ np.log(share)))
    ragged = [row[: 5 + index % 10] for index, row in enumerate(rows)]
    assert dependency(ragged, lags=[3]).samples.tolist() == [sum(len(row) - 3 for row in ragged)]


def test_names_of_symbols_do_not_matter() -> None:
    codes = flips(np.random.default_rng(13), 0.3, 3000) + 2 * np.random.default_rng(0).integers(0, 2, 3000)
    names = np.array(["a", "b", "c", "d"])
    forms: list[Any] = [
        codes,
        torch.from_numpy(codes),
        codes.tolist(),
        codes - 2,
        codes.astype(np.uint8),
        codes * 10**9,
        codes.astype(np.uint8).tobytes(),
        "".join(names[codes]),
        names[codes].tolist(),
    ]
    found = [dependency(form, lags=20) for form in forms]
    assert found[0].significant[0]
    assert all(same(found[0], other) for other in found[1:])
    renamed = dependency(np.array([3, 0, 2, 1])[codes], lags=20)
    assert renamed.raw == pytest.approx(found[0].raw, abs=1e-12)


def test_rising_maps_of_numbers_do_not_matter_pair_by_pair() -> None:
    x = autoregression(np.random.default_rng(14), 0.7, 2000)
    found = dependency(x, lags=20)
    for other in (np.exp(x), torch.from_numpy(x**3), -x):
        assert dependency(other, lags=20).raw == pytest.approx(found.raw)


def test_large_alphabet_is_folded() -> None:
    words = np.minimum(np.random.default_rng(15).zipf(1.3, 20_000), 5000)
    alphabet = Alphabet.of(words)
    codes = alphabet.encode(words)
    counts = np.bincount(words)
    kept = np.argsort(-counts)[:100]  # no tie here
    assert alphabet.size == 128
    assert sorted(np.bincount(codes)[:127])[::-1][:100] == counts[kept].tolist()
    assert (codes[counts[words] < counts[np.argsort(-counts)[126]]] == 127).all()
    copied = dependency(words[3:], target=words[:-3], lags=5)
    assert copied.needed == 3


def chunks(codes: NDArray[np.uint8], size: int) -> Iterator[bytes]:
    for start in range(0, len(codes), size):
        yield codes[start : start + size].tobytes()


def test_chunks_of_any_size_are_the_whole() -> None:
    rng = np.random.default_rng(16)
    codes = (np.cumsum(rng.random(1_300_000) < 0.3) % 3).astype(np.uint8)
    options: dict[str, Any] = {"lags": [1, 2, 7, 700], "draws": 20}
    whole = dependency(codes, **options)
    found = [dependency(chunks(codes, size), **options) for size in (1_300_000, 99_991)]
    assert same(found[0], found[1])
    assert found[0].raw == pytest.approx(whole.raw, rel=1e-9)
    assert found[0].samples.tolist() == whole.samples.tolist()
    # The bands come from other shuffles: the spread of the mean of 20 draws of a χ² with four degrees of freedom.
    assert found[0].null_mean == pytest.approx(whole.null_mean, rel=5 * math.sqrt(2 * 2 / 4 / 20))
    assert found[0].significant.tolist() == [True, True, True, False]


@pytest.mark.parametrize("size", [1, 17, 5000])
def test_short_stream_is_the_whole(size: int) -> None:
    codes = flips(np.random.default_rng(17), 0.2, 3000).astype(np.uint8)
    assert same(dependency(chunks(codes, size)), dependency(codes))


def test_file_is_read_as_text(tmp_path: Path) -> None:
    text = "".join(np.random.default_rng(18).choice(list("aé€😀\n"), 5000))
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert same(dependency(path), dependency(text))


def test_period_of_a_power_of_two_in_a_stream() -> None:
    found = dependency(chunks((np.arange(1_400_000) % 16).astype(np.uint8), 100_000), lags=[3, 16], draws=10)
    assert found.significant.all()


def test_memory_does_not_grow_with_the_stream() -> None:
    def source(count: int) -> Iterator[NDArray[np.uint8]]:
        rng = np.random.default_rng(19)
        for _ in range(count):
            yield rng.integers(0, 100, 200_000, dtype=np.uint8)

    peaks = []
    for count in (8, 100):
        tracemalloc.start()
        dependency(source(count), lags=[1, 5, 1000], draws=10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]
    assert peaks[1] < 200e6


def test_result_is_the_same_for_the_same_seed_and_goes_into_json() -> None:
    x = np.random.default_rng(20).integers(0, 4, 1000)
    one, other = dependency(x, seed=3), dependency(x, seed=3)
    assert one.to_dict() == other.to_dict()
    assert dependency(x, seed=4).null_mean.tolist() != one.null_mean.tolist()
    kept = json.loads(json.dumps(one.to_dict()))
    assert kept["lags"] == one.lags.tolist()
    assert one.values == pytest.approx(one.raw - one.null_mean)
    assert kept["curve"]["lags"] == one.curve.lags.tolist()
    assert f"needed {one.needed} steps, visible {one.visible} steps" in repr(one)


def test_lags_by_default_and_on_request() -> None:
    x = np.random.default_rng(21).integers(0, 3, 20_000)
    lags = dependency(x, draws=10).lags
    assert lags[:64].tolist() == list(range(1, 65))
    assert lags[-1] == 1000
    assert (np.diff(np.log2(lags[64:])) < 2 / 12).all()
    assert dependency(x, draws=10, lags=[9, 3, 3]).lags.tolist() == [3, 9]
    assert dependency(x[:300], draws=10).lags.tolist() == list(range(1, 31))


def test_shuffled_blocks_hold_every_step_once_and_none_in_its_place() -> None:
    for steps in (32, 33, 500, 20_000, 300_000):
        blocks = shuffled_blocks(steps, np.random.default_rng(steps))
        order = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
        assert np.array_equal(np.sort(order), np.arange(steps))
        assert np.abs(order - np.arange(steps)).min() >= max(min(steps // 20, 8192) // 2, 1)


@pytest.mark.parametrize("count", [1, 4, 40])
def test_fitted_tail_of_the_largest_of_several(count: int) -> None:
    """Fitted to many draws, the tail tells the probability of what is seen in one of a thousand."""
    rng = np.random.default_rng(22)
    statistics: list[tuple[Any, int]] = [(Correlation(), 1), (Information(4, 4, count), 9)]
    for statistic, degrees in statistics:
        draws = rng.chisquare(degrees, (200_000, count)).max(1)
        tail = statistic.chance(3 * draws[:50_000])
        assert tail.beyond(3 * float(np.quantile(draws, 0.999))) == pytest.approx(0.001, rel=0.25)
        assert tail.beyond(tail.edge(1e-4)) == pytest.approx(1e-4, rel=1e-6)


def test_tail_of_one_exponential_variable_is_known() -> None:
    tail = Tail(shape=1.0, count=1.0, scale=2.0, mean=2.0)
    assert tail.beyond(5.0) == pytest.approx(math.exp(-2.5))
    assert tail.scaled(3.0).beyond(15.0) == pytest.approx(math.exp(-2.5))


def test_discoveries_step_up() -> None:
    """The largest rank whose p-value is small enough takes all smaller ones with it, though one fails by itself."""
    assert discoveries(np.array([0.039, 0.035, 0.2, 0.001]), 0.052).tolist() == [True, True, False, True]
    assert not discoveries(np.array([0.06, 0.9]), 0.05).any()


X = np.random.default_rng(23).normal(size=(80, 2))
SYMBOLS = np.random.default_rng(24).integers(0, 3, (20, 30))
HOLED = X.copy()
HOLED[7, 1] = np.nan


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ("a" * 100, {}, DataError, "the data are the same at every step"),
        (np.ones(100), {}, DataError, "the data are the same at every step"),
        (X, {"target": np.ones(80)}, DataError, "the target are the same|the target is the same"),
        (iter([b"a" * 2_000_000]), {}, DataError, "all the same"),
        ("short", {}, DataError, "5 steps are too few"),
        ("", {}, DataError, "0 steps are too few"),
        ([], {}, DataError, "the data are empty"),
        (iter([]), {}, DataError, "holds no symbols"),
        (SYMBOLS[:5], {"target": np.arange(5)}, DataError, "5 labelled sequences are too few"),
        (X, {"lags": 80}, OptionError, "1 to 79"),
        (X, {"lags": [0, 3]}, OptionError, "1 to 79"),
        (X, {"lags": []}, OptionError, "none wanted"),
        (HOLED, {}, DataError, "nan in the data at row 7, column 1"),
        ([X, HOLED], {}, DataError, "row 7, column 1 of sequence 1"),
        (X, {"target": HOLED}, DataError, "nan in the target at row 7"),
        ([X[:, 0], SYMBOLS[0]], {}, DataError, "sequences of symbols and sequences of numbers"),
        ([X, X[:, :1]], {}, DataError, "number of features"),
        (np.zeros((2, 3, 4), dtype=int), {}, DataError, "shape"),
        ([[1, 2], [[3], [4]]], {}, DataError, "more than one axis|regular shape"),
        (np.array([1j, 2]), {}, DataError, "complex"),
        ("text", {"kind": "numbers"}, DataError, "kind='numbers'|too few"),
        (["the", "cat"], {"kind": "numbers"}, DataError, "are text"),
        (X, {"kind": "words"}, OptionError, "'symbols' or 'numbers'"),
        (X, {"target": np.arange(7)}, DataError, "shape \\(7,\\)"),
        (SYMBOLS, {"target": [row[:9] for row in SYMBOLS]}, DataError, "9, 9"),
        (X, {"draws": 1}, OptionError, "draws=1"),
        (X, {"level": 1.0}, OptionError, "level=1.0"),
        (iter([X[:, 0]]), {}, DataError, "chunk"),
        (iter([b"abc"]), {"target": b"abc"}, OptionError, "read once"),
        (Path("no such file"), {}, DataError, "cannot be read"),
    ],
)
def test_what_cannot_be_measured_says_why(data: Any, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dependency(data, **options)


def test_file_that_is_no_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="not UTF-8"):
        dependency(tmp_path / "image")


def test_step_that_is_the_same_in_all_rows_tells_nothing() -> None:
    """Rounding is over a null without any spread."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    rows = np.stack([np.full(300, 3), labels, np.full(300, 1), rng.integers(0, 4, 300)], 1)
    found = dependency(rows, target=labels, draws=20)
    assert found.lags[found.significant].tolist() == [2]
