"""What a run is asked of its data: which reader, which column is what, what is to be predicted and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from unvanish.data.looking import KINDS
from unvanish.errors import OptionError, nearest

GIVEN = "given"  # what a program gave, in the place of a source
SCALES = ("standard", "robust", "series", "window", "none")
LIKELIHOODS = ("point", "quantiles", "gaussian", "student", "negbin")
POOLS = ("last", "mean")
IMAGES = ("rows", "pixels")
SOFTMAX = ("full", "adaptive")
TASKS = ("agreement",)
Few = Annotated[int, Field(ge=0, le=1_000_000)]
CHOICES: dict[str, tuple[str, ...]] = {
    "kind": (*KINDS, GIVEN),
    "scale": SCALES,
    "likelihood": LIKELIHOODS,
    "pool": POOLS,
    "images": IMAGES,
    "softmax": SOFTMAX,
    "task": TASKS,
}
# What the command line calls otherwise.
NAMED = {"kind": "as", "likelihood": "loss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """What a run is asked of its data.

    Attributes:
        kind: the reader, by default told by looking (`unvanish.data.looking`).
        vocabulary: of words, how many are told apart; of pieces, how many are made; 0 for the usual number.
        tied: whether the embedding of symbols is also the matrix that predicts them. softmax: `full`, or
            `adaptive` for large vocabularies (Grave et al. 2017).
        document_mark: the symbol of a text that ends one document and starts the next; states are reset there.
        target, time, group, horizon, known, words, ignore, decimal: of a table, as `TableOptions` says.
        images: whether a step of an image is a row or a pixel.
        scale: what numbers are divided by: `standard` and `robust`, by the mean and deviation, or the median and
            quartiles, of the part to train on; `series`, each series by its own; `window`, each window; `none`.
        likelihood: what a forecast gives (see `questions.likelihoods`).
        pool: whether a sequence is judged by its last output, or by the mean of all.
        season: steps after which a series repeats, for the naive forecast; 0 where the step tells it.
        windows, stride: of a forecast, how many times it is tested at the end of the series, so many steps apart.
        task: a long-range problem in the place of data: `agreement`, of a `distance` in steps and so many
            `attractors`; with a source a corpus of it.
        valid: the share that is kept to validate on, where the source does not say.
    """

    kind: str | None = None
    vocabulary: Few = 0
    tied: bool = False
    softmax: str = "full"
    document_mark: str | None = None
    target: Sequence[str] = ()
    time: str | None = None
    group: str | None = None
    horizon: Few = 0
    known: Sequence[str] = ()
    words: Sequence[str] = ()
    ignore: Sequence[str] = ()
    decimal: str | None = None
    images: str = "rows"
    scale: str | None = None
    likelihood: str = "quantiles"
    pool: str = "last"
    season: Few = 0
    windows: Annotated[int, Field(ge=1, le=10_000)] = 1
    stride: Few = 0
    task: str | None = None
    distance: Annotated[int, Field(ge=1, le=100_000)] = 40
    attractors: Annotated[int, Field(ge=0, le=10_000)] = 2
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def check_data(self) -> None:
        """Refuse words that are not known.

        Raises:
            OptionError: the first of them.
        """
        for name, known in CHOICES.items():
            value: Any = getattr(self, name)
            if value is not None and value not in known:
                raise OptionError(f"--{NAMED.get(name, name)} {value} is not known: {nearest(value, known)}")
