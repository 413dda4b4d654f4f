"""The section on remedies: what was asked for, how often it acted, what it did to the profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from unvanish.layer_options import LAYER_OPTIONS
from unvanish.record.schema import Step
from unvanish.report.page.blocks import lead, section
from unvanish.report.page.markup import Child, Html, element
from unvanish.report.page.profile import Profile
from unvanish.report.page.wording import (
    MISSING,
    count,
    decimal,
    layer_title,
    part_order,
    percent,
    prose,
    rough,
    signed,
)
from unvanish.report.run import captions
from unvanish.report.run.read import Remedy, Run

_TITLES = {"clip": "Clip", "penalty": "Penalty", "pace": "Update rates"} | {
    name: one.title for name, one in LAYER_OPTIONS.items() if one.title
}
_NOISE = frozenset(name for name, one in LAYER_OPTIONS.items() if one.draws)
_ARROW = "\N{NO-BREAK SPACE}→ "
_IN_TRAINING = frozenset({"clip", "pace", "penalty"})


@dataclass(frozen=True)
class _Acted:
    """How often a clip or a penalty acted, of the steps that it was there for.

    Attributes:
        share: of the steps; None where nothing is known of any.
        factor: what the gradient was multiplied with in those, in the mean.
        adjoints: the share of the adjoints that were clipped, of a clip inside the backward pass.
        value, spread: of a penalty, at the first and the last step that is known.
        updates: how often parameters of each update rate have been updated.
    """

    share: float | None
    factor: float | None = None
    adjoints: float | None = None
    value: tuple[float, float] | None = None
    spread: tuple[float, float] | None = None
    updates: dict[str, float] = field(default_factory=dict)


def remedy_section(run: Run) -> Html | None:
    """Show what every remedy of the run did; nothing where there was none."""
    found = list(_held(run))
    if not found:
        return None
    network = [
        _row(remedy, _network_words(remedy), remedy.without, remedy.profiles)
        for remedy, _ in found
        if remedy.name not in _IN_TRAINING
    ]
    course = [
        _row(remedy, _course_words(_acted(run, remedy, until)), remedy.profiles, _latest(run, remedy, until))
        for remedy, until in found
        if remedy.name in _IN_TRAINING
    ]
    noise = any(remedy.name in _NOISE for remedy, _ in found)
    at_start = captions.REMEDIES_AT_START + (captions.REMEDIES_NOISE if noise else "")
    return section(
        "Remedies",
        lead(captions.REMEDIES),
        _table("In the network", at_start, "without → with", network),
        _table("In training", captions.REMEDIES_IN_TRAINING, "start → end", course),
    )


def remedy_summary(run: Run) -> list[dict[str, Any]]:
    """Gather for programs what each remedy was asked to be, and the share of steps in which it acted."""
    found = []
    for remedy, until in _held(run):
        acted = _acted(run, remedy, until) if remedy.name in _IN_TRAINING else _Acted(None)
        found.append({"name": remedy.name, "asked": remedy.asked, "share": acted.share, "factor": acted.factor})
    return found


def _held(run: Run) -> Iterable[tuple[Remedy, int | None]]:
    """Yield every remedy with the step until which it held; a clip that held for none, or `none`, is left out."""
    clips = [remedy.step for remedy in run.remedies if remedy.name == "clip"]
    for remedy in run.remedies:
        until = None
        if remedy.name == "clip":
            clips = clips[1:]
            until = clips[0] if clips else None
        if remedy.asked != "none" and (until is None or until > remedy.step):
            yield remedy, until


def _within(run: Run, remedy: Remedy, until: int | None) -> list[Step]:
    return [step for step in run.steps if remedy.step < step.step and (until is None or step.step <= until)]


def _latest(run: Run, remedy: Remedy, until: int | None) -> dict[str, Profile]:
    """Take the last profiles that were measured while a remedy held."""
    held = [m for m in run.moments if remedy.step < m.step and (until is None or m.step <= until) and m.profiles]
    return held[-1].profiles if held else {}


def _acted(run: Run, remedy: Remedy, until: int | None) -> _Acted:
    steps = _within(run, remedy, until)
    total = sum(step.steps for step in steps)
    if remedy.name == "penalty":
        own = [step.penalties[remedy.asked] for step in steps if remedy.asked in step.penalties]
        share = sum(one.acted for one in own) / total if total and own else None
        return _Acted(share, value=_ends(one.value for one in own), spread=_ends(one.mean_spread for one in own))
    if remedy.name == "pace":
        return _Acted(1.0 if total else None, updates=steps[-1].paced if steps else {})
    clipped = sum(step.clipped for step in steps)
    weighed = [(step.factor, step.clipped) for step in steps if step.factor is not None and step.clipped]
    weight = sum(times for _, times in weighed)
    seen, caught = (sum(step.adjoints[place] for step in steps) for place in (0, 1))
    return _Acted(
        clipped / total if total else None,
        sum(factor * times for factor, times in weighed) / weight if weight else None,
        caught / seen if seen else None,
    )


def _ends(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (known[0], known[-1]) if known else None


def _network_words(remedy: Remedy) -> list[str]:
    words = ["in every training step" if remedy.name in _NOISE else "in training and in use"]
    if remedy.name == "init":
        words = ["once, at the start"]
    depth = [share for share in remedy.depth if share is not None]
    if len(depth) == 2:
        words.append(f"gradient left at the first layer: {_arrow(map(_left, depth))}")
    return words


def _left(share: float) -> str:
    """Write a share of the gradient; more than all of it as a multiple."""
    return percent(share) if share <= 1 else f"{rough(share)}\N{NO-BREAK SPACE}×"


def _course_words(acted: _Acted) -> list[str]:
    if acted.share is None:
        return ["not recorded"]
    if acted.updates:
        return [
            f"{'every training step' if rate == '1' else f'every {rate} training steps'}: {count(times)} updates"
            for rate, times in acted.updates.items()
        ]
    words = ["never" if acted.share == 0 else f"in {percent(acted.share)} of the training steps"]
    if acted.factor is not None:
        words.append(f"gradient multiplied by {decimal(acted.factor, 2)} in the mean")
    if acted.adjoints:
        words.append(f"{percent(acted.adjoints)} of the adjoints")
    if acted.value is not None:
        words.append(f"value {_arrow(decimal(value) for value in acted.value)}")
    if acted.spread is not None:
        words.append(f"spread of the log ratios {_arrow(decimal(value) for value in acted.spread)}")
    return words


def _row(remedy: Remedy, words: list[str], before: dict[str, Profile], after: dict[str, Profile]) -> Html:
    parts = sorted({*before, *after}, key=part_order)
    title = _TITLES.get(remedy.name, remedy.name or MISSING)
    asked = None if remedy.asked == "yes" else element("span", remedy.asked)
    return element(
        "tr",
        element("th", element("b", title), asked, scope="row"),
        _cell("acted", words),
        _cell("reach", [_of_part(part, parts, before, after, _reach) for part in parts] or [MISSING]),
        _cell("rate", [_of_part(part, parts, before, after, _rate) for part in parts] or [MISSING]),
        data_remedy=remedy.name,
    )


def _cell(name: str, lines: Sequence[str]) -> Html:
    return element("td", *(element("div", prose(line)) for line in lines), data_name=name)


def _of_part(part: str, parts: list[str], before: dict[str, Profile], after: dict[str, Profile], shown: Any) -> str:
    title = f"{layer_title(part)}: " if len(parts) > 1 else ""
    return title + _arrow(shown(profiles[part]) if part in profiles else MISSING for profiles in (before, after))


def _arrow(values: Iterable[str]) -> str:
    return _ARROW.join(values)


def _reach(profile: Profile) -> str:
    return MISSING if profile.reach is None else f"{'≥ ' if profile.censored else ''}{count(profile.reach)}"


def _rate(profile: Profile) -> str:
    return signed(profile.rate)


def _table(title: str, words: str, ways: str, rows: list[Html]) -> Child:
    if not rows:
        return None
    columns = ("remedy", "acted", f"reach in time steps, {ways}", f"rate in nats per time step, {ways}")
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))
    table = element("table", head, element("tbody", *rows), aria_label=title)
    return element(
        "div", element("h3", title), element("p", prose(words), class_="note"), table, class_="remedies done"
    )
