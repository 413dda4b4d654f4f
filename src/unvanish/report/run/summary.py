"""The top of the page: the run in one paragraph and a handful of figures, for readers and for machines."""

from __future__ import annotations

from typing import Any

from unvanish.record.reaching import CUT, ENOUGH, LOST, UNSEEN
from unvanish.record.schema import mapping, number, text
from unvanish.report.page.blocks import Gallery, opening, scrolling, tile
from unvanish.report.page.markup import Child, Html, element
from unvanish.report.page.profile import Reach, censored_note, far, reach_tile
from unvanish.report.page.wording import (
    MISSING,
    count,
    decimal,
    duration,
    enumeration,
    inside,
    moment,
    steps,
)
from unvanish.report.run import answers
from unvanish.report.run.headline import cut_by_window, finding, first_picture, furthest, told_of
from unvanish.report.run.read import Run, Valid
from unvanish.report.run.remedies import remedy_summary

_STATUS = {
    "finished": "Finished",
    "stopped": "Stopped",
    "non-finite": "Not finite",
    "unfinished": "Unfinished",
}


def header(run: Run, gallery: Gallery) -> Html:
    """Build the head of the page: the finding, the first picture, a paragraph, figures, notices."""
    status = element("span", _STATUS[run.status], class_="status", data_status=run.status)
    return opening(
        "run",
        [element("b", run_name(run)), " ", status],
        finding(run),
        _facts(run),
        first_picture(run, gallery),
        sentence(run),
        _figures(run),
        need_table(run),
        _worth(run),
        _difficulty(run),
        censored_note(run.reaches),
        _notice(run),
    )


def run_name(run: Run) -> str:
    """Name the run."""
    return text(run.config.get("name")).strip() or "Unnamed run"


def cell_name(run: Run) -> str:
    """Name the run's cell as its paper does."""
    cell = mapping(run.config.get("cell"))
    settings = mapping(run.config.get("settings"))
    return text(cell.get("title") or cell.get("name") or settings.get("cell")).strip() or "network"


def sentence(run: Run) -> str:
    """Say in words what the run came to."""
    told = [_loss_sentence(run), _reach_sentence(run.reaches), _window_sentence(run), _need_sentence(run)]
    return " ".join(filter(None, told))


def record_summary(run: Run) -> dict[str, Any]:
    """Gather what a program may want to read off the page."""
    valid = run.validation
    best = _best(run)
    last = None
    if valid is not None:
        last = {"step": valid.step, **valid.metrics}
    return {
        "name": run_name(run),
        "status": run.status,
        "asked": run.asked.kind,
        "step": run.last_step,
        "seconds": run.seconds,
        "valid": last,
        "best": {"step": best.step, "loss": best.loss} if best else None,
        "reach": {
            reach.part: {"steps": reach.steps, "censored": reach.censored, "rate": reach.rate, "at": reach.at}
            for reach in run.reaches
        },
        "window": run.window,
        "need": None if run.need is None else {"steps": run.need.lag, "censored": run.need.censored},
        "held_back": {reach.part: told_of(run, reach) for reach in run.reaches},
        "clipped_share": run.clipped_share,
        "remedies": remedy_summary(run),
        "missing": missing(run),
        "worth": [{"name": one.name, "on": one.part, **one.metrics} for one in run.worths],
    }


def missing(run: Run) -> list[str]:
    """Name what the record does not hold."""
    absent = []
    if not any(step.loss is not None for step in run.steps):
        absent.append("training loss")
    if run.validation is None:
        absent.append("validation")
    if not any(reach.steps is not None for reach in run.reaches):
        absent.append("gradient along time")
    return absent


def _best(run: Run) -> Valid | None:
    known = [valid for valid in run.valids if valid.loss is not None]
    return min(known, key=lambda valid: valid.loss or 0.0, default=None)


def _loss_sentence(run: Run) -> str:
    valid, best = run.validation, _best(run)
    if valid is None or best is None:
        last = next((step for step in reversed(run.steps) if step.loss is not None), None)
        if last is None:
            return "No loss has been recorded yet."
        return (
            f"After {count(last.step)} training {steps(last.step)} the training loss is {decimal(last.loss)} "
            f"{run.asked.loss_unit}; it has not been validated yet."
        )
    words = answers.sentence(run.asked, valid.metrics, f"{count(valid.step)} training {steps(valid.step)}")
    if best.step != valid.step and (valid.loss or 0.0) - (best.loss or 0.0) > 0.005:
        nats = " nats" if run.asked.in_nats else ""
        words += f" Its best loss was {decimal(best.loss)}{nats}, at training step {count(best.step)}."
    naive = [one for one in run.worths if one.part == "valid"]
    return f"{words} {answers.baseline_sentence(run.asked, valid.metrics, naive)}".strip()


