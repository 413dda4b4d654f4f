"""What a run comes to: its finding in one line, and need, window and reach in one picture."""

from __future__ import annotations

import math

from unvanish.record.reaching import CUT, LOST, UNSEEN, held_back
from unvanish.report.page.axes import Figure, lag_axis, picked
from unvanish.report.page.blocks import ROW, Gallery
from unvanish.report.page.markup import Html, element, plot_text
from unvanish.report.page.profile import Reach, far
from unvanish.report.page.wording import count, decimal, inside, layer_title, percent, steps
from unvanish.report.run import answers, captions
from unvanish.report.run.answers import Worth
from unvanish.report.run.read import Run

LAYERS = 8  # that the first picture shows
ANSWERS = 4  # naive ones beside the network
ROOM = 0.55  # decades right of the furthest bar, for its number
_BEGINNINGS = {"unfinished": "Unfinished", "stopped": "Stopped"}


def furthest(run: Run) -> Reach | None:
    """Return the reach of the part whose gradient comes furthest: one part is enough to learn from."""
    known = [reach for reach in run.reaches if reach.steps is not None]
    return max(known, key=lambda reach: (reach.steps or 0, reach.censored), default=None)


def told_of(run: Run, reach: Reach) -> str:
    """Say of one part whether its gradient comes as far back as the data need, and if not, why."""
    need = None if run.need is None else run.need.lag
    return held_back(reach.steps, run.window, need, censored=reach.censored)


def cut_by_window(run: Run, reach: Reach) -> bool:
    """Tell whether the windows of training are shorter than a gradient would come by itself."""
    return run.window is not None and reach.steps is not None and run.window - 1 < reach.steps


def finding(run: Run) -> str:
    """Say in one line what the run came to, with whatever of it is known."""
    pieces = [_reached(run), _answered(run)]
    said = "; ".join(piece for piece in pieces if piece)
    begun = _begun(run)
    if not said:
        return begun or "Nothing has been measured yet"
    return f"{begun}: {said}" if begun else said[:1].upper() + said[1:]


def _begun(run: Run) -> str:
    """How a run that did not come to its end begins its line."""
    if run.status == "finished":
        return ""
    if run.last_step is None and run.status == "unfinished":
        return "Nothing has been recorded yet"
    after = "" if run.last_step is None else f" {count(run.last_step)} training {steps(run.last_step)}"
    if run.status == "non-finite":
        return (
            f"Failed after{after}, where a number stopped being finite"
            if after
            else "Failed: a number is not finite"
        )
    return f"{_BEGINNINGS[run.status]} after{after}" if after else _BEGINNINGS[run.status]


def _reached(run: Run) -> str:
    best = furthest(run)
    if best is None:
        return "how far the gradient reaches was not measured" if run.valids else ""
    who = "the gradient" if len(run.reaches) == 1 else plot_text(inside(best.part), 40)
    if len({(reach.steps, reach.censored) for reach in run.reaches}) == 1 < len(run.reaches):
        who = "every layer"
    words = f"{who} reaches {far(best)} {steps(best.steps)}"
    told, need = told_of(run, best), run.need
    least = "" if need is None else f"{'at least ' if need.censored else ''}{count(need.lag)}"
    if told == CUT:
        return f"{words}; windows of {count(run.window)} cut it short of the {least} that the data need"
    if told == LOST:
        return f"{words} of the {least} that the data need"
    if told == UNSEEN:
        return f"{words}; the data need {least}, and it was measured no further"
    cut = f"; windows of {count(run.window)} cut it" if cut_by_window(run, best) else ""
    if need is None:
        return f"{words}{cut}"
    if not need.lag:
        return f"{words}; the data show no need of context"
    return f"{words}, the data need {least}{cut if need.censored else ''}"


def _answered(run: Run) -> str:
    """The network's answer beside the best naive one."""
    valid = run.validation
    lead = answers.LEADING[run.asked.kind]
    own = None if valid is None else valid.metrics.get(lead)
    if own is None:
        return ""
    words = _measure(run, own)
    beside = _naive(run)
    if not beside:
        return words
    value = beside[0].metrics[lead]
    worse = ", which is better" if better(run, value, own) else ""
    return f"{words} against {_figure(run, value)} for {called(beside[0].name)}{worse}"


def _measure(run: Run, value: float) -> str:
    shown = _figure(run, value)
    return {
        "text": f"{shown} nats per {run.asked.unit}",
        "class": f"{shown} of the {run.asked.unit}s right",
        "agreement": f"{shown} of the verbs right",
        "number": f"{shown} off (root mean square)",
        "forecast": f"forecasts {shown} off in the mean",
    }[run.asked.kind]


def _figure(run: Run, value: float | None) -> str:
    return percent(value) if answers.LEADING[run.asked.kind] == "accuracy" else decimal(value)


def called(name: str) -> str:
    """Name a naive answer shortly."""
    return plot_text(answers.CALLED.get(name, name.removeprefix("always ")), 48)


