"""The few blocks that the page is made of: sections, pictures, what scrolls, what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unvanish.report.drawing import drawn
from unvanish.report.page.axes import Figure
from unvanish.report.page.markup import Child, Html, element
from unvanish.report.page.wording import prose

# Pixels that a picture of each kind is drawn for: one that fills the page is drawn a second time, for a narrow one.
SIZES: dict[str, tuple[tuple[int, int], ...]] = {
    "": ((400, 280),),
    "low": ((400, 200),),
    "third": ((340, 225),),
    "tall": ((1000, 360), (400, 310)),
    "overview": ((1000, 560), (400, 520)),
}
SHAPES = ("wide", "narrow")


@dataclass
class Gallery:
    """Draws the pictures of a page, and collects their data, so that these are written once beside the markup."""

    pictures: dict[str, list[Figure | None]] = field(default_factory=dict)

    def hang(
        self,
        views: Sequence[Figure | None],
        label: str,
        caption: str,
        *,
        kind: str = "",
        title: str = "",
        height: int | None = None,
    ) -> Html:
        """Place one picture with its views (one a state) and the sentence that explains it.

        `height` is in pixels, where it depends on what is shown and not on the kind.
        """
        identifier = f"picture-{len(self.pictures)}"
        self.pictures[identifier] = list(views)
        notes = [view["layout"]["thinned"] for view in views if view is not None and "thinned" in view["layout"]]
        told = " ".join([caption, *dict.fromkeys(notes)]).strip()
        shown = [self._view(view, at, kind, height) for at, view in enumerate(views)]
        return element(
            "figure",
            element("p", title, class_="picture-title") if title else None,
            element("div", *shown, id=identifier, class_=f"plot {kind}".strip(), role="img", aria_label=label),
            element("figcaption", prose(told)) if told else None,
        )

    def _view(self, picture: Figure | None, at: int, kind: str, height: int | None) -> Html:
        prefix = f"p{len(self.pictures)}-{at}"
        shapes = [
            element(
                "div",
                drawn(picture, width, height or usual, f"{prefix}{shape[0]}-"),
                class_=shape if len(SIZES[kind]) > 1 else None,
            )
            for shape, (width, usual) in zip(SHAPES, SIZES[kind], strict=False)
            if picture is not None
        ]
        return element("div", *shapes, class_=f"view view-{at}")


class Section(Html):
    """A section of the page, which the table of contents names and leads to."""

    __slots__ = ("anchor", "heading")
    heading: str
    anchor: str


def section(title: str, *children: Child, anchor: str = "") -> Section:
    """Build a section of the page; its `anchor` is made of the title unless it is given."""
    name = anchor or re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
    built = Section(element("section", element("h2", title), *children, id=name))
    built.heading, built.anchor = title, name
    return built


def opening(
    kind: str, named: Sequence[Child], title: str, facts: Iterable[str], first: Child, sentence: str, *more: Child
) -> Html:
    """Build the head of a page: what it is of, its finding, facts, the first picture, and a paragraph."""
    return element(
        "header",
        element("p", f"unvanish · {kind} ", *named, class_="eyebrow"),
        element("h1", prose(title)),
        element("p", *(element("span", fact) for fact in facts if fact), class_="facts"),
        first,
        element("p", prose(sentence), class_="lede"),
        *more,
    )


def contents(parts: Sequence[Child]) -> Html:
    """Build the table of contents of what follows."""
    links = [
        element("li", element("a", part.heading, href=f"#{part.anchor}"))
        for part in parts
        if isinstance(part, Section)
    ]
    return element("nav", element("ol", *links), class_="contents", aria_label="Contents")


def lead(words: str) -> Html:
    """Build the sentence that opens a section."""
    return element("p", prose(words), class_="lead")


def absent(words: str) -> Html:
    """Say plainly what the record does not hold."""
    return element("p", words, class_="absent")


def code_block(code: str, label: str) -> Html:
    """Build code that can be copied."""
    return element("div", element("pre", element("code", code), tabindex=0, aria_label=label), class_="code-block")


def folded(summary: str, *children: Child) -> Html:
    """Build what is folded on a screen and open on paper."""
    return element("details", element("summary", summary), *children)


def scrolling(tag: str, label: str, *children: Child, class_: str = "") -> Html:
    """Build what may scroll sideways by itself, by keyboard too, so that the page need not."""
    classes = f"scrolling {class_}".strip()
    return element(tag, *children, class_=classes, role="region", aria_label=label, tabindex=0)


def tile(value: str, name: str, unit: str, **attributes: str | int | None) -> Html:
    """Build one of the figures at the top: a number, what it is, its unit."""
    kind = attributes.pop("class_", None)
    return element(
        "div",
        element("span", value, class_="value"),
        element("span", name, class_="name"),
        element("span", unit, class_="unit"),
        class_=f"figure {kind or ''}".strip(),
        role="listitem",
        **attributes,
    )
