"""What the lines of `records.jsonl` hold, as models.

A line is passed over where it has no step, and else taken field by field, wrong ones as if they were not there: a
record may be cut by a kill, or be of another version, and most of it is still worth a report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unvanish.checks import is_number
from unvanish.record.config import WHOLE

Kind = TypeVar("Kind", bound=BaseModel)


def number(value: Any) -> float | None:
    """Take a finite number, else None."""
    if not is_number(value):
        return None
    try:
        taken = float(value)
    except OverflowError:
        return None
    return taken if math.isfinite(taken) else None


def whole(value: Any) -> int | None:
    """Take a finite number, rounded."""
    taken = number(value)
    return None if taken is None else round(taken)


def text(value: Any) -> str:
    """Take a value as text; None is empty, and so is a number too long to be written."""
    try:
        return "" if value is None else str(value)
    except ValueError:
        return ""


def mapping(value: Any) -> dict[str, Any]:
    """Take a mapping with names as keys."""
    return {text(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def amount(value: Any) -> float:
    """Take a count that may be summed over a run: no sign, nothing absurd."""
    taken = number(value)
    return taken if taken is not None and 0 <= taken < 1e15 else 0.0


def series(value: Any) -> list[float | None]:
    """Take a list of numbers."""
    return [number(inner) for inner in value] if isinstance(value, list) else []


def rows(value: Any) -> list[Any]:
    """Take a list of lists."""
    return value if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """Take a list of texts."""
    return [text(inner) for inner in value] if isinstance(value, list) else []


def pair(value: Any) -> tuple[float, float]:
    """Take two counts."""
    one, other = value if isinstance(value, list) and len(value) == 2 else (0, 0)
    return amount(one), amount(other)


Number = Annotated[float | None, BeforeValidator(number)]
Whole = Annotated[int | None, BeforeValidator(whole)]
Text = Annotated[str, BeforeValidator(text)]
Texts = Annotated[list[str], BeforeValidator(texts)]
Amount = Annotated[float, BeforeValidator(amount)]
Series = Annotated[list[float | None], BeforeValidator(series)]
Pair = Annotated[tuple[float, float], BeforeValidator(pair)]
Flag = Annotated[bool, BeforeValidator(lambda value: value is True)]


class Lenient(BaseModel):
    """Takes what is right, and the usual value for what is not."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls: type[Kind], value: Any) -> Kind:
        """Take a mapping, or anything else as an empty one."""
        return cls.model_validate(mapping(value))


def of(kind: type[BaseModel]) -> Any:
    """Return the type of a nested model."""
    return Annotated[kind, BeforeValidator(mapping)]


def several(kind: type[BaseModel]) -> Any:
    """Return the type of a list of nested models."""
    return Annotated[list[of(kind)], BeforeValidator(lambda value: value if isinstance(value, list) else [])]  # type: ignore[misc]


def named(kind: Any) -> Any:
    """Return the type of a mapping from names to values of a kind."""
    return Annotated[dict[str, kind], BeforeValidator(mapping)]


class Line(Lenient):
    """What every line has: the optimiser steps done, the seconds since the start over all resumptions.

    A number that is not finite is written as null. A run that is resumed drops what was written after its
    checkpoint, except events: what happened has happened.
    """

    kind: Text = ""
    step: Annotated[int, Field(strict=True, ge=0, le=WHOLE)]
    seconds: Number = None


class Event(Line):
    """Something that happened: started, resumed, stopped, non-finite, finished."""

    what: Text = ""
    text: Text = ""


class Sample(Line):
    """What the network wrote after a prompt."""

    prompt: Text = ""
    text: Text = ""


class Baseline(Line):
    """What a naive answer comes to on what is validated on, or tested on."""

    name: Text = ""
    on: Text = "valid"
    metrics: named(Number) = {}  # type: ignore[valid-type]


class Test(Line):
    """What came of the part that is tested on, once, at the end."""

    metrics: named(Number) = {}  # type: ignore[valid-type]


class Calibration(Line):
    """By how much the intervals of a forecast are widened, by share covered, step ahead and target."""

    shares: Series = []
    widths: list[list[Series]] = []
    of: Whole = None


class Window(Lenient):
    """One forecast of one target in its own units: what was known, what came, and what was forecast of it.

    `low` and `high` are the ends of the intervals by the per cent that they are meant to cover; `after` says when
    the last known step was.
    """

    key: Text = ""
    target: Text = ""
    after: Text = ""
    history: Series = []
    came: Series = []
    middle: Series = []
    low: named(Series) = {}  # type: ignore[valid-type]
    high: named(Series) = {}  # type: ignore[valid-type]


class Scored(Lenient):
    """How well one series was forecast, in so many windows; `naive` is the MASE of the last season repeated."""

    key: Text = ""
    windows: Whole = None
    mase: Number = None
    mae: Number = None
    naive: Number = None


class Forecast(Line):
    """Some forecasts, and the best and the worst of `of` series, by MASE; `apart` says how far steps lie apart."""

    on: Text = "test"
    apart: Text = ""
    windows: several(Window) = []  # type: ignore[valid-type]
    series: several(Scored) = []  # type: ignore[valid-type]
    of: Whole = None


