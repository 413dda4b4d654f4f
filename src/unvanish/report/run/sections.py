"""The sections with pictures. A picture that has nothing to show gives way to a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unvanish.report.page.axes import Figure, picked
from unvanish.report.page.blocks import Gallery, absent, lead, section
from unvanish.report.page.markup import Child, Html, element, join
from unvanish.report.page.profile import Reach
from unvanish.report.page.wording import CENSORED, count, decimal, halving, layer_title, percent, state_title, steps
from unvanish.report.run import captions, pictures
from unvanish.report.run.read import Run

VIEWS = 18  # of the gradient along time, a layer and a state each, that a page holds


def loss_section(run: Run, gallery: Gallery) -> Html:
    """Show how the loss fell."""
    picture = pictures.loss_picture(run)
    if picture is None:
        return section("Loss", absent("No loss has been recorded yet."))
    label = "Line chart of the loss over training steps."
    label += _ends("Training", run.steps) + _ends("Validation", run.valids)
    return section("Loss", gallery.hang([picture], label, run.asked.caption, kind="tall"))


def flow_section(run: Run, gallery: Gallery) -> Html:
    """Show how far the gradient reaches through time, layer by layer."""
    title = "The gradient along time"
    views = max((len(pictures.states_of(run.moments, part)) for part in run.parts), default=1)
    drawn = [run.parts[at] for at in picked(len(run.parts), max(2, VIEWS // max(1, views)))]
    layers = [_layer(run, part, at, gallery) for at, part in enumerate(drawn)]
    known = [layer for layer in layers if layer]
    if not known:
        return section(title, absent("The gradient along time has not been measured yet."))
    fewer = f"Pictures are shown of {len(drawn)} of {count(len(run.parts))} layers, evenly apart."
    return section(title, lead(captions.FLOW), absent(fewer) if len(drawn) < len(run.parts) else None, *known)


def loss_norm_section(run: Run, gallery: Gallery) -> Html:
    """Show where along the window the loss pulls at the states."""
    title = "The pull of the loss on each time step"
    found = pictures.loss_norm_pictures(run)
    if not found:
        return section(title, absent("The gradient of the loss at each time step has not been recorded yet."))
    shown = [list(found.items())[at] for at in picked(len(found), VIEWS // 3)]
    drawn = [
        gallery.hang(
            [picture],
            f"Line chart of {layer_title(part)}: norm of the gradient of the loss at each time step.",
            captions.LOSS_NORMS_AGAIN if at else captions.LOSS_NORMS,
            title=layer_title(part),
        )
        for at, (part, picture) in enumerate(shown)
    ]
    return section(title, element("div", *drawn, class_="pair"))


def optimiser_section(run: Run, gallery: Gallery) -> Html:
    """Show the norms over steps and how often clipping acted."""
    title, share = "Size of the gradient and of the parameters", run.clipped_share
    clipping = f"Clipping acted on {percent(share)} of the training steps." if share else "Clipping never acted."
    if share is None:
        clipping = "How often clipping acted was not recorded."
    wanted = (
        ("Gradient norm", pictures.step_picture(run, "gradient_norm"), captions.GRADIENT_NORM),
        ("Parameter norm", pictures.step_picture(run, "parameter_norm"), captions.PARAMETER_NORM),
        ("Steps clipped", pictures.clip_picture(run), captions.CLIPPED),
    )
    drawn = [
        gallery.hang([picture], f"{name} over training steps.", caption, kind="third", title=name)
        for name, picture, caption in wanted
        if picture is not None
    ]
    if not drawn:
        return section(title, absent("No norms have been recorded yet."))
    return section(title, lead(clipping), element("div", *drawn, class_="triple"))


def _layer(run: Run, part: str, at: int, gallery: Gallery) -> Html | None:
    states = pictures.states_of(run.moments, part)
    profiles = [pictures.profile_picture(run, part, state) for state in states]
    if not any(profiles):
        return None
    name = layer_title(part)
    reach = next((one for one in run.reaches if one.part == part), None)
    words = _reach_words(reach)
    return element(
        "section",
        element("h3", name, element("code", part) if name != part else None),
        lead(words),
        _selector(states, at),
        _pair(run, part, states, profiles, gallery, words),
        class_="layer",
        aria_label=f"The gradient along time in {name}",
    )


def _pair(
    run: Run, part: str, states: list[str], profiles: list[Figure | None], gallery: Gallery, words: str
) -> Html:
    heats = [pictures.heat_picture(run, part, state) for state in states]
    name, drawn = layer_title(part), []
    if any(heats):
        label = f"Heat map of {name}: training step against steps back. {words}"
        drawn.append(gallery.hang(heats, label, captions.HEAT))
    label = f"Line chart of {name}: share of the gradient left against steps back. {words}"
    grey = len(run.moments) > 2
    drawn.append(gallery.hang(profiles, label, captions.PROFILE + (captions.PROFILE_GREY if grey else "")))
    return join(element("div", *drawn, class_="pair"), None if any(heats) else absent(captions.HEAT_ABSENT))


def _selector(states: list[str], at: int) -> Child:
    if len(states) < 2:
        return None
    choices = [
        element(
            "label",
            element("input", type="radio", name=f"view-{at}", value=place, checked=place == 0),
            element("span", state_title(state)),
        )
        for place, state in enumerate(states)
    ]
    return element("fieldset", element("legend", "Show"), *choices, class_="views")


def _reach_words(reach: Reach | None) -> str:
    if reach is None or reach.steps is None:
        return "Its reach could not be measured."
    far = f"{reach.shown} time {steps(reach.steps)}"
    words = f"At training step {count(reach.at)} the reach of the full state is {far}, and {halving(reach.rate)}"
    if reach.rate is not None:
        words += f" (a rate of {decimal(reach.rate)} nats per time step)"
    return f"{words}; {CENSORED}." if reach.censored else f"{words}."


def _ends(name: str, lines: Sequence[Any]) -> str:
    known = [line.loss for line in lines if line.loss is not None]
    return f" {name} loss goes from {decimal(known[0])} to {decimal(known[-1])}." if known else ""
