"""What all estimators share: parameters that are settings of a training, and what a training has found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from unvanish.data.sequences import Sequences
from unvanish.equations import Cell
from unvanish.errors import OptionError, nearest
from unvanish.train import Loaded, TrainSettings, fit

# Parameters that are called as the settings are; of the others `random_state` is the seed.
SETTINGS = (
    *("hidden", "layers", "epochs", "lr", "batch_size", "optimizer", "weight_decay", "schedule", "patience"),
    *("clip", "pool", "engine", "device"),
)


class Trained(BaseEstimator):  # type: ignore[misc]
    """An estimator that trains a recurrent network.

    Args:
        cell: a name of the catalogue, or a `Cell` of your own.
        hidden: units of a layer. layers: how many there are.
        epochs: passes over the data; None for as many as fit their size. batch_size: likewise.
        lr: the learning rate. optimizer: `adam`, `adamw`, `sgd` or `rmsprop`. weight_decay: of the optimiser.
        schedule: of the learning rate: `constant`, `cosine`, `one-cycle` or `plateau`; None for `cosine`.
        patience: validations without a better one after which the training ends, with the best network; 0: none.
        clip: of gradients, as `unvanish.clip.parse` reads it.
        pool: whether the last output of a sequence is judged (`last`), or the mean of all (`mean`).
        random_state: a seed makes `fit` deterministic.
        engine: of the layers. device: `auto`, `cpu` or `cuda`.
        verbose: whether the lines of a training are printed.
        options: further settings of a training by their names: see `unvanish.train.TrainSettings`.

    Attributes:
        loaded_: the trained network, with what it was trained on: see `unvanish.load`.
        n_iter_: epochs that were trained.
        need_: how many steps back the data need; None where that could not be measured.
        reach_: by part of the network, how many steps back its gradient comes.
        held_back_: `far enough`, `cut by the window`, `lost on the way` or `not measured as far`; empty where
            that is not known.
    """

    called: ClassVar[dict[str, str]] = {"seed": "random_state"}  # settings that are parameters of another name

    def __init__(
        self,
        cell: str | Cell = "lstm",
        *,
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
        pool: str = "last",
        random_state: Any = None,
        engine: str = "auto",
        device: str = "auto",
        verbose: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.cell = cell
        self.hidden = hidden
        self.layers = layers
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.patience = patience
        self.clip = clip
        self.pool = pool
        self.random_state = random_state
        self.engine = engine
        self.device = device
        self.verbose = verbose
        self.options = options

    def _train(self, data: Sequences, **more: Any) -> None:
        """Train on data, and keep what was found."""
        asked = self._settings() | more
        settings = {name: one.item() if isinstance(one, np.generic) else one for name, one in asked.items()}
        with torch.random.fork_rng(devices=[]):  # the seed of a training is nobody else's
            found = fit(data, cell=self.cell, say=print if self.verbose else _silent, **settings)
        self.loaded_: Loaded = found
        self.n_iter_ = found.measured.epochs
        self.need_ = None if found.measured.need is None else found.measured.need.lag
        self.reach_ = {part: one.steps for part, one in found.measured.reach.items()}
        self.held_back_ = found.held_back

    def _settings(self) -> dict[str, Any]:
        if not isinstance(self.options, Mapping | None):
            raise OptionError(
                f"options is {self.options!r}: give a mapping, of the names of settings to their values"
            )
        options, known = dict(self.options or {}), TrainSettings.__dataclass_fields__
        own = {name: name for name in self.get_params(deep=False)} | self.called
        for name in options:
            if name in own:
                raise OptionError(f"{name} stands in options: give it as the parameter {own[name]}")
            if name not in known:
                raise OptionError(f"{name} in options is not a setting: {nearest(name, known)}")
        given = {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}
        return options | given | {"seed": self._seed()}

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))


def _silent(_: str) -> None:
    """Say nothing."""
