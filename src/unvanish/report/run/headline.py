"""What a run comes to: its finding in one line, and need, window and reach in one picture."""

from __future__ import annotations

from unvanish.record.reaching import CUT, LOST, UNSEEN, held_back
from unvanish.report.page.axes import Figure, picked
from unvanish.report.page.bars import Bar, Bars, figure_bars, hang_bars, steps_bars
from unvanish.report.page.blocks import Gallery
from unvanish.report.page.markup import Html, plot_text
from unvanish.report.page.profile import Reach, far
from unvanish.report.page.wording import count, decimal, inside, percent, steps
from unvanish.report.run import answers, captions
from unvanish.report.run.answers import Worth
from unvanish.report.run.read import Run

LAYERS = 8  # that the first picture shows
ANSWERS = 4  # naive ones beside the network
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
    more = "higher" if answers.LEADING[run.asked.kind] == "accuracy" else "lower"
    beside = "the network beside naive answers"
    return hang_bars(
        gallery,
        [
            Bars("How far back", "time steps back", captions.STEPS, _steps(run)),
            Bars("How well it answers", beside, captions.ANSWERS.format(more=more), _answer(run)),
        ],
    )


def _steps(run: Run) -> Figure | None:
    """Draw need, window and the reach of each layer as bars on a log axis of steps."""
    need = run.need.lag if run.need is not None else None
    bars = []
    if run.need is not None and need:
        bars.append(_far("needed by the data", need, "--warn", least=run.need.censored))
    if run.window:
        bars.append(_far("window of training", run.window, "--faint"))
    known = [reach for reach in run.reaches if reach.steps]
    for one in (known[at] for at in picked(len(known), LAYERS)):
        name = "reach" if len(known) == 1 else f"reach of {plot_text(inside(one.part), 20)}"
        bars.append(_far(name, one.steps or 1, "--series-1", least=one.censored))
    return steps_bars(bars, need or None) if known and len(bars) > 1 else None


def _far(name: str, value: int, color: str, *, least: bool = False) -> Bar:
    return Bar(name, value, f"{'≥ ' if least else ''}{value:,}", color)


def _answer(run: Run) -> Figure | None:
    """Draw the figure by which the network is judged beside those of naive answers."""
    lead, valid = answers.LEADING[run.asked.kind], run.validation
    own = None if valid is None else valid.metrics.get(lead)
    naive = [(called(one.name), one.metrics[lead] or 0.0) for one in _naive(run)[:ANSWERS]]
    if own is None or not naive:
        return None
    bars = [Bar("the network", own, _figure(run, own), "--series-1")]
    bars += [Bar(name, value, _figure(run, value), "--faint") for name, value in naive]
    return figure_bars(bars, answers.axis_of(run.asked), share=lead == "accuracy")
