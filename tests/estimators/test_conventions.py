"""scikit-learn's own checks of an estimator: all of them pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from unvanish.errors import OptionError
from unvanish.estimators import Forecaster, SequenceClassifier, SequenceRegressor

# Ten features that count alike are ten steps here: a network of a few epochs keeps the first of them where its
# recurrent matrix begins orthogonal.
SMALL: dict[str, Any] = {
    "hidden": 16,
    "layers": 1,
    "epochs": 2,
    "batch_size": 10,
    "lr": 0.02,
    "device": "cpu",
    "engine": "reference",
    "options": {"init": ["orthogonal"], "probes": 0},
}
EXPECTED_TO_FAIL: dict[str, str] = {}  # check -> reason


@parametrize_with_checks(
    [SequenceClassifier("rnn", **SMALL), SequenceRegressor("rnn", **{**SMALL, "epochs": 4})],
    expected_failed_checks=lambda _: EXPECTED_TO_FAIL,
)
def test_check_of_scikit_learn(estimator: Any, check: Callable[..., None]) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", [Forecaster, SequenceClassifier, SequenceRegressor])
def test_parameters_are_kept_as_they_are_given(kind: type) -> None:
    options = {"zoneout": 0.1}
    made = kind(cell="gru", options=options)
    assert made.get_params()["options"] is options
    assert clone(made).get_params() == made.get_params()
    assert made.set_params(hidden=3).hidden == 3
    assert not [name for name in vars(made) if name.endswith("_")]


def test_option_that_is_a_parameter_is_refused() -> None:
    x = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    with pytest.raises(OptionError, match="hidden stands in options: give it as the parameter hidden"):
        SequenceClassifier(options={"hidden": 3}).fit(x, [0, 1, 1])
    with pytest.raises(OptionError, match="give it as the parameter random_state"):
        SequenceClassifier(options={"seed": 3}).fit(x, [0, 1, 1])
    with pytest.raises(OptionError, match="give it as the parameter window"):
        Forecaster(options={"length": 3}).fit([0.0, 1.0, 1.0])
    with pytest.raises(OptionError, match="valdi in options is not a setting: did you mean 'valid'"):
        SequenceClassifier(options={"valdi": 0.3}).fit(x, [0, 1, 1])
    with pytest.raises(OptionError, match="folder in options is not a setting"):
        SequenceClassifier(options={"folder": "runs"}).fit(x, [0, 1, 1])
