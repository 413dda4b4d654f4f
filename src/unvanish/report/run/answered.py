"""What a run answered: forecasts beside what came, classes and what they were taken for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unvanish.record.schema import Confusion, Scored, Window, amount
from unvanish.report.page.axes import Figure, Series, any_known, canvas, line, rounded
from unvanish.report.page.blocks import Gallery, lead, scrolling, section
from unvanish.report.page.markup import Child, Html, element, plot_text
from unvanish.report.page.wording import MISSING, count, decimal, enumeration, percent, prose
from unvanish.report.run import captions
from unvanish.report.run.answers import PARTS
from unvanish.report.run.read import Run

WINDOWS = 8  # forecasts that are drawn, whatever a record holds
SERIES = 40
CLASSES = 40
MISTAKES = 3  # that are told
BANDS = {"95": "--band-wide", "80": "--band"}


def answer_section(run: Run, gallery: Gallery) -> Html | None:
    """Show what the network answered, where the record holds any of it."""
    return _forecasts(run, gallery) or _classes(run)


# -- forecasts ---------------------------------------------------------------------------------------------------


def _forecasts(run: Run, gallery: Gallery) -> Html | None:
    found = run.forecast
    if found is None:
        return None
    drawn = []
    for window in found.windows[:WINDOWS]:
        picture = forecast_picture(window, found.apart)
        if picture is not None:
            label = (
                f"Line chart of a forecast of {_named(window)}: what was known, what came, the median, intervals."
            )
            drawn.append(gallery.hang([picture], label, "", title=_named(window)))
    table = _series_table(found.series[:SERIES], found.of)
    if not drawn and table is None:
        return None
    words = captions.FORECAST.format(part=PARTS.get(found.on, found.on))
    return section("What it forecasts", lead(words), element("div", *drawn, class_="pair forecasts"), table)


def _named(window: Window) -> str:
    names = [name for name in (window.key, window.target) if name]
    return " · ".join(names) + (f", after {window.after}" if window.after else "")


def forecast_picture(window: Window, apart: str = "") -> Figure | None:
    """Draw what was known, what came, the median and the intervals, by steps from the last known one."""
    if not any_known(window.middle):
        return None
    ahead = [float(step) for step in range(1, len(window.middle) + 1)]
    data = [trace for share, color in BANDS.items() for trace in _band(window, share, color, ahead)]
    behind = [float(step) for step in range(1 - len(window.history), 1)]
    if any_known(window.history):
        data.append(line(behind, window.history, "known", "--ink", width=1.5))
    if any_known(window.came):
        came: Series = [*window.history[-1:], *window.came]
        steps = [float(step) for step in range(len(came) - len(window.came), 0, -1)]
        places = [0.0] * len(steps) + [float(step) for step in range(1, len(window.came) + 1)]
        dots = line(places, came, "what came", "--ink", width=1, mode="lines+markers", dash="dot")
        data.append(dots | {"marker": {"color": "--ink", "size": 5}})
    data.append(line(ahead, window.middle, "median", "--series-1", width=3))
    title = f"time steps ahead, of {apart}" if apart else "time steps ahead"
    layout = canvas(title, plot_text(window.target), legend=True)
    layout["xaxis"]["range"] = [min([*behind, 0.0]) - 0.5, len(ahead) + 0.5]
    now = {"type": "line", "xref": "x", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    layout["shapes"] = [now | {"line": {"color": "--muted", "width": 1, "dash": "dot"}}]
    return {"data": data, "layout": layout}


def _band(window: Window, share: str, color: str, ahead: list[float]) -> Iterator[Figure]:
    low, high = (values.get(share, [])[: len(ahead)] for values in (window.low, window.high))
    if not any_known(low) or len(low) != len(high):
        return
    edge = {"mode": "lines", "width": 0}
    yield line(ahead[: len(low)], low, f"{share} %, from", color, showlegend=False, **edge)
    yield line(ahead[: len(low)], high, f"{share} %", color, fill="tonexty", fillcolor=color, **edge)


def _series_table(found: list[Scored], of: int | None) -> Child:
    if len(found) < 2:
        return None
    head = ("series", "forecasts", "MASE", "MASE of the naive forecast", "MAE")
    rows = [
        (one.key, count(one.windows), decimal(one.mase), decimal(one.naive), decimal(one.mae))
        + (() if one.mase is None or one.naive is None or one.mase <= one.naive else ("worse than naive",))
        for one in found
    ]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell) for cell in row[1:5]),
            element("td", *row[5:], class_="worse"),
        )
        for row in rows
    ]
    names = element("tr", *(element("th", name, scope="col") for name in head), element("td"))
    table = element("table", element("thead", names), element("tbody", *body))
    whole = of is None or of <= len(found)
    told = "All series" if whole else f"The best and the worst of {count(of)} series"
    return element(
        "div",
        element("h3", "By series"),
        lead(f"{told}, the best first, by MASE: 1 is as far off as the last season, repeated, was in training."),
        scrolling("div", "How well each series was forecast", table, class_="side"),
        class_="done",
    )


# -- classes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassScore:
    """How well one class was told from the others; a share of nothing is None."""

    name: str
    count: float
    precision: float | None
    recall: float | None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; 0 for a class that occurs and was never found."""
        if self.recall is None:
            return None
        if not self.precision or not self.recall:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def matrix(found: Confusion) -> list[list[float]]:
    """Return the counts as a square, whatever a record holds."""
    size = min(len(found.names), CLASSES)
    rows = [[amount(value) for value in row[:size]] for row in found.taken[:size]]
    rows += [[]] * (size - len(rows))
    return [row + [0.0] * (size - len(row)) for row in rows]


