"""A class, or a number, of each sequence.

Shapes: n sequences, T steps, F numbers of a step, K classes, G targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from unvanish.data.precision import to_single
from unvanish.data.sequences import Sequences, Target
from unvanish.errors import DataError
from unvanish.estimators.base import Trained
from unvanish.estimators.reading import Rows, read_rows

SOURCE = "arrays"
NAME = "target"


class Labelled(Trained):
    """An estimator of a label of each sequence.

    Attributes:
        n_features_in_: of X (n, T) the number of steps, else the numbers of a step.
        n_steps_in_: how many steps each sequence has, of X (n, T); else None, as that may differ.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags

    def _learn(self, rows: Rows, kind: Any, values: NDArray[Any], levels: tuple[str, ...] = ()) -> None:
        names = tuple(f"{NAME} {place + 1}" for place in range(values.shape[1])) if values.shape[1] > 1 else (NAME,)
        target = Target(kind, "sequence", names, values, levels)
        self._train(Sequences.of_rows(SOURCE, rows, target))

    def _answers(self, X: Any, lengths: Any) -> NDArray[np.float64]:
        """What the network answers, a column for each of its outputs."""
        check_is_fitted(self)
        rows = read_rows(self, X, lengths, fitting=False)
        table = self.loaded_.predict(Sequences.of_rows(SOURCE, rows))
        found: NDArray[np.float64] = table[:, -self.loaded_.question.outputs :].to_numpy()  # type: ignore[attr-defined]
        return found

    def _wanted(self, y: Any) -> None:
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        if np.asarray(y).dtype.kind == "c":
            raise DataError("Complex data not supported in y: give real numbers, or classes")
        if np.ma.is_masked(y):
            raise DataError("y is masked in places: give every sequence a label, or leave it away")


class SequenceClassifier(ClassifierMixin, Labelled):  # type: ignore[misc]
    """Tells the class of a sequence.

    The parameters are those of `Trained`. Weights of samples are not supported.

    Attributes:
        classes_: (K,), in ascending order.

    >>> x = np.random.default_rng(0).normal(size=(60, 8))
    >>> found = SequenceClassifier(hidden=8, layers=1, epochs=2, random_state=0).fit(x, x[:, 0] > 0)
    >>> found.predict_proba(x[:2]).shape
    (2, 2)
    """

    def fit(self, X: Any, y: Any = None, *, lengths: Any = None) -> SequenceClassifier:
        """Train on sequences and the class of each.

        Args:
            X: (n, T), a number a step; (n, T, F); or a list of sequences (T,) or (T, F). NaN is a missing value.
            y: (n,) classes.
            lengths: (n,), how many steps of each row are steps, where X is filled up.

        Raises:
            ValueError: they do not go together, or there is nothing to tell.
        """
        self._wanted(y)
        rows = read_rows(self, X, lengths, fitting=True)
        y = column_or_1d(y, warn=True)
        if y.dtype.kind in "fO":
            assert_all_finite(y, input_name="y")
        check_consistent_length(rows, y)
        try:
            check_classification_targets(y)
            self.classes_, codes_n = np.unique(y, return_inverse=True)
        except TypeError as fault:
            raise DataError(f"y holds classes of different kinds, which have no order: {fault}") from fault
        levels = tuple(map(str, self.classes_.tolist()))
        self._learn(rows, "class", codes_n.reshape(-1, 1).astype(np.int32), levels)
        return self

    def predict_proba(self, X: Any, *, lengths: Any = None) -> NDArray[np.float64]:
        """Return the probability of each class, (n, K)."""
        return self._answers(X, lengths)

    def predict(self, X: Any, *, lengths: Any = None) -> NDArray[Any]:
        """Return the most likely class of each sequence, (n,)."""
        answers_nK = self._answers(X, lengths)
        found: NDArray[Any] = self.classes_[answers_nK.argmax(1)]
        return found

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, lengths: Any = None) -> float:
        """Return the accuracy."""
        return float(accuracy_score(y, self.predict(X, lengths=lengths), sample_weight=sample_weight))


class SequenceRegressor(RegressorMixin, Labelled):  # type: ignore[misc]
    """Tells a number, or several, of a sequence.

    The parameters are those of `Trained`. Weights of samples are not supported.

    >>> x = np.random.default_rng(0).normal(size=(60, 8))
    >>> found = SequenceRegressor("gru", hidden=8, layers=1, epochs=2, random_state=0).fit(x, x[:, 0])
    >>> found.predict(x[:2]).shape
    (2,)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any = None, *, lengths: Any = None) -> SequenceRegressor:
        """Train on sequences and the number of each.

        Args:
            X: as `SequenceClassifier.fit` takes it. lengths: likewise.
            y: (n,) or (n, G).

        Raises:
            ValueError: they do not go together.
        """
        self._wanted(y)
        rows = read_rows(self, X, lengths, fitting=True)
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(rows, y)
        self._flat = y.ndim == 1
        self._learn(rows, "number", to_single(y.reshape(len(y), -1), "y"))
        return self

    def predict(self, X: Any, *, lengths: Any = None) -> NDArray[np.float64]:
        """Return the number of each sequence, (n,), or its numbers, (n, G)."""
        answers_nG = self._answers(X, lengths)
        return answers_nG[:, 0] if self._flat else answers_nG

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, lengths: Any = None) -> float:
        """Return R²."""
        return float(r2_score(y, self.predict(X, lengths=lengths), sample_weight=sample_weight))