def _reach_sentence(reaches: list[Reach]) -> str:
    known = [reach for reach in reaches if reach.steps is not None]
    if not known:
        return (
            f"How far its gradient reaches {'could not be measured' if reaches else 'has not been measured yet'}."
        )
    if len(known) > 4:
        ordered = sorted(known, key=lambda reach: reach.steps or 0)
        return f"Its gradient reaches from {far(ordered[0])} to {far(ordered[-1])} time steps back, layer by layer."
    first = f"Its gradient reaches {far(known[0])} time {steps(known[0].steps)} back"
    if len(known) == 1:
        return f"{first}."
    rest = [f"{far(reach)} in {inside(reach.part)}" for reach in known[1:]]
    return f"{enumeration([f'{first} in {inside(known[0].part)}', *rest])}."


def _window_sentence(run: Run) -> str:
    return f"It learns from windows of {count(run.window)} time {steps(run.window)}." if run.window else ""


def _need_sentence(run: Run) -> str:
    """Say whether the gradient comes as far back as the data need, and what holds it back: one part is enough."""
    if run.need is None or run.need.lag is None:
        return ""
    if not run.need.lag:
        return "What the data need is in the time step at hand, as far as their sample tells."
    least = "at least " if run.need.censored else ""
    words = f"The data need {least}{count(run.need.lag)} time {steps(run.need.lag)} of context"
    best = furthest(run)
    if best is None:
        return f"{words}."
    several = len(run.reaches) > 1
    its = f"the gradient of {inside(best.part)}" if several else "the gradient"
    ends = {
        ENOUGH: f"{its} comes as far",
        CUT: f"the window cuts {its} before that: train on longer windows",
        LOST: f"the gradient is lost on the way{' in every layer' if several else ''}: a diagnosis says why",
        UNSEEN: f"{its} was not measured as far, and how much of it is left there is not known",
    }
    told = told_of(run, best)
    short = [reach for reach in run.reaches if told_of(run, reach) not in (told, "")]
    if told == ENOUGH and short:
        return f"{words}: {ends[told]}, and that is enough, though other layers' does not."
    more = ""
    if told == ENOUGH and run.need.censored and cut_by_window(run, best):
        more = f"; should they need more, the windows cut it after {count((run.window or 1) - 1)}"
    return f"{words}: {ends[told]}{more}."


def _worth(run: Run) -> Child:
    """Set the network beside naive answers."""
    valid = run.validation
    own = [] if valid is None else [answers.Worth("the network", "valid", valid.metrics)]
    order = {"valid": 0, "test": 1}
    rows = sorted([*own, *run.worths], key=lambda one: order.get(one.part, 2))
    return answers.worth_table(run.asked, rows)


def _difficulty(run: Run) -> Child:
    """Show what the task was the harder for."""
    valid = run.validation
    return None if valid is None else answers.difficulty_table(valid.metrics)


def need_table(run: Run) -> Child:
    """Hold reach, window and need against each other, part by part."""
    if run.need is None or not run.reaches:
        return None
    need = f"{'≥ ' if run.need.censored else ''}{count(run.need.lag)}"
    head = element(
        "tr",
        *(
            element("th", name, scope="col")
            for name in ("layer", "reach of the full state", "window", "need", "its gradient comes")
        ),
    )
    rows = [
        element(
            "tr",
            *(
                element("td", cell)
                for cell in (inside(reach.part), reach.shown, count(run.window), need, told or MISSING)
            ),
        )
        for reach in run.reaches
        for told in [told_of(run, reach)]
    ]
    table = element("table", element("thead", head), element("tbody", *rows))
    return scrolling(
        "div", "How far the gradient reaches, the window, and what the data need", table, class_="events"
    )


def _figures(run: Run) -> Html:
    valid = run.validation
    tiles = [reach_tile(reach) for reach in run.reaches]
    if not tiles:
        tiles = [tile(MISSING, "reach", "not measured yet", class_="reach")]
    if valid is None:
        tiles.append(tile(MISSING, "validation loss", "not validated yet"))
    else:
        tiles += answers.tiles(run.asked, valid.metrics)
    return element("div", *tiles, class_="figures", role="list", aria_label="Figures of the run")


def _notice(run: Run) -> Child:
    words = []
    if run.status == "non-finite":
        last = run.events[-1]
        place = f" at training step {count(last.step)}" if last.step is not None else ""
        words.append(f"A number stopped being finite{place}, and the run ended there. {last.text}".strip())
    elif run.status == "unfinished":
        words.append("This run has not finished: the report shows what was recorded so far.")
    absent = missing(run)
    if absent:
        words.append(f"Missing from the record: {enumeration(absent)}.")
    return element("p", " ".join(words), class_="notice") if words else None


def _facts(run: Run) -> list[str]:
    settings = mapping(run.config.get("settings"))
    layers, hidden = number(settings.get("layers")), number(settings.get("hidden"))
    parameters = number(run.config.get("parameters"))
    return [
        cell_name(run),
        f"{count(layers)} × {count(hidden)} units" if layers and hidden else "",
        f"{count(parameters)} parameters" if parameters else "",
        f"{duration(run.seconds)} of training" if run.seconds is not None else "",
        text(mapping(run.config.get("versions")).get("device")),
        moment(run.config.get("created")),
    ]
