"""The pictures of a run, as plain data: nothing is drawn here, nothing heavy imported."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.report.page.axes import (
    FEWER,
    FEWEST,
    GRADIENT_LEFT,
    PULL,
    STEPS_BACK,
    Figure,
    Series,
    any_known,
    canvas,
    line,
    log_axis,
    one_per_cent,
    picked,
    positive,
    rounded,
    share_axis,
    share_ticks,
    tell_thinned,
    thinned,
)
from unvanish.report.page.curves import along_time, fitted_line, mark_reach
from unvanish.report.page.markup import plot_text
from unvanish.report.page.profile import Profile
from unvanish.report.page.wording import enumeration, percent_tick
from unvanish.report.run.read import Moment, Run

ROWS, COLUMNS, FADING = 36, 80, 5
STATES = 8  # that a reader can choose from
NORMS = {"gradient_norm": "norm of the gradient, ‖∂L/∂θ‖", "parameter_norm": "norm of the parameters, ‖θ‖"}
# A norm of zero must look vanished, not missing; its logarithm stands at the bottom of every colour scale.
LOGARITHM_OF_ZERO = -20.0


def loss_picture(run: Run) -> Figure | None:
    """Draw training and validation loss over steps."""
    x, y = thinned([step.step for step in run.steps], [step.loss for step in run.steps])
    seen, unseen = thinned([valid.step for valid in run.valids], [valid.loss for valid in run.valids])
    if not any_known(y) and not any_known(unseen):
        return None
    data = []
    if any_known(y):
        data.append(line(x, y, "training", "--series-1", width=1.5))
    if any_known(unseen):
        data.append(line(seen, unseen, "validation", "--series-2", width=2.5, mode="lines+markers"))
    layout = canvas("training step", run.asked.loss_axis, legend=len(data) > 1)
    tell_thinned(layout, max(len(run.steps), len(seen)))
    return {"data": data, "layout": layout}


def step_picture(run: Run, quantity: str) -> Figure | None:
    """Draw one norm over steps on a log axis."""
    values = positive(getattr(step, quantity) for step in run.steps)
    if not any_known(values):
        return None
    x, y = thinned([step.step for step in run.steps], values, FEWER)
    layout = canvas("training step", NORMS[quantity], legend=False)
    tell_thinned(layout, len(values), FEWER)
    known = [value for value in y if value is not None]
    if quantity == "gradient_norm" or max(known) > 10 * min(known):
        layout["yaxis"].update(log_axis(y))
    return {"data": [line(x, y, "norm", "--series-1", width=1.5)], "layout": layout}


def clip_picture(run: Run, bars: int = 40) -> Figure | None:
    """Draw the share of steps that were clipped; None where clipping never acted."""
    if not run.clipped_share:
        return None
    width = math.ceil(len(run.steps) / bars)
    x: list[float] = []
    y: Series = []
    for begin in range(0, len(run.steps), width):
        bucket = run.steps[begin : begin + width]
        total = sum(step.steps for step in bucket)
        x.append(bucket[-1].step)
        y.append(sum(step.clipped for step in bucket) / total if total else None)
    layout = canvas("training step", "training steps clipped, in %", legend=False)
    layout["yaxis"].update(range=[0, 1.04], tickformat=".0%", nticks=5)
    bar = {"type": "bar", "x": x, "y": rounded(y), "name": "clipped", "marker": {"color": "--series-1"}}
    return {"data": [bar | {"width": 0.85 * (x[-1] - x[0]) / max(1, len(x) - 1) or 0.85}], "layout": layout}


def states_of(moments: Sequence[Moment], part: str) -> list[str]:
    """Name the states with a profile: the full state first, then as the record has them."""
    named = dict.fromkeys(
        state
        for moment in moments
        if part in moment.profiles
        for state, norms in moment.profiles[part].norms.items()
        if any_known(norms)
    )
    return sorted(named, key=lambda state: state != "all")[:STATES]


def heat_picture(run: Run, part: str, state: str) -> Figure | None:
    """Draw training step × steps back as colours, the reach over them as a line."""
    measured = [(moment.step, moment.profiles[part]) for moment in run.moments if part in moment.profiles]
    of = len(measured)
    measured = [measured[at] for at in picked(of, ROWS)]
    if len(measured) < 2:
        return None
    lags = max((profile.lags for _, profile in measured), key=len)
    columns = picked(len(lags), COLUMNS)
    rows = [_logarithms(profile, state) for _, profile in measured]
    z = [[row.get(lags[column]) for column in columns] for row in rows]
    if not any(any_known(row) for row in z):
        return None
    steps = [step for step, _ in measured]
    heat = {
        "type": "heatmap",
        "x": [lags[column] for column in columns],
        "y": steps,
        "z": [[None if value is None else round(value, 2) for value in row] for row in z],
        **_colour_scale(z),
    }
    layout = canvas(STEPS_BACK, "training step", legend=False)
    layout["xaxis"].update(range=[lags[columns[0]] - 0.5, lags[columns[-1]] + 0.5], showgrid=False)
    layout["yaxis"].update(showgrid=False)
    if (len(z), len(columns)) != (of, len(lags)):
        kept = ((len(z), of, "moments"), (len(columns), len(lags), "steps back"))
        shown = [f"{some} of {every:,} {what}" for some, every, what in kept if some < every]
        layout["thinned"] = f"Shown are {enumeration(shown)}, evenly apart."
    layout["colorbar"] = _colour_bar(heat["zmin"], heat["zmax"])
    return {"data": [heat, *(_reach_line(measured) if state == "all" else [])], "layout": layout}


def profile_picture(run: Run, part: str, state: str) -> Figure | None:
    """Draw norm against lag: last moment, first moment, some between, the fitted rate, 1 %, the reach."""
    profiles = _drawn_profiles(run, part, state)
    if not profiles:
        return None
    curves = [(step, profile.lags, positive(profile.relative(state))) for step, profile in profiles]
    last_step, lags, last = curves[-1]
    data = _fading(curves[1:-1])
    if len(curves) > 1:
        data.append(
            line(*thinned(*curves[0][1:], FEWER), f"training step {curves[0][0]:,}", "--series-2", dash="dot")
        )
    data.append(line(*thinned(lags, last, FEWER), f"training step {last_step:,}", "--series-1", width=3))
    layout = canvas(STEPS_BACK, GRADIENT_LEFT, legend=True)
    layout["yaxis"].update(share_axis(value for _, _, curve in curves for value in curve))
    layout["xaxis"].update(range=[min(lags), max(lags)])
    tell_thinned(layout, len(lags), FEWER)
    layout["shapes"], layout["annotations"] = [one_per_cent()], []
    if state == "all":
        data += fitted_line(profiles[-1][1], last)
        mark_reach(layout, profiles[-1][1])
    return {"data": data, "layout": layout}


def _drawn_profiles(run: Run, part: str, state: str) -> list[tuple[int, Profile]]:
    """Choose the first profile of a part, the last, and some between, of those that have anything to show."""
    found = [(m.step, m.profiles[part]) for m in run.moments if part in m.profiles]
    known = [(step, profile) for step, profile in found if any(profile.norms.get(state, []))]
    between = [known[1:-1][at] for at in picked(len(known[1:-1]), FADING)]
    chosen = [*known[:1], *between, *known[1:][-1:]]
    return [(step, profile) for step, profile in chosen if any_known(positive(profile.relative(state)))]


def loss_norm_pictures(run: Run) -> dict[str, Figure]:
    """Draw the norm of the loss's gradient at each time step, one picture a part, on one scale."""
    moments = [moment for moment in run.moments if moment.loss_norms]
    if not moments:
        return {}
    first, last = moments[0].loss_norms, moments[-1].loss_norms
    shown = [norms for one in (first, last) for states in one.values() for norms in states.values()]
    axis = log_axis(value for norms in shown for value in norms)
    pictures = {}
    for part in run.parts:
        data = []
        for at, (state, norms) in enumerate(last.get(part, {}).items()):
            before = first.get(part, {}).get(state, []) if len(moments) > 1 else []
            data += along_time(plot_text(state), at, norms, before)
        if data:
            layout = canvas("time step t", PULL, legend=True)
            layout["yaxis"].update(axis)
            tell_thinned(layout, max(map(len, last[part].values())), FEWER)
            pictures[part] = {"data": data, "layout": layout}
    return pictures


