"""A classifier and a regressor of sequences: what they read, keep and say, inside scikit-learn's own tools."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import unvanish
from tests.support.whole import usual
from unvanish.estimators import SequenceClassifier, SequenceRegressor
from unvanish.estimators.base import Trained
from unvanish.train import TrainSettings

# A recurrent matrix that begins orthogonal keeps an early step from the first epoch on.
QUICK: dict[str, Any] = {
    "hidden": 16,
    "layers": 1,
    "epochs": 6,
    "lr": 0.02,
    "device": "cpu",
    "engine": "reference",
    "random_state": 0,
    "options": {"init": ["orthogonal"], "probes": 0},
}
ONCE = {**QUICK, "epochs": 1}
RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 6)).astype(np.float32)
Y = np.where(X[:, 2] > 0, "up", "down")


def ragged(count: int = 90) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences of 3 to 8 steps of two numbers, labelled by the first step."""
    rng = np.random.default_rng(5)
    rows = [rng.normal(size=(length, 2)).astype(np.float32) for length in rng.integers(3, 9, count)]
    return rows, np.array([int(row[0, 1] > 0) for row in rows])


def test_classifier_learns_what_an_early_step_tells_and_says_how_far_its_gradient_comes() -> None:
    made = SequenceClassifier("rnn", **QUICK).fit(X, Y)
    assert made.score(X, Y) > 0.95
    assert made.classes_.tolist() == ["down", "up"]
    assert made.need_ == 3
    assert made.reach_["l0"] >= 3
    assert made.held_back_ == "far enough"
    assert made.n_iter_ == 6
    assert made.loaded_.classes == ("down", "up")


def test_gradient_that_does_not_come_as_far_as_the_data_need_is_said() -> None:
    x = np.random.default_rng(0).normal(size=(200, 30))
    made = SequenceClassifier("lstm", **{**ONCE, "options": {"probes": 0}}).fit(x, x[:, 0] > 0)
    assert made.need_ == 29
    assert made.reach_["l0"] < 29
    assert made.held_back_ == "lost on the way"


@pytest.mark.parametrize("shape", ["list", "objects", "filled up"])
def test_sequences_of_different_lengths_are_one_thing_in_all_their_forms(shape: str) -> None:
    rows, y = ragged()
    made = SequenceClassifier("rnn", **QUICK).fit(rows, y)
    expected = made.predict_proba(rows)
    assert made.score(rows, y) > 0.85
    assert (made.n_features_in_, made.n_steps_in_) == (2, None)
    given: Any = rows
    lengths = None
    if shape == "objects":
        given = np.empty(len(rows), object)
        given[:] = rows
    elif shape == "filled up":
        lengths = [len(row) for row in rows]
        given = np.stack([np.pad(row, ((0, 8 - len(row)), (0, 0)), constant_values=9) for row in rows])
    again = clone(made).fit(given, y, lengths=lengths) if lengths else clone(made).fit(given, y)
    more = {"lengths": lengths} if lengths else {}
    np.testing.assert_array_equal(again.predict_proba(given, **more), expected)
    np.testing.assert_array_equal(made.predict_proba(given, **more), expected)
    assert again.score(given, y, **more) == made.score(rows, y)


def test_a_number_a_step_is_the_same_in_two_axes_and_in_three() -> None:
    flat = SequenceRegressor("rnn", **QUICK).fit(X, X[:, 5])
    deep = SequenceRegressor("rnn", **QUICK).fit(X[..., None], X[:, 5])
    assert (flat.n_features_in_, deep.n_features_in_) == (6, 1)
    np.testing.assert_array_equal(flat.predict(X), deep.predict(X))
    np.testing.assert_array_equal(deep.predict(X[:, :4]), deep.predict([row[:4] for row in X]))
    with pytest.raises(ValueError, match="X has 4 features, but SequenceRegressor is expecting 6"):
        flat.predict(X[:, :4])
    with pytest.raises(ValueError, match="a step has 2 numbers, and in fitting it had 1"):
        deep.predict(np.zeros((2, 6, 2)))


def test_several_numbers_come_back_in_their_own_units() -> None:
    y = np.stack([100 + X[:, 5], 5 * X[:, 4]], 1)
    made = SequenceRegressor("rnn", **QUICK).fit(X, y)
    found = made.predict(X)
    assert found.shape == (120, 2)
    assert abs(found[:, 0].mean() - 100) < 0.5
    assert made.score(X, y) > 0.9
    # As many targets as there are steps are still targets of the sequence.
    assert SequenceRegressor("rnn", **ONCE).fit(X, X).predict(X).shape == X.shape


def test_missing_values_are_read() -> None:
    x = X.copy()
    x[::3, 4] = np.nan
    made = SequenceClassifier("rnn", **QUICK).fit(x, Y)
    assert np.isfinite(made.predict_proba(x)).all()
    with pytest.raises(ValueError, match="infinity"):
        made.predict(np.full((1, 6), np.inf))


