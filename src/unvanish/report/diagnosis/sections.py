"""The sections of a diagnosis. What was not measured gives way to a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from unvanish.report.diagnosis import captions, pictures
from unvanish.report.diagnosis.read import Activation, Cause, Dependency, Findings, Memory, Part
from unvanish.report.page.axes import Figure
from unvanish.report.page.blocks import Gallery, absent, lead, scrolling, section
from unvanish.report.page.markup import Child, Html, element, join
from unvanish.report.page.wording import (
    CENSORED,
    MISSING,
    as_sentence,
    capital,
    count,
    decimal,
    halving,
    inside,
    layer_title,
    percent,
    prose,
    rough,
    signed,
    steps,
)

PARTS_IN_FULL = 8
SPLIT_LESS = "How much of its rate comes from the matrices and how much from the activations was not measured."
LARGE = "No spectrum was measured: the layer's state is too large to take one step apart, or is not finite."


def overview_section(found: Findings, gallery: Gallery) -> Html:
    """Show what the data need against how far the gradient reaches."""
    title = "What is needed, and how far the gradient reaches"
    picture = pictures.overview_picture(found)
    if picture is None:
        return section(title, absent("The gradient along time could not be measured."))
    drawn, reaches = pictures.drawn_parts(found.parts), [part.reach for part in found.parts]
    dependent = found.dependency is not None and found.dependency.strongest is not None
    caption = captions.OVERVIEW if dependent else captions.OVERVIEW_WITHOUT_DATA
    if not drawn:
        caption = captions.OVERVIEW_WITHOUT_PROFILES
    else:
        caption += captions.MEASURED.get(found.measured, "")
    if any(map(pictures.grows, drawn)):
        caption += captions.GROWS
    words = [f"{layer_title(reach.part)} reaches {reach.shown} {steps(reach.steps)} back." for reach in reaches]
    needed = f" Needed: {count(found.need)} {steps(found.need)}." if found.need else ""
    label = f"Line chart of the gradient left against steps back.{needed} {' '.join(words[:20])}"
    kind = "overview" if dependent and drawn else "tall"
    hung = gallery.hang([picture], label, caption, kind=kind)
    notes = [absent(note) for note in _overview_notes(found, len(drawn))]
    return section(title, hung, *notes)


def cause_section(found: Findings) -> Html:
    """Show why, what weighs most first."""
    title = "Why"
    if not found.causes:
        healthy = found.verdict == "healthy"
        words = "Nothing was found that stands in the way." if healthy else "No cause was found."
        return section(title, absent(words))
    return section(title, element("ol", *map(_cause, found.causes), class_="causes"))


def part_section(found: Findings, gallery: Gallery) -> Html:
    """Show everything that was measured of each layer."""
    title = "Layer by layer"
    if not found.parts:
        return section(title, absent("No layer was measured."))
    shown = [_part(part, found.need, gallery) for part in found.parts[:PARTS_IN_FULL]]
    table = _part_table(found.parts) if len(found.parts) > 1 else None
    more = None
    if len(found.parts) > PARTS_IN_FULL:
        more = absent(f"Pictures are shown for the first {PARTS_IN_FULL} of {count(len(found.parts))} parts.")
    return section(title, table, more, *shown)


def need_section(found: Findings, gallery: Gallery) -> Html:
    """Show how much of the data is predicted with how many steps of context, where that was measured."""
    title = "What the data need"
    picture = None if found.dependency is None else pictures.gain_picture(found.dependency)
    if picture is None:
        return section(title, absent("How much is predicted with how many steps of context was not measured."))
    label = f"Line chart of what is predicted against steps of context. {captions.GAIN}"
    return section(title, gallery.hang([picture], label, captions.GAIN, kind="tall"))


def unknown_section(found: Findings) -> Html:
    """Say what was not looked at."""
    title = "What is not known"
    if not found.unknown:
        return section(title, absent("The diagnosis names nothing that it could not measure."))
    return section(title, element("ul", *(element("li", line) for line in found.unknown), class_="unknown"))


def _overview_notes(found: Findings, drawn: int) -> Iterator[str]:
    if found.dependency is None:
        yield "No data were given by themselves, so how far back they depend on themselves is not known."
    elif found.dependency.strongest is None:
        yield "In the data no dependence on earlier steps was found."
    else:
        yield _data_words(found.dependency)
    if not drawn:
        yield "No gradient along time could be measured."
    elif drawn < len(found.parts):
        yield f"Drawn are {drawn} of {count(len(found.parts))} parts, from the shortest reach to the longest."


def _data_words(data: Dependency) -> str:
    """Say both lags, and what was not seen."""
    words = []
    if data.needed is not None:
        least = "at least " if data.censored else ""
        words.append(f"The context that predicts the data as well as any is {least}{_back(data.needed)} long.")
    if data.visible is not None:
        least = "at least " if data.visible_censored else ""
        words.append(f"Pair by pair, dependence is visible {least}{_back(data.visible)} back.")
    if data.censored:
        words.append("So what they need may lie further back, and the verdict is relative to what was found.")
    if data.note:
        words.append(capital(as_sentence(data.note)))
    return " ".join(words)


def _back(lag: int) -> str:
    return f"{count(lag)} {steps(lag)}"


def _cause(cause: Cause) -> Html:
    value, unit = _measure(cause)
    where = f"{cause.kind} · {cause.where}" if cause.where and cause.kind else cause.kind or cause.where
    return element(
        "li",
        element(
            "div", element("span", value, class_="value"), element("span", unit, class_="unit"), class_="measure"
        ),
        element(
            "div",
            element("p", where, class_="kind") if where else None,
            element("p", prose(as_sentence(cause.text, cause.where)), class_="said"),
            element("p", prose(f"→ {as_sentence(cause.advice)}"), class_="advice") if cause.advice else None,
        ),
        class_="cause",
        data_kind=cause.kind,
        data_number="" if cause.number is None else str(cause.number),
    )


def _measure(cause: Cause) -> tuple[str, str]:
    if cause.unit.startswith("of the"):
        return prose(percent(cause.number).replace("less than", "<")), cause.unit
    if cause.number is not None and cause.number.is_integer():
        return count(cause.number) if abs(cause.number) < 1e12 else decimal(cause.number), cause.unit
    return decimal(cause.number), cause.unit


def _part(part: Part, need: int | None, gallery: Gallery) -> Html:
    name = layer_title(part.name)
    kind = f", {part.kind}" if part.kind else ""
    drawn = list(_pictures(part, need, gallery))
    pictured = [html for html, missing in drawn if not missing]
    return element(
        "section",
        element("h3", f"{name}{kind}", element("code", part.name) if name != part.name else None),
        lead(_part_words(part)),
        element("div", *pictured, class_="pair") if pictured else None,
        *(html for html, missing in drawn if missing),
        class_="layer",
        aria_label=f"What was measured of {name}",
    )


def _part_words(part: Part) -> str:
    reach = part.reach
    said = ": ".join(filter(None, [part.verdict, part.because]))
    words = [capital(as_sentence(said, part.verdict))] if said else []
    if reach.steps is None:
        words.append("Its reach could not be measured.")
    else:
        further = f"; {CENSORED}" if reach.censored else ""
        words.append(f"The reach is {reach.shown} {steps(reach.steps)}, and {halving(reach.rate)}{further}.")
    if part.window is not None and part.profile.reach is not None and part.window < part.profile.reach:
        words.append(f"The gradient is cut after {count(part.window)} {steps(part.window)}.")
    return " ".join(words)


def _pictures(part: Part, need: int | None, gallery: Gallery) -> Iterator[tuple[Html, bool]]:
    """Hang the pictures of a part; with each whether it gave way to a sentence."""
    name = inside(part.name)
    cut = _split_words(part)
    wanted: list[tuple[str, Figure | None, str, str, Child]] = [
        (
            "Gradient left",
            pictures.profile_picture(part, need),
            captions.PART_PROFILE + captions.MEASURED.get(part.measured, ""),
            "Its gradient along time could not be measured.",
            None,
        ),
        ("Spectrum of one step", pictures.spectrum_picture(part), captions.SPECTRUM, LARGE, None),
        (
            "Lyapunov exponents",
            pictures.exponent_picture(part),
            captions.EXPONENTS,
            "Its Lyapunov exponents were not measured.",
            None,
        ),
        (
            "What the rate is made of",
            pictures.split_picture(part.split),
            f"{captions.SPLIT}{cut}",
            SPLIT_LESS,
            None,
        ),
        (
            "Saturation",
            pictures.saturation_picture(part),
            captions.SATURATION,
            "None of its activations was recognised, so how flat they are is not known.",
            _activation_table(part.activations),
        ),
        (
            "Memory",
            pictures.memory_picture(part, need),
            captions.MEMORIES,
            _memory_less(part),
            _memory_table(part.memories),
        ),
        (
            "Pull of the loss on each time step",
            pictures.pull_picture(part),
            captions.PULL,
            "No gradient of the loss arrived here.",
            None,
        ),
    ]
    for title, picture, caption, missing, table in wanted:
        if picture is None:
            yield join(absent(missing), table), True
        else:
            few = title in {"Saturation", "Memory"} and len(picture["data"][0]["y"]) <= 2
            label = f"{title} of {name}. {caption}"
            hung = gallery.hang([picture], label, caption, kind="low" if few else "", title=title)
            yield element("div", hung, table), False


def _split_words(part: Part) -> str:
    """Say the split of a rate in numbers."""
    split = part.split
    if split.rate is None or abs(split.rate) > 100:
        return ""
    left = math.exp(split.rate)
    kept = f"{percent(left)} of the gradient is left" if left <= 1 else f"the gradient grows {rough(left)}-fold"
    return f" Here {signed(split.rate)} in all: in each step {kept}."


def _memory_less(part: Part) -> str:
    if not part.memories:
        return "None of its states keeps itself by a direct path: it remembers through its matrices alone."
    if not any(one.keep is not None and one.time_constant is None for one in part.memories):
        return "How much of themselves its states keep was not measured."
    return "Its states keep all that they have: their time constants have no end."


def _activation_table(activations: list[Activation]) -> Html | None:
    if not activations:
        return None
    columns: tuple[str, ...] = ("activation", "function", "saturated", "mean slope", "mean value")
    rows: list[tuple[str, ...]] = [
        (one.name, one.function, percent(one.saturated), percent(one.slope), decimal(one.mean))
        for one in activations
    ]
    if any(one.function == "relu" or one.dead for one in activations):
        columns = (*columns, "dead units")
        rows = [(*row, percent(one.dead)) for row, one in zip(rows, activations, strict=True)]
    return _table("Activations", columns, rows)


def _memory_table(memories: list[Memory]) -> Html | None:
    if not memories:
        return None
    columns = ("state", "gate", "kept in a step", "time constant", "longest unit")
    rows = [
        (
            one.state,
            one.gate or "constant",
            percent(one.keep),
            _constant(one, one.time_constant),
            _constant(one, one.longest),
        )
        for one in memories
    ]
    return _table("Memories", columns, rows)


def _constant(memory: Memory, value: float | None) -> str:
    """Write a time constant; where a share is known and its constant is none, all is kept and it has no end."""
    if value is None:
        return MISSING if memory.keep is None else "no end"
    return f"{decimal(value)} {steps(value)}"


def _part_table(parts: list[Part]) -> Html:
    columns = ("part", "kind", "verdict", "reach", "nats per step", "left at the needed lag")
    rows = []
    for part in parts:
        reach = part.reach
        survives = part.survives
        left = percent(survives) if survives is None or survives <= 1 else f"{rough(survives)} times what it was"
        rows.append((part.name, part.kind, part.verdict, reach.shown, signed(reach.rate), left))
    return _table("Parts", columns, rows)


def _table(label: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Html:
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", prose(cell)) for cell in row[1:]))
        for row in rows
    ]
    return scrolling("div", label, element("table", head, element("tbody", *body)), class_="numbers")
