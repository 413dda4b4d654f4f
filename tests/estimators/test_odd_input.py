"""What careless users give the estimators: it is read as it is meant, or refused in one plain line.

Each reading is held against the same numbers as a plain array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests.support.whole import usual
from unvanish.errors import DataError, OptionError
from unvanish.estimators import Forecaster, SequenceClassifier, SequenceRegressor

QUICK: dict[str, Any] = {
    "hidden": 4,
    "layers": 1,
    "epochs": 1,
    "device": "cpu",
    "engine": "reference",
    "random_state": 0,
    "options": {"probes": 0},
}
R = np.random.default_rng(0)
X = R.normal(size=(30, 5)).astype(np.float32)
DEEP = R.normal(size=(30, 5, 2)).astype(np.float32)
Y = np.arange(30) % 2
S = np.random.default_rng(2).normal(size=8)[np.arange(120) % 8]


def classified(x: Any) -> np.ndarray:
    return SequenceClassifier("rnn", **QUICK).fit(x, Y).predict_proba(x)


def forecast(x: Any, **more: Any) -> Any:
    return Forecaster(3, cell="gru", **{**QUICK, **more}).fit(x).predict()


def objects(rows: list[Any]) -> np.ndarray:
    found = np.empty(len(rows), object)
    found[:] = rows
    return found


def readonly(x: np.ndarray) -> np.ndarray:
    found = x.copy()
    found.flags.writeable = False
    return found


FORMS: list[Callable[[], Any]] = [
    lambda: pl.DataFrame(X, schema=list("abcde")),
    lambda: pl.DataFrame(X, schema=list("abcde")).lazy(),
    lambda: pl.Series(X.tolist()),
    lambda: [pl.Series(row) for row in X],
    lambda: torch.tensor(X, requires_grad=True),
    lambda: [torch.tensor(row, requires_grad=True) for row in X],
    lambda: X.astype(object),
    lambda: objects(list(X)),
    lambda: X.astype(">f8"),
    lambda: np.asfortranarray(X),
    lambda: readonly(X),
    lambda: np.ma.masked_array(X, np.zeros_like(X, bool)),
]


@pytest.mark.parametrize("form", usual(FORMS[::3], FORMS))
def test_the_same_numbers_in_another_form_are_the_same_sequences(form: Callable[[], Any]) -> None:
    np.testing.assert_allclose(classified(form()), classified(X), atol=1e-6)


@pytest.mark.parametrize(
    "form", [lambda: [pl.DataFrame(one) for one in DEEP], lambda: torch.tensor(DEEP).bfloat16().float()]
)
def test_sequences_of_several_numbers_in_another_form(form: Callable[[], Any]) -> None:
    np.testing.assert_allclose(classified(form()), classified(DEEP), atol=1e-3)


def test_a_masked_value_is_a_missing_one() -> None:
    mask = X > 1
    missing = np.where(mask, np.nan, X)
    np.testing.assert_array_equal(classified(np.ma.masked_array(X, mask)), classified(missing))
    masked = [np.ma.masked_array(row, gap) for row, gap in zip(X, mask, strict=True)]
    np.testing.assert_array_equal(classified(masked), classified(list(missing)))
    series = np.ma.masked_array(S, np.arange(120) == 60)
    np.testing.assert_array_equal(forecast(series), forecast(np.where(np.arange(120) == 60, np.nan, S)))


@pytest.mark.parametrize("size", usual([1e-13], [1e-30, 1e-13, 1e-7, 1e30]))
def test_the_unit_of_the_numbers_does_not_matter(size: float) -> None:
    np.testing.assert_allclose(classified(X.astype(float) * size), classified(X), atol=1e-4)
    made = SequenceRegressor("rnn", **QUICK)
    y = X[:, 4].astype(float)
    np.testing.assert_allclose(made.fit(X, y * size).predict(X) / size, made.fit(X, y).predict(X), atol=1e-4)
    np.testing.assert_allclose(forecast(S * size) / size, forecast(S), atol=1e-4)
    several = forecast([S * size, S])
    np.testing.assert_allclose(several[0] / size, several[1], atol=1e-4)
    windowed = forecast([S * size, S], scale="window")
    np.testing.assert_allclose(windowed[0] / size, windowed[1], atol=1e-3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X + 1j, "Complex data not supported: X is of complex64"),
        (list(X + 1j), "Complex data not supported: sequence 0 is of complex64"),
        (objects(list(X + 1j)), "Complex data not supported"),
        ((1000 * X).astype("M8[s]"), r"X is of datetime64\[s\], not of numbers"),
        (list((1000 * X).astype("m8[s]")), r"sequence 0 is of timedelta64\[s\], not of numbers"),
        (
            pl.DataFrame({"a": X[:, 0]}).with_columns(pl.lit("2025-01-01").str.to_date().alias("day")),
            "column day of X",
        ),
        (pl.DataFrame({"a": X.tolist(), "b": X.tolist()}), "column a of X is of List"),
        ([pl.DataFrame(one, schema=["b", "a"][:: 1 - 2 * (n % 2)]) for n, one in enumerate(DEEP)], "in one order"),
        (DEEP[:, :0], r"X has the shape \(30, 0, 2\)"),
        (DEEP[..., :0], r"X has the shape \(30, 5, 0\)"),
        ({"a": 1}, "X is not made of numbers"),
        (X.astype(float) + 1e9, "subtract an offset"),
        (list(X.astype(float) + 1e9), "subtract an offset"),
        (X.astype(float) * 1e-60, "take another unit"),
    ],
)
def test_what_would_be_read_wrong_is_refused_in_one_line(x: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as found:
        SequenceClassifier("rnn", **QUICK).fit(x, Y)
    assert "\n" not in str(found.value)


def test_frames_in_a_list_have_the_columns_of_fitting() -> None:
    frames = [pl.DataFrame(one, schema=["a", "b"]) for one in DEEP]
    made = SequenceClassifier("rnn", **QUICK).fit(frames, Y)
    with pytest.raises(DataError, match="the sequences have the columns b, a, and in fitting: a, b"):
        made.predict([one.select("b", "a") for one in frames])
    assert made.predict(list(DEEP)).shape == (30,)


@pytest.mark.parametrize("lengths", [[2.7] * 30, [True] * 30, 3, [[5] * 15] * 2, ["a"] * 30, []])
def test_lengths_that_are_not_whole_numbers_are_refused(lengths: Any) -> None:
    with pytest.raises(DataError, match="whole numbers"):
        SequenceClassifier("rnn", **QUICK).fit(X, Y, lengths=lengths)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ma.masked_array(Y, X[:, 0] > 1), "y is masked in places"),
        (Y + 1j, "Complex data not supported in y"),
        (X[:, 0].astype(float) + 1e9, "y holds numbers near"),
    ],
)
def test_labels_that_would_be_read_wrong_are_refused(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SequenceRegressor("rnn", **QUICK).fit(X, y)


def test_numbers_near_each_other_are_predicted_for() -> None:
    made = SequenceClassifier("rnn", **QUICK).fit(X, Y)
    assert np.isfinite(made.predict_proba(1e7 + np.array([[0, 0.1, 0, 0.1, 0]]))).all()


@pytest.mark.parametrize(
    "form", [lambda: pl.Series(S), lambda: S.astype(object), lambda: torch.tensor(S), lambda: S.tolist()]
)
def test_one_series_in_another_form_is_the_same(form: Callable[[], Any]) -> None:
    np.testing.assert_allclose(forecast(form()), forecast(S), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "more", "message"),
    [
        (S + 1j, {}, "Complex data not supported"),
        ((1000 * S).astype("M8[s]"), {}, "not of numbers"),
        ([pl.DataFrame({"a": S, "b": S}), pl.DataFrame({"b": S, "a": S})], {}, "in one order"),
        (S * 1e300, {}, "too large for single precision"),
        ([S + 1e9, S], {}, "subtract an offset"),
        (S, {"likelihood": "negbin"}, "y holds -.*, and --loss negbin is for counts, from 0 on"),
        (pl.DataFrame({"sales": S}), {"target": "sales"}, r"--target is 'sales', .*: give \['sales'\]"),
        (S, {"options": ["probes"]}, "options is .*: give a mapping"),
    ],
)
def test_what_a_forecaster_would_read_wrong_is_refused(x: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, OptionError), match=message) as found:
        forecast(x, **more)
    assert "\n" not in str(found.value)


def test_other_numbers_of_columns_than_in_fitting_are_refused() -> None:
    two = np.stack([S, 2 * S], 1)
    made = Forecaster(3, cell="gru", **QUICK).fit(two)
    for wrong, width in ((S, 1), (np.stack([S] * 3, 1), 3)):
        with pytest.raises(DataError, match=f"a step has {width} numbers, and in fitting it had 2"):
            made.predict(wrong)
    assert made.fit(S).predict().shape == (3,)


def test_a_history_that_is_written_into_afterwards_stays_as_it_was() -> None:
    given = S.copy()
    made = Forecaster(3, cell="gru", **QUICK).fit(given)
    expected = made.predict()
    given *= 100
    np.testing.assert_array_equal(made.predict(), expected)


# -- pandas, where it is installed ---------------------------------------------------------------------------------


def test_frames_of_pandas_are_read_by_their_values() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    for form in (frame, frame.set_axis(R.permutation(90)[:30]), frame.astype("Float32"), pd.Series(list(X))):
        np.testing.assert_allclose(classified(form), classified(X), atol=1e-6)
    with pytest.raises(DataError, match=r"column e of X is of datetime64.*leave it away"):
        classified(frame.assign(e=pd.date_range("2025-01-01", periods=30)))
    with pytest.raises(DataError, match="several columns of the same name"):
        classified(frame.set_axis(list("abcda"), axis=1))


def test_an_index_of_times_orders_a_series_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    days = pd.date_range("2025-01-01", periods=120, freq="D")
    expected = forecast(S)
    np.testing.assert_allclose(forecast(pd.Series(S, name="sales")), expected, rtol=1e-5)
    whole = forecast(pl.DataFrame({"ds": days.to_numpy(), "y": S}))
    for form in (
        pd.Series(S, index=days, name="sales")[::-1],
        pd.DataFrame({"y": S}, index=days)[::-1],
        pd.DataFrame({"y": S}, index=days.to_period("D")),
        pd.DataFrame({"y": S}, index=days.rename("ds")),
        pd.DataFrame({"ds": days, "y": S}).sample(frac=1, random_state=0),
    ):
        found = forecast(form)
        assert found.columns == ["ds", "y"]
        assert found["ds"].to_list() == whole["ds"].to_list()
        np.testing.assert_allclose(found["y"], whole["y"], rtol=1e-5)


def test_levels_of_an_index_are_columns_where_they_have_names() -> None:
    pd = pytest.importorskip("pandas")
    one = pd.DataFrame({"y": S}, index=pd.date_range("2025-01-01", periods=120, name="ds"))
    both = pd.concat({"a": one, "b": 2 * one}, names=["unique_id"])
    assert forecast(both)["unique_id"].to_list() == ["a"] * 3 + ["b"] * 3
    with pytest.raises(DataError, match="has 2 levels, and not all have a name"):
        forecast(both.rename_axis([None, None]))
    with pytest.raises(DataError, match="the data frame cannot be read"):
        forecast(pd.DataFrame({"y": [*S[:-1].tolist(), "x"]}))