def test_numbers_that_single_precision_cannot_hold_are_refused() -> None:
    made = SequenceRegressor("rnn", **ONCE)
    with pytest.raises(ValueError, match="x of arrays contains infinity or a value too large"):
        made.fit(X.astype(float) * 1e300, X[:, 0])
    with pytest.raises(ValueError, match="y contains infinity or a value too large"):
        made.fit(X, X[:, 0].astype(float) * 1e300)


def test_classes_without_an_order_are_refused() -> None:
    with pytest.raises(ValueError, match="classes of different kinds"):
        SequenceClassifier("rnn", **ONCE).fit(X, np.array(["a", None] * 60, object))


def test_numbers_of_numpy_are_taken_as_a_search_draws_them() -> None:
    drawn = {"hidden": np.int64(4), "lr": np.float64(0.1), "random_state": np.int64(0)}
    plain = {"hidden": 4, "lr": 0.1}
    one, other = (SequenceClassifier("rnn", **{**ONCE, **more}).fit(X, Y) for more in (drawn, plain))
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        ([np.zeros(3), np.zeros((3, 2))], None, "different numbers of columns"),
        ([np.zeros(3), np.array(["a"])], None, "sequence 1 is not made of numbers"),
        ([np.zeros(3), np.zeros((0, 1))], None, "sequence 1 has the shape"),
        ([np.zeros(3)], None, "1 sample"),
        ([np.zeros(3), np.zeros(2)], [1, 2], "lengths= is for arrays"),
        (np.zeros((2, 3)), [1, 4], "whole numbers from 1 to 3"),
        (np.zeros((2, 3, 1)), [1], "one for each sequence"),
    ],
)
def test_what_is_not_sequences_is_refused(x: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**QUICK).fit(x, [0, 1][: len(x)], lengths=lengths)


def test_a_seed_makes_the_same_network_and_leaves_the_seed_of_others_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, other = (SequenceClassifier("rnn", **ONCE).fit(X, Y).predict_proba(X) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one, other)
    third = SequenceClassifier("rnn", **{**ONCE, "random_state": 1}).fit(X, Y).predict_proba(X)
    assert (one != third).any()


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_kept_estimator_answers_to_the_last_bit(engine: str, tmp_path: Path) -> None:
    made = SequenceClassifier("lstm", **{**ONCE, "engine": engine}).fit(X, Y)
    expected = made.predict_proba(X)
    joblib.dump(made, tmp_path / "made.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "made.joblib").predict_proba(X), expected)
    again = pickle.loads(pickle.dumps(made))
    assert (again.need_, again.reach_, again.loaded_.measured) == (made.need_, made.reach_, made.loaded_.measured)


def test_grid_search_over_a_pipeline() -> None:
    made = make_pipeline(StandardScaler(), SequenceClassifier("rnn", **QUICK))
    grid = {"sequenceclassifier__hidden": [2, 16]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's own, of its processes
        found = GridSearchCV(made, grid, cv=2, n_jobs=usual(1, 2)).fit(X, Y)
    assert found.best_params_ == {"sequenceclassifier__hidden": 16}
    assert found.best_score_ > 0.8
    assert found.predict(X[:3]).shape == (3,)
    assert found.best_estimator_[-1].need_ == 3


def test_cross_validation_takes_lists_and_lengths() -> None:
    rows, y = ragged(60)
    made = SequenceClassifier("rnn", **ONCE)
    assert cross_val_score(made, rows, y, cv=2).shape == (2,)
    filled = np.stack([np.pad(row, ((0, 8 - len(row)), (0, 0))) for row in rows])
    lengths = np.array([len(row) for row in rows])
    assert cross_val_score(made, filled, y, cv=2, params={"lengths": lengths}).shape == (2,)


def test_verbose_says_what_a_training_says(capsys: pytest.CaptureFixture[str]) -> None:
    SequenceClassifier("rnn", **{**ONCE, "verbose": True}).fit(X, Y)
    assert "need     " in capsys.readouterr().out
    SequenceClassifier("rnn", **ONCE).fit(X, Y)
    assert not capsys.readouterr().out


def test_a_cell_of_ones_own() -> None:
    cell = unvanish.Cell("own", "h[t] = tanh(W @ x[t] + U @ h[t-1] + b)")
    made = SequenceClassifier(cell, **ONCE).fit(X, Y)
    assert made.loaded_.model.recurrent.cell.name == "own"
    assert clone(made).fit(X, Y).score(X, Y) == made.score(X, Y)


def test_usual_values_are_those_of_a_training() -> None:
    usual = TrainSettings(source="x")
    for name, value in Trained().get_params().items():
        if value is not None and hasattr(usual, name):
            assert value == getattr(usual, name), name


def test_without_scikit_learn_the_line_to_install_it_is_told() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import unvanish\n"
        "try: unvanish.estimators\n"
        "except unvanish.errors.MissingExtraError as fault: print(fault)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'unvanish[sklearn]'" in done.stdout