class Confusion(Line):
    """How often each class (rows) was taken for each (columns); of many the commonest, and all others as one."""

    on: Text = "valid"
    names: Texts = []
    taken: Annotated[list[Series], BeforeValidator(rows)] = []


class Option(Lenient):
    """An option that would help, and how far the gradient reaches with it at the start of training."""

    flag: Text = ""
    reach: Whole = None
    censored: Flag = False


class Advice(Line):
    """What would help where the gradient does not come as far back as the data need."""

    options: several(Option) = []  # type: ignore[valid-type]


class Need(Line):
    """How many steps of context predict a sample of `of` steps as well as any, or at least so many."""

    lag: Whole = None
    censored: Flag = False
    of: Whole = None
    note: Text = ""


class Reach(Lenient):
    """How far back the gradient of a part reaches; `censored` where that is beyond what was looked at."""

    steps: Whole = None
    censored: Flag = False
    rate: Number = None


class Profile(Lenient):
    """Gradient norm against lag, of the full state ("all") and of each state, as shares of the full one's at lag 0.

    log norm ≈ level + rate · lag.
    """

    lags: Series = []
    norms: named(Series) = {}  # type: ignore[valid-type]
    rate: Number = None
    level: Number = None
    reach: Whole = None
    censored: Flag = False


class Penalty(Lenient):
    """A penalty: its value before its weight, its spread by part, in how many of the steps it acted."""

    value: Number = None
    weight: Number = None
    spread: named(Number) = {}  # type: ignore[valid-type]
    acted: Amount = 0.0

    @property
    def mean_spread(self) -> float | None:
        """The spread in the mean over the parts of which it is known."""
        known = [one for one in self.spread.values() if one is not None]
        return number(sum(known) / len(known)) if known else None


class Step(Line):
    """Training: the loss without penalties, the gradient's norm before clipping.

    Of the `steps` steps since the last such line `clipped` were clipped; `factor` is what the gradient was
    multiplied with in these, in the mean; `adjoints`: those that a clip inside the backward pass saw and clipped;
    `paced`: how often parameters of each update rate have been updated.
    """

    epoch: Number = None
    loss: Number = None
    gradient_norm: Number = None
    parameter_norm: Number = None
    learning_rate: Number = None
    clipped: Amount = 0.0
    steps: Amount = 0.0
    factor: Number = None
    adjoints: Pair = (0.0, 0.0)
    penalties: named(of(Penalty)) = {}  # type: ignore[valid-type]
    paced: named(Amount) = {}  # type: ignore[valid-type]


class Valid(Line):
    """A validation: the loss and what else says how good it is, by name."""

    epoch: Number = None
    metrics: named(Number) = {}  # type: ignore[valid-type]
    loss: Number = None
    bits: Number = None
    perplexity: Number = None
    tokens_per_second: Number = None
    reach: named(of(Reach)) = {}  # type: ignore[valid-type]


class Flow(Line):
    """The gradient along time: profiles by part, and one norm for each time step of the window trained on then."""

    epoch: Number = None
    profiles: named(of(Profile)) = {}  # type: ignore[valid-type]
    loss_norms: named(named(Series)) = {}  # type: ignore[valid-type]


class Depth(Lenient):
    """The share of the gradient that is left so many layers below the last: what `flow.DepthProfile` holds."""

    layers: Texts = []
    norms: Series = []
    weight_norms: Series = []
    rate: Number = None
    level: Number = None
    reach: Whole = None
    censored: Flag = False


class Depths(Lenient):
    """The same with a connection and without it."""

    model_config = ConfigDict(frozen=True, validate_by_alias=True)
    joined: of(Depth) = Field(default=Depth(), alias="with")  # type: ignore[valid-type]
    without: of(Depth) = Depth()  # type: ignore[valid-type]


class Remedy(Line):
    """A remedy: the setting that it stands in, what that says, the profiles with it and without it.

    `without` is null for a clip and a penalty, which leave the network as it is; `depth` is there of a connection.
    """

    name: Text = ""
    asked: Text = ""
    profiles: named(of(Profile)) = {}  # type: ignore[valid-type]
    without: named(of(Profile)) = {}  # type: ignore[valid-type]
    depth: of(Depths) = Depths()  # type: ignore[valid-type]


LINES: dict[str, type[Line]] = {
    "event": Event,
    "sample": Sample,
    "need": Need,
    "baseline": Baseline,
    "test": Test,
    "calibration": Calibration,
    "forecast": Forecast,
    "confusion": Confusion,
    "advice": Advice,
    "step": Step,
    "valid": Valid,
    "flow": Flow,
    "remedy": Remedy,
}


def parse_line(content: str) -> dict[str, Any] | None:
    """Read one line of the record; None where it is none: cut short, not JSON, without a step."""
    try:
        line = json.loads(content)
        Line.model_validate(line)
    except (ValueError, RecursionError):  # a number of too many digits is a ValueError, as a ValidationError is
        return None
    return line if isinstance(line, dict) else None
