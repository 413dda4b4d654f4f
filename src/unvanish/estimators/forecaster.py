"""What comes next in a series, or in many.

Shapes: T steps, G targets, S series, H steps ahead.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from unvanish.checks import whole_number
from unvanish.equations import Cell
from unvanish.errors import DataError, OptionError
from unvanish.estimators.base import Trained
from unvanish.estimators.reading import numbers_of, opened, same_columns
from unvanish.train.giving import frame_of
from unvanish.train.questions.units import PLACE

COLUMN, SERIES = "y", "unique_id"


class Forecaster(Trained):
    """Forecasts `horizon` steps of a series, with intervals.

    The other parameters are those of `Trained`.

    Args:
        horizon: how many steps ahead.
        window: steps that the network learns from at a time; None for as many as fit the horizon and the season.
        season: steps after which a series repeats; None where its times tell it, or it does not.
        likelihood: what a forecast is: `quantiles`, `point`, `gaussian`, `student`, or `negbin` of counts.
        scale: what the numbers are divided by: `standard`, `robust`, `series`, `window`, `none`; None for what
            fits.
        target, time, group, known: the columns of a data frame, as of `unvanish train`; those that are called y, ds
            and unique_id are known by their names.

    Attributes:
        history_: the series that it was trained on, whose future `predict` gives.
        targets_: what is forecast, by name.

    >>> y = np.sin(np.arange(200) / 4)
    >>> found = Forecaster(5, cell="gru", hidden=8, layers=1, epochs=2, random_state=0).fit(y)
    >>> found.predict().shape
    (5,)
    """

    def __init__(
        self,
        horizon: int = 1,
        *,
        window: int | None = None,
        season: int | None = None,
        likelihood: str = "quantiles",
        scale: str | None = None,
        target: Sequence[str] = (),
        time: str | None = None,
        group: str | None = None,
        known: Sequence[str] = (),
        cell: str | Cell = "lstm",
        hidden: int = 128,
        layers: int = 2,
        epochs: int | None = None,
        lr: float = 5e-3,
        batch_size: int | None = None,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        schedule: str | None = None,
        patience: int = 0,
        clip: str = "norm:5",
        random_state: Any = None,
        engine: str = "auto",
        device: str = "auto",
        verbose: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            cell,
            hidden=hidden,
            layers=layers,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            optimizer=optimizer,
            weight_decay=weight_decay,
            schedule=schedule,
            patience=patience,
            clip=clip,
            random_state=random_state,
            engine=engine,
            device=device,
            verbose=verbose,
            options=options,
        )
        self.horizon = horizon
        self.window = window
        self.season = season
        self.likelihood = likelihood
        self.scale = scale
        self.target = target
        self.time = time
        self.group = group
        self.known = known

    called = Trained.called | {"length": "window"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # What has two axes is one series of several targets, not rows of samples.
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, False
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: None = None) -> Forecaster:
        """Train on series; their last steps are held back to calibrate the intervals, and to test.

        Args:
            X: one series (T,), or (T, G) of which each column is forecast; a list of such series; or a data frame
                (polars or pandas) with the series one below the other. NaN is a missing value.
            y: nothing; scikit-learn hands it on.

        Raises:
            ValueError: the series are too short, or are not numbers.
        """
        whole_number(self.horizon, "horizon", give="how many steps ahead, from 1 on")
        frame, targets, _ = self._framed(X, fitting=True)
        settings: dict[str, Any] = {
            "length": self.window,
            "season": self.season,
            "scale": self.scale,
            "time": self.time,
        }
        settings |= {"group": self.group, "known": self.known, "target": targets}
        given = {name: value for name, value in settings.items() if value is not None}
        self._train(frame, horizon=self.horizon, likelihood=self.likelihood, **given)
        self.history_ = copy.deepcopy(X)  # whoever gave it may write into it
        self.targets_ = tuple(self.loaded_.question.targets)  # type: ignore[attr-defined]
        return self

    def predict(self, X: Any = None) -> Any:
        """Forecast the steps after the series.

        Args:
            X: other series; None for those that it was trained on. Where columns are known beforehand, a data frame
                with rows ahead, whose targets are left empty.

        Returns:
            (H,), or (H, G); of a list of series (S, H) or (S, H, G); of a data frame one of polars.
        """
        return self._answers(X, [""])[0]

    def predict_interval(self, X: Any = None, *, level: float = 0.8) -> tuple[Any, Any]:
        """Return the lower and the upper end of the interval that is to hold a share of what comes.

        Args:
            X: as `predict` takes it.
            level: the share, 0.8 or 0.95. The intervals are widened to it on the part that is held back.

        Raises:
            OptionError: another share.
        """
        check_is_fitted(self)
        known = [share for share, _ in self.loaded_.measured.calibration]
        if level not in known:
            shares = " or ".join(f"{share:g}" for share in known)
            raise OptionError(f"level is {level}: intervals are calibrated for {shares}")
        low, high = self._answers(X, [f"-{end}-{level * 100:g}" for end in ("lo", "hi")])
        return low, high

    def score(self, X: Any, y: None = None) -> float:
        """Return minus the MASE of the last `horizon` steps of series, forecast from those before them.

        0 is a forecast without error, -1 one that is as good as the naive one.
        """
        check_is_fitted(self)
        frame, _, _ = self._framed(X)
        return -float(self.loaded_.evaluate(frame).metrics["mase"])

    def _answers(self, X: Any, ends: list[str]) -> list[Any]:
        """What is forecast, by the ends of the columns' names."""
        check_is_fitted(self)
        frame, _, shape = self._framed(self.history_ if X is None else X)
        table = self.loaded_.predict(frame)
        found = []
        for end in ends:
            names = [f"{target}{end}" for target in self.targets_]
            if shape is None:
                keys = table.columns[: table.columns.index(self.targets_[0])]
                found.append(table.select(*keys, *names))
            else:
                found.append(table.select(names).to_numpy().reshape(shape))
        return found

    def _framed(self, X: Any, *, fitting: bool = False) -> tuple[Any, Sequence[str], tuple[int, ...] | None]:
        """Series as a data frame, its targets, and the shape of answers; None where they are a frame, too."""
        frame = frame_of(X)
        if frame is not None:
            return frame, self.target, None
        import polars as pl

        if self.target or self.known or self.time or self.group:
            raise OptionError("target, time, group and known name columns of a data frame: give one, or leave them")
        X = opened(X, "X")
        many = _is_list_of_series(X)
        if many:
            same_columns(X)
        series = [_series(one) for one in (X if many else [X])]
        if len({one.shape[1:] for one in series}) > 1:
            raise DataError("the series have different numbers of columns")
        width = series[0].reshape(len(series[0]), -1).shape[1]
        if not fitting and width != len(self.targets_):
            raise DataError(f"a step has {width} numbers, and in fitting it had {len(self.targets_)}")
        shape = (len(series), self.horizon) if many else (self.horizon,)
        values = np.concatenate([one.reshape(len(one), -1) for one in series])
        names = [f"{COLUMN}{place + 1}" for place in range(values.shape[1])] if series[0].ndim == 2 else [COLUMN]
        columns: dict[str, Any] = {name: values[:, place] for place, name in enumerate(names)}
        if many:
            digits = len(str(len(series)))  # that they stay in their order
            columns[SERIES] = [f"{PLACE}{place:0{digits}}" for place, one in enumerate(series) for _ in one]
        return pl.DataFrame(columns), names, (*shape, *series[0].shape[1:])


def _is_list_of_series(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and any(map(np.ndim, X))
    return isinstance(X, list | tuple) and any(np.ndim(one) for one in X)


def _series(one: Any) -> NDArray[np.float64]:
    found = numbers_of(one, "a series", "G").astype(np.float64)
    if np.isinf(found).any():
        raise DataError("a series holds infinity: write NaN where a value is missing")
    return found
