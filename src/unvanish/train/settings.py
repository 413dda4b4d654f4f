"""What a training run is asked to do: plain values, checked before anything is started."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import Field, ValidationError, create_model

from unvanish.checks import words
from unvanish.engine import check_engine
from unvanish.errors import OptionError, nearest
from unvanish.layer_options import TRAINED
from unvanish.nn.connect import check_connection
from unvanish.nn.constrain import resolve_constraints
from unvanish.nn.init.words import from_word
from unvanish.nn.options import check_skips
from unvanish.record.config import Strict, explain
from unvanish.remedies import clip as clips
from unvanish.remedies import penalty as penalties
from unvanish.train.datasettings import DataSettings

Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
SizeOrNone = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Option = int | float | str
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adamw": torch.optim.AdamW,
}
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
PRECISIONS = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # ours, and Lightning's
STRATEGIES = ("auto", "ddp", "fsdp")
LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")
SHORTEST_RANDOM = 20  # steps: of shorter windows some would have none
MAX_SEED = 2**32 - 1
MAX_LR = 1e30  # torch's optimisers refuse what single precision cannot hold a multiple of


_KINDS: dict[str, Any] = {
    "share": Share,
    "flag": bool,
    "delays": Sequence[int],
    "word": str,
    "word or none": str | None,
    "words": Sequence[str],
    "size or none": Annotated[int, Field(ge=0, le=2**31 - 1)],
}
_Layer = make_dataclass(
    "_Layer",
    [(name, _KINDS[one.kind], () if one.kind == "words" else one.usual) for name, one in TRAINED.items()],
    bases=(DataSettings,),
    frozen=True,
    slots=True,
    kw_only=True,  # so that the source comes first
)


@dataclass(frozen=True, slots=True)
class TrainSettings(_Layer):  # type: ignore[misc, valid-type]
    """The settings of one run. `source` None means the standard library's source text.

    `length`, `batch_size` and `epochs` are 0, and `schedule` is empty, where they are to fit the data; a run's
    configuration holds what that came to. The
    remedies are words: `clip` as `unvanish.clip.parse` reads it, `penalty` a list of them as `unvanish.penalty`
    does, what `unvanish.layer_options` lists as `Recurrent` does.
    """

    source: str | None = None
    cell: str = "lstm"
    hidden: Size = 128
    layers: Annotated[int, Field(ge=1, le=1000)] = 2
    length: SizeOrNone = 0
    batch_size: SizeOrNone = 0
    epochs: SizeOrNone = 0
    lr: Annotated[float, Field(gt=0, le=MAX_LR)] = 5e-3
    optimizer: str = "adam"
    weight_decay: Annotated[float, Field(ge=0, le=MAX_LR)] = 0.0
    schedule: str = ""
    warm_up: Annotated[int, Field(ge=0, le=2**32)] = 0  # steps
    patience: Annotated[int, Field(ge=0, le=2**31)] = 0  # validations without a better one; 0: to the end
    time_limit: Annotated[float, Field(ge=0, le=1e9)] = 0.0  # minutes; 0: none
    clip: str = "norm:5"
    random_windows: bool = False  # of text: windows of random lengths, begun elsewhere in each epoch
    pace: Sequence[str] = ()  # NAME=RATES: steps between two updates, of groups of units
    pace_scaled: bool = False  # whether rates divide the learning rate instead
    penalty: Sequence[str] = ()
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 1
    engine: str = "auto"
    device: str = "auto"
    precision: str = "32"  # bits of the numbers; bf16 and 16 keep the parameters in 32
    strategy: str = "auto"
    devices: Annotated[int, Field(ge=1, le=1024)] = 1  # processes that share each batch, with batch_size rows each
    accumulate: Size = 1  # batches whose gradients are gathered for a step
    logger: Sequence[str] = ()
    valid_every: Annotated[int, Field(ge=0, le=2**32)] = 0  # steps; 0: once an epoch
    # times the gradient's reach is measured between validations, over the whole run
    probes: Annotated[int, Field(ge=0, le=1_000_000)] = 8
    cell_options: Mapping[str, Option | Sequence[Option]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _NAMES}
        for name in _lists():
            if isinstance(values[name], str):
                words(values[name], f"--{name.replace('_', '-')}")
        try:
            _types().model_validate(values)
        except ValidationError as fault:
            raise OptionError(_dashed(explain(fault))) from fault
        self._check_words()
        self._check_windows()
        check_engine(self.engine)
        self.check_data()
        self._check_remedies()

    def _check_words(self) -> None:
        for what, word, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule or SCHEDULES[0], SCHEDULES),
            ("precision", self.precision, PRECISIONS),
            ("strategy", self.strategy, STRATEGIES),
            *(("logger", word, LOGGERS) for word in self.logger),
        ):
            if word not in known:
                raise OptionError(f"unknown {what} '{word}': {nearest(word, known)}")

    @property
    def chosen(self) -> list[str]:
        """The names of what is not as usual, by choice or since it was fitted to the data."""
        usual = TrainSettings().to_dict()
        return [name for name, value in self.to_dict().items() if _plain(value) != _plain(usual[name])]

    @property
    def rows(self) -> int:
        """How many streams, or sequences, a batch has, over all processes."""
        return self.batch_size * self.devices

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return torch.float64 if self.precision == "64" else torch.float32

    def _check_windows(self) -> None:
        if self.random_windows and 0 < self.length < SHORTEST_RANDOM:
            raise OptionError(
                f"--random-windows is for windows of {SHORTEST_RANDOM} steps or more: give a longer --length"
            )

    def _check_remedies(self) -> None:
        """Read every word; whether the cell can do with it shows when the network is made."""
        clips.parse(self.clip)
        self._check_penalties()
        for word in self.init:
            from_word(word)
        check_connection(self.connect)
        check_skips(self.skips)
        resolve_constraints(self.constrain, ["U"], ["U"])

    def _check_penalties(self) -> None:
        kinds = [type(penalties.parse(word)) for word in self.penalty]
        if self.accumulate > 1 and penalties.Omega in kinds:
            raise OptionError(
                "--penalty omega is worked out from one backward pass, and --accumulate makes a step of several: "
                "leave one of them away"
            )
        for word, kind in zip(self.penalty, kinds, strict=True):
            if kinds.count(kind) > 1:
                raise OptionError(
                    f"--penalty {word} is one of two of its kind: give one, with both weights added up"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, the layer's own last."""
        plain = dataclasses.asdict(self)
        return {name: plain[name] for name in sorted(plain, key=TRAINED.__contains__)}

    def keywords(self) -> dict[str, Any]:
        """Return what a layer is given by keyword: those of every layer, and the cell's own."""
        return {name: getattr(self, name) for name in TRAINED} | dict(self.cell_options)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainSettings:
        """Make settings from what `to_dict` returned, passing over what an older version wrote."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})


def _plain(value: Any) -> Any:
    """A sequence as a list: what was read from a file holds lists, what is as usual tuples."""
    return list(value) if isinstance(value, tuple) else value


_NAMES = tuple(field.name for field in dataclasses.fields(TrainSettings))


@functools.cache
def _lists() -> tuple[str, ...]:
    """Return the names of the settings that are lists of words."""
    hints = get_type_hints(TrainSettings, include_extras=True)
    return tuple(name for name in _NAMES if hints[name] == Sequence[str])


@functools.cache
def _types() -> type[Strict]:
    """Return the annotations of the settings as a model that checks them."""
    hints = get_type_hints(TrainSettings, include_extras=True)
    fields: dict[str, Any] = {name: (hints[name], ...) for name in _NAMES}
    return create_model("Settings", __base__=Strict, **fields)


def _dashed(told: str) -> str:
    """Name a field as the command line does, where it does."""
    name, space, reason = told.partition(" ")
    return told if name.startswith("cell_options") else f"--{name.replace('_', '-')}{space}{reason}"