def class_scores(found: Confusion) -> list[ClassScore]:
    """Work out precision and recall of each class."""
    taken = matrix(found)
    scores = []
    for at, row in enumerate(taken):
        said, true = sum(other[at] for other in taken), sum(row)
        shares = (row[at] / whole if whole else None for whole in (said, true))
        scores.append(ClassScore(found.names[at], true, *shares))
    return scores


def _classes(run: Run) -> Html | None:
    found = run.confusion
    if found is None or not found.names:
        return None
    taken = matrix(found)
    whole, right = sum(map(sum, taken)), sum(row[at] for at, row in enumerate(taken))
    if not whole:
        return None
    words = captions.CONFUSION.format(
        part=PARTS.get(found.on, found.on), right=count(right), whole=count(whole), unit=run.asked.unit
    )
    return section(
        "What it takes for what",
        lead(f"{words} ({percent(right / whole)}).{_mistakes(found.names, taken)}"),
        element("div", _matrix(found.names, taken), _scores(class_scores(found)), class_="pair classes"),
    )


def _mistakes(names: list[str], taken: list[list[float]]) -> str:
    """Name the commonest mistakes."""
    wrong = [
        (times, names[true], names[said])
        for true, row in enumerate(taken)
        for said, times in enumerate(row)
        if true != said and times
    ]
    worst = sorted(wrong, key=lambda one: -one[0])[:MISTAKES]
    told = [
        f"{true} for {said} ({count(times)} {'time' if times == 1 else 'times'})" for times, true, said in worst
    ]
    return f" Most often it takes {enumeration(told)}." if told else ""


def _matrix(names: list[str], taken: list[list[float]]) -> Html:
    head = element("tr", element("td", ""), *(element("th", name, scope="col") for name in names[: len(taken)]))
    body = []
    for at, row in enumerate(taken):
        whole = sum(row) or 1.0
        cells = [
            element(
                "td",
                count(times) if times else "·",
                class_="right" if said == at else "wrong",
                # the root shows even few mistakes
                style=f"--share: {(times / whole) ** (1 if said == at else 0.5):.3f}",
            )
            for said, times in enumerate(row)
        ]
        body.append(element("tr", element("th", names[at], scope="row"), *cells))
    caption = element("caption", "in rows what each is, in columns what it is taken for")
    table = element("table", caption, element("thead", head), element("tbody", *body))
    return scrolling("div", "How often each class was taken for each", table, class_="side confusion")


def _scores(found: list[ClassScore]) -> Html:
    head = ("class", "occurs", "precision", "recall", "F1")
    body = [
        element(
            "tr",
            element("th", one.name, scope="row"),
            *(element("td", cell) for cell in _written(one)),
        )
        for one in found
    ]
    names = element("tr", *(element("th", name, scope="col") for name in head))
    caption = element("caption", "class by class")
    table = element("table", caption, element("thead", names), element("tbody", *body))
    return scrolling("div", "Precision, recall and F1 of each class", table, class_="side")


def _written(one: ClassScore) -> tuple[str, ...]:
    shares = (one.precision, one.recall)
    f1 = MISSING if one.f1 is None else f"{one.f1:.3f}"
    return (count(one.count), *(prose(percent(share)) for share in shares), f1)


def answer_summary(run: Run) -> dict[str, Any]:
    """Gather for programs what was answered."""
    found: dict[str, Any] = {}
    if run.confusion is not None:
        scores = class_scores(run.confusion)
        found["confusion"] = {
            "on": run.confusion.on,
            "taken": matrix(run.confusion),
            "classes": [vars(one) | {"f1": one.f1} for one in scores],
        }
    if run.forecast is not None:
        found["forecast"] = {
            "on": run.forecast.on,
            "series": [one.model_dump() for one in run.forecast.series[:SERIES]],
            "windows": [
                {"key": one.key, "target": one.target, "middle": rounded(one.middle)}
                for one in run.forecast.windows[:WINDOWS]
            ],
        }
    return found
