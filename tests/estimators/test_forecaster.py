"""A forecaster of series, inside scikit-learn's own tools."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

from unvanish.errors import OptionError
from unvanish.estimators import Forecaster

QUICK: dict[str, Any] = {
    "cell": "gru",
    "hidden": 8,
    "layers": 1,
    "epochs": 2,
    "device": "cpu",
    "engine": "reference",
    "random_state": 0,
    "options": {"probes": 0},
}
PERIOD = np.random.default_rng(2).normal(size=12)


def series(steps: int = 240, size: float = 1.0) -> np.ndarray:
    return size * (PERIOD[np.arange(steps) % 12] + 0.05 * np.random.default_rng(4).normal(size=steps))


def frame(steps: int = 120) -> pl.DataFrame:
    days = np.datetime64("2025-01-01") + np.arange(steps)
    parts = [
        pl.DataFrame({"unique_id": [name] * steps, "ds": days, "y": series(steps, size)})
        for name, size in (("a", 1.0), ("b", 10.0))
    ]
    return pl.concat(parts)


def test_a_series_that_repeats_is_forecast() -> None:
    y = series()
    made = Forecaster(6, **{**QUICK, "hidden": 16, "epochs": 60, "lr": 0.03}).fit(y[:228])
    found = made.predict()
    assert found.shape == (6,)
    assert np.abs(found - y[228:234]).mean() < 0.3
    assert made.score(y) > -0.5  # the naive forecast has -1
    np.testing.assert_array_equal(made.predict(y[:228]), found)
    assert (made.predict(y) != found).any()
    assert made.need_ is not None
    assert made.reach_["l0"] > 0


def test_intervals_lie_in_one_another_around_the_median() -> None:
    made = Forecaster(4, **QUICK).fit(series())
    low, high = made.predict_interval()
    lower, higher = made.predict_interval(level=0.95)
    assert low.shape == (4,)
    ordered = np.stack([lower, low, made.predict(), high, higher])
    assert (np.diff(ordered, axis=0) >= 0).all()
    with pytest.raises(OptionError, match=r"intervals are calibrated for 0\.8 or 0\.95"):
        made.predict_interval(level=0.5)


def test_several_targets_and_several_series_keep_their_shapes() -> None:
    both = np.stack([series(), series(size=20.0)], 1)
    made = Forecaster(3, **{**QUICK, "epochs": 5}).fit(both)
    assert made.predict().shape == (3, 2)
    assert made.targets_ == ("y1", "y2")
    assert np.abs(made.predict()[:, 1]).mean() > 3 * np.abs(made.predict()[:, 0]).mean()
    many = [series(100 + place, size=float(place + 1)) for place in range(11)]
    made = Forecaster(3, **QUICK).fit(many)
    assert made.predict().shape == (11, 3)
    # The series stay in their order.
    for place in (1, 9, 10):
        np.testing.assert_allclose(made.predict()[place], made.predict([many[place]])[0], rtol=1e-4)


def test_a_data_frame_is_answered_by_one_with_its_keys() -> None:
    made = Forecaster(5, **QUICK).fit(frame())
    found = made.predict()
    assert found.columns == ["unique_id", "ds", "y"]
    assert found.height == 10
    assert found["ds"][0] == np.datetime64("2025-05-01").astype(object)
    low, high = made.predict_interval(frame(100))
    assert low.columns == ["unique_id", "ds", "y-lo-80"]
    assert high.columns == ["unique_id", "ds", "y-hi-80"]
    assert made.score(frame()) < 0


def test_columns_of_a_frame_are_named() -> None:
    named = frame().rename({"ds": "y-day", "unique_id": "y_shop"})
    options = {"target": ["y"], "time": "y-day", "group": "y_shop"}
    made = Forecaster(5, **options, **QUICK).fit(named)
    assert made.predict().columns == ["y_shop", "y-day", "y"]
    with pytest.raises(OptionError, match="name columns of a data frame"):
        Forecaster(5, **options, **QUICK).fit(series())


def test_grid_search_over_the_order_of_time() -> None:
    made = Forecaster(4, **QUICK)
    found = GridSearchCV(made, {"window": [6, 24]}, cv=TimeSeriesSplit(2, test_size=60)).fit(series())
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    assert found.best_estimator_.loaded_.settings.length in (6, 24)
    assert found.predict(series(100)).shape == (4,)


def test_a_kept_forecaster_answers_to_the_last_bit() -> None:
    made = Forecaster(4, **QUICK).fit(series())
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.predict(), made.predict())
    np.testing.assert_array_equal(again.predict_interval()[0], made.predict_interval()[0])
    np.testing.assert_array_equal(clone(made).fit(series()).predict(), made.predict())


def test_a_history_that_stands_still_is_forecast_from() -> None:
    made = Forecaster(np.int64(4), **QUICK).fit(series())
    assert np.isfinite(made.predict(np.ones(30))).all()
    assert np.isfinite(made.predict([3.0])).all()


def test_what_is_not_a_series_is_refused() -> None:
    with pytest.raises(OptionError, match="horizon is 0"):
        Forecaster(0).fit(series())
    with pytest.raises(NotFittedError):
        Forecaster(4).predict()
    with pytest.raises(NotFittedError):
        Forecaster(4).predict_interval()
    for wrong, message in (
        ([np.zeros(9), np.zeros((9, 2))], "different numbers of columns"),
        (["a", "b"], "not made of numbers"),
        (np.zeros((9, 2, 2)), r"has the shape \(9, 2, 2\)"),
        (np.full(9, np.inf), "infinity"),
        (series(3), "too few"),
    ):
        with pytest.raises(ValueError, match=message):
            Forecaster(4, **QUICK).fit(wrong)
