"""What a comparison shows first: how far the gradient of each run comes, and how well each answers."""

from __future__ import annotations

from unvanish.report.comparison import captions
from unvanish.report.comparison.read import Comparison, Group, loss_of
from unvanish.report.comparison.rows import reach_of
from unvanish.report.page.axes import Figure
from unvanish.report.page.bars import Bar, Bars, figure_bars, hang_bars, steps_bars
from unvanish.report.page.blocks import Gallery
from unvanish.report.page.curves import STATE_COLOURS
from unvanish.report.page.markup import Html, plot_text
from unvanish.report.page.wording import count, decimal

DRAWN = 10  # runs, or groups of them


def first_picture(found: Comparison, gallery: Gallery) -> Html | None:
    """Show the reach of each run beside what the data need, and the loss of each where losses are of one kind."""
    return hang_bars(
        gallery,
        [
            Bars("How far back", "time steps back", captions.STEPS, _steps(found)),
            Bars("How well they answer", "the validation loss of every run", captions.LOSSES, _losses(found)),
        ],
    )


def _steps(found: Comparison) -> Figure | None:
    bars, need = [], None
    needs = {(one.lag or 0, one.censored) for one in (entry.run.need for entry in found.entries) if one is not None}
    if len(needs) == 1 and found.same_data:
        ((need, least),) = needs
        if need:
            bars.append(Bar("needed by the data", need, f"{'≥ ' if least else ''}{need:,}", "--warn"))
    for at, group in enumerate(found.groups[:DRAWN]):
        far = group.mean(reach_of)
        if far:
            least = any(one.reach is not None and one.reach.censored for one in group.entries)
            bars.append(Bar(_name(group), far, f"{'≥ ' if least else ''}{count(far)}", _colour(at)))
    return steps_bars(bars, need or None) if len(bars) > 1 else None


def _losses(found: Comparison) -> Figure | None:
    if not found.same_loss:
        return None
    known = [(at, group, group.mean(loss_of)) for at, group in enumerate(found.groups[:DRAWN])]
    bars = [Bar(_name(group), loss, decimal(loss), _colour(at)) for at, group, loss in known if loss is not None]
    return figure_bars(bars, found.asked.loss_axis, share=False) if len(bars) > 1 else None


def _name(group: Group) -> str:
    return plot_text(group.name, 30)


def _colour(at: int) -> str:
    return STATE_COLOURS[at % len(STATE_COLOURS)]