def better(run: Run, one: float | None, other: float | None) -> bool:
    """Tell whether the first of two figures is the better one."""
    if one is None or other is None:
        return False
    return one > other if answers.LEADING[run.asked.kind] == "accuracy" else one < other


def _naive(run: Run) -> list[Worth]:
    """The naive answers on the validation part, the best first."""
    lead = answers.LEADING[run.asked.kind]
    known = [
        (one.metrics.get(lead), one) for one in run.worths if one.part == "valid" and one.name != "the network"
    ]
    order = -1 if lead == "accuracy" else 1
    return [
        one for _, one in sorted(((order * (v or 0), w) for v, w in known if v is not None), key=lambda p: p[0])
    ]


# -- the picture -------------------------------------------------------------------------------------------------


def first_picture(run: Run, gallery: Gallery) -> Html | None:
    """Show need, window and reach on one axis of steps, and the answer beside naive ones."""
    wanted = (
        ("How far back", "time steps back", captions.STEPS, steps_picture(run)),
        ("How well it answers", "the network beside naive answers", _answer_caption(run), answer_picture(run)),
    )
    known = [(title, what, caption, bars) for title, what, caption, bars in wanted if bars is not None]
    if not known:
        return None
    height = 62 + ROW * max(len(bars["data"]) for *_, bars in known)
    drawn = [
        gallery.hang([bars], f"Bars of {what}: {_listed(bars)}.", caption, title=title, kind="low", height=height)
        for title, what, caption, bars in known
    ]
    return element("div", *drawn, class_="pair first")


def _listed(bars: Figure) -> str:
    return ", ".join(f"{trace['name']} {trace['text'][0]}" for trace in bars["data"])


def steps_picture(run: Run) -> Figure | None:
    """Draw need, window and the reach of each layer as bars on a log axis of steps."""
    rows: list[tuple[str, float, bool, str]] = []
    if run.need is not None and run.need.lag:
        rows.append(("needed by the data", run.need.lag, run.need.censored, "--warn"))
    if run.window:
        rows.append(("window of training", run.window, False, "--faint"))
    known = [reach for reach in run.reaches if reach.steps]
    for at in picked(len(known), LAYERS):
        name = "reach" if len(known) == 1 else f"reach of {plot_text(layer_title(known[at].part), 20)}"
        name = name.replace("of Layer", "of layer")
        rows.append((name, known[at].steps or 1, known[at].censored, "--series-1"))
    if not known or len(rows) < 2:
        return None
    axis = lag_axis(max(value for _, value, _, _ in rows), "time steps back")
    axis["range"][1] += ROOM * min(1.0, axis["range"][1] / 2)
    shapes = []
    if rows[0][3] == "--warn":
        line = {"color": "--warn", "width": 1, "dash": "dot"}
        shapes.append(
            {"type": "line", "yref": "paper", "x0": rows[0][1], "x1": rows[0][1], "y0": 0, "y1": 1, "line": line}
        )
    told = [(name, value, f"{'≥ ' if least else ''}{value:,.0f}", color) for name, value, least, color in rows]
    return {"data": _bars(told), "layout": _bar_layout(axis | {"showgrid": True}) | {"shapes": shapes}}


def answer_picture(run: Run) -> Figure | None:
    """Draw the figure by which the network is judged beside those of naive answers."""
    lead, valid = answers.LEADING[run.asked.kind], run.validation
    own = None if valid is None else valid.metrics.get(lead)
    naive = [(called(one.name), one.metrics[lead]) for one in _naive(run)[:ANSWERS]]
    if own is None or not naive:
        return None
    rows = [("the network", own, "--series-1"), *((name, value or 0.0, "--faint") for name, value in naive)]
    high = max(value for _, value, _ in rows)
    if not 0 < high < math.inf or min(value for _, value, _ in rows) < 0:
        return None
    axis: Figure = {"title": {"text": answers.axis_of(run.asked)}, "range": [0, 1.28 * high], "showgrid": True}
    if lead == "accuracy":
        axis |= {
            "range": [0, 1.2],
            "tickformat": ".0%",
            "tickvals": [0, 0.5, 1],
            "ticktext": ["0 %", "50 %", "100 %"],
        }
    return {
        "data": _bars([(name, value, _figure(run, value), color) for name, value, color in rows]),
        "layout": _bar_layout(axis),
    }


def _answer_caption(run: Run) -> str:
    more = "higher" if answers.LEADING[run.asked.kind] == "accuracy" else "lower"
    return captions.ANSWERS.format(more=more)


def _bars(rows: list[tuple[str, float, str, str]]) -> list[Figure]:
    return [
        {"type": "bar", "orientation": "h", "x": [value], "y": [name], "name": name, "text": [told], "width": 0.62}
        | {"marker": {"color": color}}
        for name, value, told, color in rows
    ]


def _bar_layout(axis: Figure) -> Figure:
    return {"showlegend": False, "xaxis": axis, "yaxis": {"title": {"text": ""}, "type": "category"}}
