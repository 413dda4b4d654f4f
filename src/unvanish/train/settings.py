"""What a training run is asked to do: plain values, checked before anything is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unvanish.engine import check_engine
from unvanish.errors import OptionError, nearest
from unvanish.nn.connect import check_connection
from unvanish.nn.constrain import resolve_constraints
from unvanish.nn.init.words import from_word
from unvanish.nn.options import check_skips
from unvanish.remedies import clip as clips
from unvanish.remedies import penalty as penalties

OPTIMIZERS = ("adam", "sgd", "rmsprop")
MAX_LR = 1e30  # torch's optimisers refuse what single precision cannot hold a multiple of


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The settings of one run. `source` None means the standard library's source text.

    The remedies are words: `clip` as `unvanish.clip.parse` reads it, `penalty` a list of them as `unvanish.penalty`
    does, `init`, `connect` and `constrain` as `Recurrent` does.
    """

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
    penalty: Sequence[str] = ()
    init: Sequence[str] = ()
    connect: str = "plain"
    layer_norm: bool = False
    skips: Sequence[int] = ()
    constrain: str | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    weight_drop: float = 0.0
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
        for name in ("dropout", "recurrent_dropout", "zoneout", "weight_drop"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
                raise OptionError(
                    f"--{name.replace('_', '-')} is {value!r}: give a probability from 0 on that is less than 1"
                )
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"unknown optimizer '{self.optimizer}': {nearest(self.optimizer, OPTIMIZERS)}")
        check_engine(self.engine)
        self._check_cell_options()
        self._check_remedies()

    def _check_cell_options(self) -> None:
        for name, value in self.cell_options.items():
            numbers = value if isinstance(value, list | tuple) else [value]
            if not all(isinstance(number, int | float | str) for number in numbers):
                raise OptionError(
                    f"cell_options has {name}={value!r}, which config.yaml cannot keep: give a number, a word or "
                    "a list of numbers, or declare it in the cell"
                )

    def _check_remedies(self) -> None:
        """Read every word; whether the cell can do with it shows when the network is made."""
        for name in ("penalty", "init"):
            words = getattr(self, name)
            if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
                raise OptionError(f"--{name} is {words!r}: give a list of words")
        if not isinstance(self.clip, str):
            raise OptionError(f"--clip is {self.clip!r}: give a word, such as norm:5, or none")
        if not isinstance(self.layer_norm, bool):
            raise OptionError(f"--layer-norm is {self.layer_norm!r}: it is given, or it is not")
        clips.parse(self.clip)
        self._check_penalties()
        for word in self.init:
            from_word(word)
        check_connection(self.connect)
        check_skips(self.skips)
        resolve_constraints(self.constrain, ["U"], ["U"])

    def _check_penalties(self) -> None:
        kinds = [type(penalties.parse(word)) for word in self.penalty]
        for word, kind in zip(self.penalty, kinds, strict=True):
            if kinds.count(kind) > 1:
                raise OptionError(
                    f"--penalty {word} is one of two of its kind: give one, with both weights added up"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainSettings:
        """Make settings from what `to_dict` returned, passing over what an older version wrote."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})
