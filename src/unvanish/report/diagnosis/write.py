"""The page of a diagnosis: the verdict in words, the picture, why, what helps, and all that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unvanish.errors import OptionError
from unvanish.record import write_atomically
from unvanish.report.diagnosis import sections
from unvanish.report.diagnosis.helps import remedy_section
from unvanish.report.diagnosis.read import Findings, Part
from unvanish.report.page.blocks import Gallery, opening, tile
from unvanish.report.page.document import document
from unvanish.report.page.markup import Html, element
from unvanish.report.page.profile import censored_note, far, reach_tile
from unvanish.report.page.wording import MISSING, count, decimal, inside, rough, steps

PARTS_IN_TILES = 6
GROWN = 100  # a gradient that grew so much explodes
_FROM = {
    "given": "as it was given",
    "the data": "measured in the data",
    "the data, which need nothing further back": "measured in the data, which need nothing further back",
    "the length of the batch": "the length of the batch, for want of data",
}
_CONSEQUENCE = {
    "healthy": "So it can learn from as far back as it has to.",
    "borderline": "It is at the border: a little less of the gradient and what lies so far back is hardly learnt.",
    "vanishing": "From what lies further back than its gradient comes, it hardly learns.",
    "exploding": (
        "On the way back the gradient grows so much that what is far away drowns what is near, and training jumps."
    ),
    "dead": "No gradient takes that way, so nothing of the past is learnt at all.",
    "non-finite": "Some numbers are infinite or no numbers at all, and all that is computed from them is lost.",
}


# What the gradient is called that was measured: in the title, which is short, and in the sentence below it.
_GRADIENT = {"the loss": "the gradient of the loss"}
_WHICH = {
    "random directions": "Of a gradient that starts in random directions of a layer's last state, at least 1 %",
    "the loss": "Of the gradient of the loss by the steps of the input, at least 1 %",
}


def write_diagnosis(found: Mapping[str, Any], path: Path) -> Path:
    """Write a diagnosis as one self-contained HTML file, and return its path.

    Args:
        found: what `Diagnosis.to_dict()` gives, or the same read back from JSON; `target` (what was diagnosed) may
            be added to it. Nothing in it is taken on trust: what is missing or of a wrong type gives way to a
            sentence, and all text is escaped.
        path: where to; its folder is made where there is none.

    Raises:
        OptionError: the path is a folder.
        MissingExtraError: matplotlib is not installed.

    >>> import tempfile
    >>> found = {"verdict": "vanishing", "need": 50, "parts": [{"name": "l0", "profile": {"reach": 8}}]}
    >>> page = write_diagnosis(found, Path(tempfile.mkdtemp()) / "diagnosis.html").read_text(encoding="utf-8")
    >>> "Vanishing: the gradient reaches 8 steps, 50 are needed" in page
    True
    """
    path = Path(path)
    if path.is_dir():
        raise OptionError(f"{path} is a folder, and the report is one file: name a file in it, as diagnosis.html")
    written = _page(Findings.read(found)).encode(errors="replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, written)
    return path


def headline(found: Findings) -> str:
    """Say the verdict in one line."""
    best, need = found.best, found.need
    reaches = f"{_gradient(found)} reaches {far(best.reach)} {steps(best.reach.steps)}" if best else ""
    least = "at least " if found.need_is_least else ""
    needed = f"{least}{count(need)} {'is' if need == 1 else 'are'} needed" if need else ""
    both = ", ".join(filter(None, [reaches, needed]))
    said = {
        "healthy": f"Healthy: {both or 'the gradient reaches far enough'}",
        "borderline": f"Borderline: {both or 'about 1 % of the gradient is left'}",
        "vanishing": f"Vanishing: {both or 'the gradient is lost on its way'}",
        "exploding": f"Exploding: {_growth(found)}",
        "dead": "Dead: no gradient comes back through time",
        "non-finite": "Not finite: some values became NaN or Inf",
    }
    return said.get(found.verdict) or f"No known verdict{f': {found.verdict}' if found.verdict else ''}"


def _gradient(found: Findings) -> str:
    return _GRADIENT.get(found.measured, "the gradient")


def diagnosis_summary(found: Findings) -> dict[str, Any]:
    """Gather what a program may want to read off the page."""
    return {
        "verdict": found.verdict,
        "need": found.need,
        "need_from": found.need_from,
        "loss": found.loss,
        "reach": {part.name: {"steps": part.reach.steps, "censored": part.reach.censored} for part in found.parts},
        "causes": [cause.kind for cause in found.causes],
        "prescriptions": [remedy.name for remedy in found.remedies],
    }


def _page(found: Findings) -> str:
    gallery = Gallery()
    overview, layers = sections.overview_section(found, gallery), sections.part_section(found, gallery)
    parts = [
        overview,
        sections.cause_section(found),
        remedy_section(found),
        sections.need_section(found, gallery),
        layers,
        sections.unknown_section(found),
    ]
    return document(
        headline(found), _header(found), parts, gallery, {"diagnosis-summary": diagnosis_summary(found)}
    )


def _header(found: Findings) -> Html:
    verdict = found.verdict or "no verdict"
    kinds = dict.fromkeys(part.kind for part in found.parts if part.kind)
    number = len(found.parts)
    facts = [found.target, *list(kinds)[:4], f"{count(number)} part{'' if number == 1 else 's'}" if number else ""]
    return opening(
        "diagnosis",
        [element("span", verdict, class_="status", data_status=verdict)],
        headline(found),
        facts,
        None,
        _sentence(found),
        _tiles(found),
        censored_note([part.reach for part in found.parts[:PARTS_IN_TILES]]),
    )


def _sentence(found: Findings) -> str:
    words = []
    if found.need is not None:
        source = _FROM.get(found.need_from, found.need_from)
        origin = f" ({source})" if source else ""
        least = "at least " if found.need_is_least else ""
        which = "the gradient of its loss" if found.measured == "the loss" else "a gradient"
        words.append(
            f"To learn what it has to, the network needs {which} to come {least}"
            f"{count(found.need)} {steps(found.need)} back{origin}."
        )
    words.append(_CONSEQUENCE.get(found.verdict, ""))
    if found.verdict in ("healthy", "borderline", "vanishing"):
        words[-1] = f"{_reached(found)} {words[-1]}"
    return " ".join(filter(None, map(str.strip, words))) or "Neither a needed lag nor a reach is known."


def _reached(found: Findings) -> str:
    best = found.best
    if best is None:
        return ""
    where = f" in {inside(best.name)}" if len(found.parts) > 1 else ""
    still = "still comes" if best.reach.censored else "comes"
    which = _WHICH.get(found.measured, "At least 1 % of the gradient")
    return f"{which} {still} {count(best.reach.steps)} {steps(best.reach.steps)} back{where}."


def _growth(found: Findings) -> str:
    grown = max((_largest(part, found.need) for part in found.parts), default=0.0)
    within = f" within {count(found.need)} {steps(found.need)}" if found.need else ""
    if grown <= GROWN:
        return f"{_gradient(found)} grows on its way back{within}"
    return f"{_gradient(found)} grows {rough(grown)}-fold{within}"


def _largest(part: Part, need: int | None) -> float:
    shares = zip(part.profile.lags, part.profile.relative("all"), strict=False)
    known = [share for lag, share in shares if share is not None and (need is None or lag <= need)]
    return max([*known, part.survives or 0.0])


def _tiles(found: Findings) -> Html:
    source = _FROM.get(found.need_from, found.need_from)
    tiles = [reach_tile(part.reach) for part in found.parts[:PARTS_IN_TILES]]
    if not tiles:
        tiles = [tile(MISSING, "reach", "not measured", class_="reach")]
    tiles.append(
        tile(
            MISSING if found.need is None else f"{'≥ ' if found.need_is_least else ''}{found.need:,}",
            "needed lag",
            source or "where from is not known",
        )
    )
    tiles.append(tile(decimal(found.loss), "loss", "of the batch"))
    return element("div", *tiles, class_="figures", role="list", aria_label="Figures of the diagnosis")
