"""What a run answers, and how well: its question, its metrics beside naive answers, in words and in a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unvanish.record.measures import NAMES, measures
from unvanish.record.schema import mapping, text
from unvanish.report.page.blocks import scrolling, tile
from unvanish.report.page.markup import Child, Html, element
from unvanish.report.page.wording import MISSING, decimal, enumeration, percent

PARTS = {"valid": "validation"}
CALLED = {"frequencies": "symbol frequencies", "frequencies after the last symbol": "bigrams"}
LEADING = {"text": "loss", "class": "accuracy", "number": "rmse", "forecast": "mae", "agreement": "accuracy"}
SHOWN = {
    "class": ("accuracy", "f1"),
    "number": ("rmse", "r2"),
    "forecast": ("mase", "coverage"),
    "agreement": ("accuracy",),
}
DIFFICULTY = re.compile(r"accuracy, (\d+) steps?, (\d+) attractors?")
UNITS = {"bytes": "byte", "words": "word", "bpe": "piece"}


@dataclass(frozen=True)
class Asked:
    """What a run was asked, as far as its configuration says it.

    Attributes:
        kind: `text`, `class`, `number`, `forecast` or `agreement`.
        unit: what one loss is of.
    """

    kind: str
    unit: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Asked:
        """Read it; a configuration without a question is one of text."""
        data = mapping(config.get("data"))
        question = mapping(data.get("question"))
        if question.get("kind") == "forecast":
            return cls("forecast", "step")
        if question.get("kind") == "labels":
            per = "step" if question.get("per") == "step" else "sequence"
            return cls("number" if question.get("asked") == "number" else "class", per)
        if mapping(config.get("settings")).get("task") == "agreement":
            return cls("agreement", "verb")
        return cls("text", UNITS.get(text(data.get("cut")), "character"))

    @property
    def in_nats(self) -> bool:
        """Whether its loss is a cross-entropy."""
        return self.kind in ("text", "class", "agreement")

    @property
    def loss_unit(self) -> str:
        """What the loss is measured in."""
        if self.in_nats:
            return f"nats per {self.unit}"
        return "in units of the spread" if self.kind == "forecast" else "of the variance"

    @property
    def loss_axis(self) -> str:
        """What the axis of its loss is called."""
        if self.in_nats:
            return f"loss −ln p, in {self.loss_unit}"
        return f"loss, {self.loss_unit}"

    @property
    def steps(self) -> str:
        """What its steps are called."""
        return f"{self.unit}s" if self.kind == "text" else "steps"

    @property
    def caption(self) -> str:
        """What the picture of the loss shows."""
        what = {
            "text": f"each next {self.unit}, on the text it learns from and on text",
            "class": "each class, on the data it learns from and on data",
            "agreement": "each verb, in the sentences it learns from and in sentences",
            "number": "each number, on the data it learns from and on data",
            "forecast": "each forecast, in the part it learns from and in a part",
        }[self.kind]
        return (
            f"How wrong it was about {what} it has never seen: lower is better, and a widening gap between the two "
            "means that it learns by heart."
        )


def axis_of(asked: Asked) -> str:
    """Name the figure by which a network is judged, with its unit."""
    return {
        "text": asked.loss_axis,
        "class": f"accuracy, in % of the {asked.unit}s",
        "agreement": "accuracy, in % of the verbs",
        "number": "root mean square error, in units of the target",
        "forecast": "mean absolute error, in units of the target",
    }[asked.kind]


def sentence(asked: Asked, metrics: Mapping[str, float | None], steps: str) -> str:
    """Say what a network has come to after so many `steps`, in words."""
    loss = metrics.get("loss")
    if asked.kind == "text":
        bits, perplexity = metrics.get("bits"), metrics.get("perplexity")
        return (
            f"After {steps} the network predicts text it has never seen at {decimal(loss)} nats ({decimal(bits)} "
            f"bits) per {asked.unit}: as unsure as a blind choice among {decimal(perplexity)} {asked.unit}s."
        )
    if asked.kind == "class":
        return (
            f"After {steps} the network gets {percent(metrics.get('accuracy'))} right of the {asked.unit}s that it "
            f"was not trained on, at {decimal(loss)} nats per {asked.unit}."
        )
    if asked.kind == "agreement":
        return (
            f"After {steps} the network gives {percent(metrics.get('accuracy'))} of the verbs the number of their "
            "subject, where all nouns in between are of the other number."
        )
    if asked.kind == "number":
        return (
            f"After {steps} the network is {decimal(metrics.get('rmse'))} off (root mean square) on {asked.unit}s "
            f"that it has not been trained on, and explains {percent(metrics.get('r2'))} of their variance."
        )
    return (
        f"After {steps} its forecasts are {decimal(metrics.get('mae'))} off in the mean: "
        f"{decimal(metrics.get('mase'))} times as much as repeating the last season is off where it was trained."
    )


def told_in_full(name: str) -> str:
    """Name a naive answer, and by its short name too where pictures use that."""
    return f"{name} ({CALLED[name]})" if name == "frequencies after the last symbol" else CALLED.get(name, name)


def baseline_sentence(asked: Asked, metrics: Mapping[str, float | None], naive: list[Worth]) -> str:
    """Say what a naive answer comes to beside it."""
    leads = LEADING[asked.kind]
    known = [one for one in naive if one.metrics.get(leads) is not None]
    if not known or metrics.get(leads) is None:
        return ""
    told = [
        f"{told_in_full(one.name)}: {dict(measures({leads: one.metrics[leads]}, asked.unit)).popitem()[1]}"
        for one in known
    ]
    return f"For comparison, {enumeration(told)}."


def tiles(asked: Asked, metrics: Mapping[str, float | None]) -> list[Html]:
    """Show the metrics as figures."""
    loss = metrics.get("loss")
    found = [tile(decimal(loss), "validation loss", asked.loss_unit)]
    if asked.kind == "text":
        return [
            *found,
            tile(decimal(metrics.get("bits")), "validation loss", f"bits per {asked.unit}"),
            tile(decimal(metrics.get("perplexity")), "perplexity", f"equally likely {asked.unit}s"),
        ]
    shown = SHOWN[asked.kind]
    units = {
        "accuracy": "on the validation part",
        "f1": "mean over classes",
        "rmse": "in units of the target",
        "r2": "of the variance explained",
        "mase": "1: as good as naive",
        "coverage": "meant to be 80 %",
    }
    for name in shown:
        value = metrics.get(name)
        written = percent(value) if name in ("accuracy", "coverage") else decimal(value)
        found.append(tile(MISSING if value is None else written, NAMES[name], units[name]))
    return found


@dataclass(frozen=True)
class Worth:
    """Who answers, on which part, and how well."""

    name: str
    part: str
    metrics: Mapping[str, float | None]


def _plain(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """The metrics without those that have a table of their own."""
    return {name: value for name, value in metrics.items() if not DIFFICULTY.fullmatch(name)}


def difficulty_table(metrics: Mapping[str, float | None]) -> Child:
    """Show the share of right verbs by distance and by attractors."""
    matched = {name: DIFFICULTY.fullmatch(name) for name in metrics}
    found = {(int(one[1]), int(one[2])): metrics[name] for name, one in matched.items() if one is not None}
    if not found:
        return None
    counts = sorted({count for _, count in found})
    heads = [f"{count} attractor{'s' * (count != 1)}" for count in counts]
    head = element("tr", *(element("th", name, scope="col") for name in ("steps to the subject", *heads)))
    body = []
    for distance in sorted({distance for distance, _ in found}):
        cells = [found.get((distance, count)) for count in counts]
        shown = (element("td", MISSING if one is None else percent(one)) for one in cells)
        body.append(element("tr", element("th", str(distance), scope="row"), *shown))
    table = element("table", element("thead", head), element("tbody", *body))
    return scrolling("div", "Right verbs by distance and attractors", table, class_="events worth")


def worth_table(asked: Asked, rows: list[Worth]) -> Child:
    """Set the network beside naive answers, on each part."""
    if len(rows) < 2:
        return None
    written = [dict(measures(_plain(row.metrics), asked.unit)) for row in rows]
    names = list(dict.fromkeys(name for one in written for name in one))
    head = element("tr", *(element("th", name, scope="col") for name in ("answer", "on", *names)))
    body = [
        element(
            "tr",
            *(
                element("td", cell)
                for cell in (
                    told_in_full(row.name),
                    PARTS.get(row.part, row.part),
                    *(one.get(n, MISSING) for n in names),
                )
            ),
        )
        for row, one in zip(rows, written, strict=True)
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    return scrolling("div", "The network beside naive answers", table, class_="events worth")
