"""What single precision cannot hold or tell apart is refused, and what it can is left alone."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from unvanish.data.arrays import of_arrays
from unvanish.data.encoding import spread
from unvanish.data.precision import check_single, to_single
from unvanish.data.table import TableOptions, of_frame
from unvanish.errors import DataError

R = np.random.default_rng(0)
NOISE = R.normal(size=200)


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e5, 1e6])
def test_numbers_that_stay_apart_are_rounded(offset: float) -> None:
    np.testing.assert_array_equal(to_single(NOISE + offset, "x"), (NOISE + offset).astype(np.float32))


@pytest.mark.parametrize("offset", [1e8, -1e9, 1e12])
def test_numbers_that_rounding_makes_one_are_refused(offset: float) -> None:
    with pytest.raises(DataError, match=r"x holds numbers near .* does not tell them apart; subtract an offset"):
        to_single(NOISE + offset, "x")
    assert len(to_single(NOISE + offset, "x", apart=False)) == 200


def test_tiny_numbers_are_kept_until_single_precision_has_none_of_them() -> None:
    assert len(np.unique(to_single(NOISE * 1e-30, "x"))) == 200
    for size in (1e-46, 1e-200):
        with pytest.raises(DataError, match="does not tell them apart"):
            to_single(NOISE * size, "x")


def test_numbers_too_large_are_refused_and_gaps_are_not() -> None:
    with pytest.raises(DataError, match=r"too large for single precision, 1e\+300"):
        to_single(np.array([0.0, 1e300, np.nan]), "x")
    with pytest.raises(DataError, match="too large"):
        to_single(np.array([0.0, 1e300]), "x", apart=False)
    assert np.isnan(to_single(np.array([1.0, np.nan]), "x")).tolist() == [False, True]


def test_constants_are_no_numbers_to_tell_apart() -> None:
    assert (to_single(np.full(9, 0.1) + 1e-17 * NOISE[:9], "x") == np.float32(0.1)).all()
    assert (to_single(np.full(9, 1e9), "x") == 1e9).all()


def test_each_column_and_each_series_is_judged_by_itself() -> None:
    both = np.stack([NOISE * 1e12, NOISE + 1e9], 1)
    with pytest.raises(DataError, match=r"near 1e\+09"):
        to_single(both, "x")
    check_single(both.T.reshape(-1), "x")
    with pytest.raises(DataError, match=r"near 1e\+09"):
        check_single(both.T.reshape(-1), "x", np.array([0, 200]))


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e-7, 1.0, 1e30])
def test_the_unit_of_a_column_does_not_matter(size: float) -> None:
    centre, scale = spread(NOISE * size, "standard")
    np.testing.assert_allclose([centre / size, scale / size], [NOISE.mean(), NOISE.std()], rtol=1e-12)
    assert spread(np.full(9, 0.1 * size, np.float32), "standard")[1] == 1


def test_arrays_to_learn_from_are_refused_and_those_to_answer_for_are_not() -> None:
    x = NOISE.reshape(20, 10, 1) + 1e9
    with pytest.raises(DataError, match="x of arrays holds numbers near"):
        of_arrays(x, np.arange(20) % 2)
    assert len(of_arrays(x)) == 20
    with pytest.raises(DataError, match="y of arrays holds numbers near"):
        of_arrays(NOISE.reshape(20, 10, 1), NOISE[:20] + 1e9)


def test_masked_values_are_missing_and_lengths_are_whole_numbers() -> None:
    x = np.ma.masked_array(NOISE.reshape(20, 10), NOISE.reshape(20, 10) > 1)
    np.testing.assert_array_equal(np.isnan(of_arrays(x).numbers_NF[:, 0]), NOISE > 1)
    for lengths in ([2.5] * 20, [True] * 20, [[1] * 20], ["a"] * 20):
        with pytest.raises(DataError, match="lengths of arrays are not whole numbers"):
            of_arrays(NOISE.reshape(20, 10), lengths=lengths)
    assert of_arrays(NOISE.reshape(20, 10), lengths=[2.0] * 20).lengths_B.tolist() == [2] * 20


def test_a_target_of_a_table_is_refused_by_its_name_and_an_input_left_out_with_a_word() -> None:
    frame = pl.DataFrame({"y": NOISE, "stamp": 1e9 + NOISE})
    found = of_frame(frame, TableOptions(horizon=2))
    assert found.names == ("y",)
    assert any("column stamp holds numbers near" in line and "left out" in line for line in found.told)
    with pytest.raises(DataError, match="a data frame, column stamp holds numbers near"):
        of_frame(frame, TableOptions(horizon=2, target=("stamp",)))
    several = pl.DataFrame({"series": ["a"] * 200 + ["b"] * 200, "y": np.concatenate([NOISE * 1e12, NOISE + 1e9])})
    with pytest.raises(DataError, match="column y holds numbers near"):
        of_frame(several, TableOptions(horizon=2))
    assert len(of_frame(several, TableOptions(horizon=2, keep=("y",)))) == 2