def _logarithms(profile: Profile, state: str) -> dict[float, float | None]:
    shares = zip(profile.lags, profile.relative(state), strict=False)
    return {lag: None if share is None else _logarithm(share) for lag, share in shares}


def _logarithm(share: float) -> float:
    return max(math.log10(share), LOGARITHM_OF_ZERO) if share > 0 else LOGARITHM_OF_ZERO


def _colour_scale(z: list[Series]) -> Figure:
    known = [value for row in z for value in row if value is not None]
    low = min(max(math.floor(min(known)), -6), -3)
    high = max(min(math.ceil(max(known) - 0.05), 6), 0)
    return {
        "zmin": low,
        "zmax": high,
    }


def _colour_bar(low: int, high: int) -> Figure:
    ticks = share_ticks(low, high)
    return {"range": [low, high], "tickvals": ticks, "ticktext": [percent_tick(tick) for tick in ticks]}


def _reach_line(measured: list[tuple[int, Profile]]) -> list[Figure]:
    x = [None if profile.reach is None else float(profile.reach) for _, profile in measured]
    if not any_known(x):
        return []
    y = [step for step, _ in measured]
    # white on yellow and white on violet must both show: a dark line under a light one
    under = {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": "reach"}
    return [
        {**under, "line": {"color": "#1b1b1f", "width": 5}},
        {**under, "line": {"color": "#ffffff", "width": 2.5}},
    ]


def _fading(curves: list[tuple[int, list[float], Series]]) -> list[Figure]:
    return [
        line(
            *thinned(lags, curve, FEWEST),
            "between",
            "--faint",
            width=1.5,
            opacity=0.35 + 0.6 * at / max(1, len(curves) - 1),
            showlegend=False,
        )
        for at, (_, lags, curve) in enumerate(curves)
    ]
