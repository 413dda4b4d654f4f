"""What a training run is asked to do: plain values, checked before anything is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unvanish.engine import check_engine
from unvanish.errors import OptionError, nearest

OPTIMIZERS = ("adam", "sgd", "rmsprop")
MAX_LR = 1e30  # torch's optimisers refuse what single precision cannot hold a multiple of


@dataclass(frozen=True, slots=True)
class Clip:
    """How gradients are clipped: by the norm of all together, by the value of each, or not at all."""

    kind: str
    threshold: float

    @classmethod
    def parse(cls, text: str) -> Clip:
        """Read `norm:5`, `value:1`, `5` (by norm) or `none`.

        >>> Clip.parse("value:1"), Clip.parse("5")
        (Clip(kind='value', threshold=1.0), Clip(kind='norm', threshold=5.0))
        """
        if text == "none":
            return cls("none", 0.0)
        kind, _, number = text.rpartition(":")
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if kind not in ("", "norm", "value") or not 0 < threshold < float("inf"):
            raise OptionError(f"--clip {text} is not understood: write norm:5, value:1 or none")
        return cls(kind or "norm", threshold)


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The settings of one run. `source` None means the standard library's source text."""

    source: str | None = None
    cell: str = "lstm"
    hidden: int = 128
    layers: int = 2
    length: int = 50
    batch_size: int = 50
    epochs: int = 3
    lr: float = 5e-3
    optimizer: str = "adam"
    clip: str = "norm:5"
    dropout: float = 0.0
    seed: int = 1
    engine: str = "auto"
    device: str = "auto"
    valid_every: int = 0  # steps; 0: once an epoch
    probes: int = 8  # times the gradient's reach is measured between validations, over the whole run
    cell_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "length", "batch_size", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OptionError(f"--{name.replace('_', '-')} is {value!r}: give a whole number from 1 on")
        for name in ("valid_every", "probes", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 2**32:
                raise OptionError(f"--{name.replace('_', '-')} is {value!r}: give a whole number from 0 on")
        if not 0 < self.lr <= MAX_LR:
            raise OptionError(f"--lr is {self.lr!r}: give a positive number up to {MAX_LR:g}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"--dropout is {self.dropout!r}: give a probability from 0 to 1")
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"unknown optimizer '{self.optimizer}': {nearest(self.optimizer, OPTIMIZERS)}")
        for name, value in self.cell_options.items():
            numbers = value if isinstance(value, list | tuple) else [value]
            if not all(isinstance(number, int | float | str) for number in numbers):
                raise OptionError(
                    f"cell_options has {name}={value!r}, which config.yaml cannot keep: give a number, a word or "
                    "a list of numbers, or declare it in the cell"
                )
        Clip.parse(self.clip)
        check_engine(self.engine)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainSettings:
        """Make settings from what `to_dict` returned, passing over what an older version wrote."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})
