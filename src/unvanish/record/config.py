"""What `config.yaml` of a run holds, as a model. A field that is wrong is refused: the run would be another."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from unvanish.errors import printable

FORMAT = 3
SHOWN = 60  # characters of a wrong value
WHOLE = 2**53  # up to here every float is whole

Count = Annotated[int, Field(ge=0, le=WHOLE)]


class Strict(BaseModel):
    """Nothing is converted; what is not known is passed over, as another version may have written it."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def explain(fault: ValidationError) -> str:
    """Say which field is wrong and why, in one line: the first one where there are several.

    >>> try:
    ...     Config.model_validate({"format": "2"})
    ... except ValidationError as fault:
    ...     print(explain(fault))
    format is '2': it should be a valid integer
    """
    first = fault.errors(include_url=False, include_context=False)[0]
    field = printable(".".join(str(part) for part in first["loc"])) or "it"
    if first["type"] == "missing":
        return f"{field} is missing"
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] in ("is_instance_of", "sequence_str"):
        reason = "should be a list"
    return f"{field[:200]} is {shown(first['input'])}: it {reason}"


def shown(value: Any) -> str:
    """Write a wrong value, cut where it is long."""
    try:
        text = printable(" ".join(repr(value).split()))
    except ValueError:  # a number with more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Drawn(Strict):
    """A fixed number that is drawn once for each unit."""

    low: float
    high: float
    spacing: str = "linear"


class Grouped(Strict):
    """A fixed number with one value for each group of units."""

    values: list[float]


class Definition(Strict):
    """A cell: what `Cell.from_dict` takes."""

    model_config = ConfigDict(extra="forbid")
    name: str
    equations: str
    output: str = "h"
    initial: dict[str, float | str] = {}
    scalars: list[str] = []
    numbers: dict[str, float | Drawn | Grouped] = {}
    delays: dict[str, int] = {}
    functions: dict[str, str] = {}
    widths: dict[str, str] = {}
    slower_to_faster: dict[str, str] = {}
    cite: str = ""
    note: str = ""
    class_name: str = ""


class CellPart(Strict):
    """The cell of a run, for its readers and for whoever makes it again."""

    name: str = ""
    title: str = ""
    equations: str = ""
    latex: list[str] = []
    cite: str = ""
    parameters: Count = 0
    definition: Definition


class ColumnPart(Strict):
    """A column of numbers, what is taken off it and what it is divided by."""

    name: str
    centre: float
    scale: Annotated[float, Field(gt=0)]
    gaps: bool = False


class LevelsPart(Strict):
    """A column of words."""

    name: str
    levels: list[str]


class EncodingPart(Strict):
    """How steps become numbers."""

    columns: list[ColumnPart]
    categories: list[LevelsPart]


class LabelsPart(Strict):
    """Which class, or which number."""

    kind: Literal["labels"]
    asked: Literal["class", "number"]
    per: Literal["sequence", "step"]
    names: list[str]
    levels: list[str]
    scales: list[ColumnPart]
    encoding: EncodingPart
    step: str | None = None  # None of runs that did not keep it
    marks: dict[str, Literal[".", ","]] = {}


class ForecastPart(Strict):
    """What comes next in a series."""

    kind: Literal["forecast"]
    targets: Annotated[list[str], Field(min_length=1)]
    scales: list[ColumnPart]
    known: list[str]
    horizon: Annotated[int, Field(ge=1, le=1_000_000)]
    how: Literal["standard", "robust", "series", "window", "none"]
    likelihood: Literal["point", "quantiles", "gaussian", "student", "negbin"]
    season: Annotated[int, Field(ge=1, le=WHOLE)]
    step: str
    encoding: EncodingPart
    marks: dict[str, Literal[".", ","]] = {}
    own: str = ""  # the digest of series.json, where each series has units of its own


class DataPart(Strict):
    """The data of a run, and what of them it takes to answer its question of others.

    A run on text keeps its characters, or says which other symbols it is of (`vocabulary.json` holds them); one on
    other data keeps its `question`.
    """

    source: str = ""
    sizes: dict[str, Count] = {}
    digest: str
    cut: Literal["chars", "bytes", "words", "bpe"] = "chars"
    vocabulary: str = ""
    vocabulary_size: Count = 0
    question: Annotated[LabelsPart | ForecastPart, Field(discriminator="kind")] | None = None
    characters: Annotated[str | None, Field(validate_default=True)] = None

    @property
    def kind(self) -> str:
        """Which question it is: `text`, `labels` or `forecast`."""
        return "text" if self.question is None else self.question.kind

    @field_validator("characters")
    @classmethod
    def _in_order(cls, characters: str | None, info: ValidationInfo) -> str | None:
        if characters is None:
            if info.data.get("cut", "chars") == "chars" and info.data.get("question") is None:
                raise ValueError("should be the characters of the text")
            return None
        if any(one >= other for one, other in itertools.pairwise(characters)):
            raise ValueError("should have each character once, in the order of their code points")
        if any(0xD800 <= ord(one) < 0xE000 for one in characters):
            raise ValueError("should have whole characters only, and has half of a surrogate pair")
        return characters


class Config(Strict):
    """`config.yaml` of a run. One without `format` is of format 1, which says nothing of it."""

    format: Annotated[int, Field(ge=1)] = 1
    name: str = ""
    created: str = ""
    seed: Count = 0
    versions: dict[str, str | int] = {}
    settings: dict[str, Any]
    chosen: list[str] = []  # of the settings, those that are not as usual
    cell: CellPart
    data: DataPart
    parameters: Count = 0

    @property
    def unit(self) -> str:
        """What one loss is of."""
        units = {"chars": "character", "bytes": "byte", "words": "word", "bpe": "piece"}
        question = self.data.question
        if question is None and self.settings.get("task") == "agreement":
            return "verb"
        if question is None:
            return units[self.data.cut]
        return question.per if isinstance(question, LabelsPart) else "step"

    @property
    def steps(self) -> str:
        """What the steps of its data are."""
        return f"{self.unit}s" if self.data.question is None and not self.settings.get("task") else "steps"

    @field_validator("format")
    @classmethod
    def _known(cls, number: int) -> int:
        if number > FORMAT:
            raise ValueError(f"is of a newer unvanish (this one reads formats up to {FORMAT}): update it")
        return number
