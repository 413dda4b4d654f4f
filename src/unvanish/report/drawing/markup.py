"""matplotlib's SVG, written again for the inside of a page: short, with ids of its own and colours by name.

What is written again comes from a white list, so that nothing else can ever enter a page.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from unvanish.report.drawing.canvas import NAMES
from unvanish.report.page.markup import Html, element

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_ELEMENTS = frozenset({"g", "path", "text", "use", "image", "clipPath", "rect", "defs"})
_ATTRIBUTES = ("d", "x", "y", "width", "height", "transform", "style", "clip-path", "preserveAspectRatio")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_PART = re.compile(r"([A-Za-z])([^A-Za-z]*)")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_IDENTIFIER = re.compile(r"#([A-Za-z][\w-]*)")
_UNMOVED = re.compile(r"rotate\(-?0 ")
_PICTURE = "data:image/png;base64,"
CLASSES = frozenset({"circle", "mark"})  # groups that a page can find again
# of the style of a text its page decides the font
_KEPT = frozenset(
    {"fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "text-anchor"}
    | {"fill-opacity", "stroke-opacity"}
)


def inline(svg: str, width: int, height: int, prefix: str) -> Html:
    """Rebuild what matplotlib wrote as one `svg` element; `prefix` begins each of its ids.

    >>> made = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M 0.123 4.0 L 5 6" onclick="a()"/></svg>'
    >>> inline(made, 9, 8, "a")
    '<svg viewBox="0 0 9 8" aria-hidden="true"><path d="M.1 4l4.9 2"></path></svg>'
    """
    root = ElementTree.fromstring(svg)
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))
    names = {old: f"{prefix}{at}" for at, old in enumerate(sorted(used))}
    return Html(
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{''.join(_rebuilt(child, names) for child in root)}</svg>"
    )


def _rebuilt(node: ElementTree.Element, names: dict[str, str]) -> Html:
    tag = node.tag.removeprefix(_SVG)
    if tag not in _ELEMENTS:
        return Html("")
    children = [_rebuilt(child, names) for child in node]
    kept = {name: _value(name, node.attrib[name], names) for name in _ATTRIBUTES if node.attrib.get(name)}
    kept = {name: value for name, value in kept.items() if value}
    link = node.attrib.get(f"{_LINK}href", "")
    if link.startswith(_PICTURE):
        kept["href"] = re.sub(r"\s", "", link)
    elif link.startswith("#"):
        kept["href"] = f"#{names[link[1:]]}"
    if node.attrib.get("id") in names:
        kept["id"] = names[node.attrib["id"]]
    if node.attrib.get("id") in CLASSES:
        kept["class"] = node.attrib["id"]
    inner = [child for child in children if child]
    if tag in ("g", "defs") and not inner:
        return Html("")
    if tag == "g" and not kept:
        return Html("".join(inner))
    text = node.text if tag == "text" else None
    return element(tag, text, *inner, **kept)


def _value(name: str, value: str, names: dict[str, str]) -> str:
    if name == "style":
        return _style(value)
    if name == "clip-path":
        found = _IDENTIFIER.search(value)
        return f"url(#{names[found[1]]})" if found else ""
    if name == "transform" and _UNMOVED.match(value):
        return ""
    return _path(value) if name == "d" else _NUMBER.sub(lambda found: _short(found[0]), value)


def _path(d: str) -> str:
    """Write a path shortly: of straight lines every point but the first of each by its distance from the last.

    >>> _path("M 10.04 20 L 11.26 18.5 L 12 19 M 1 2 L 2 2 z"), _path("M 0 0 C 1 2 3 4 5.55 6")
    ('M10 20l1.3-1.5 .7 .5M1 2l1 0z', 'M0 0C1 2 3 4 5.5 6')
    """
    parts = _PART.findall(d)
    if {letter for letter, _ in parts} - set("MLz"):
        short = _NUMBER.sub(lambda found: _short(found[0]), " ".join(d.split()))
        return re.sub(r"(?<=[A-Za-z]) | (?=[A-Za-z])", "", short)
    written, last, before = [], (0, 0), ""
    for letter, rest in parts:
        if letter == "z":
            written.append("z")
        else:
            x, y = (round(10 * float(one)) for one in rest.split())
            moved = (x, y) if letter == "M" else (x - last[0], y - last[1])
            words = "".join(_joined(_short(f"{one / 10:.1f}")) for one in moved)
            again = letter == before == "L"
            written.append(words if again else f"{'M' if letter == 'M' else 'l'}{words.strip()}")
            last = (x, y)
        before = letter
    return "".join(written)


def _joined(number: str) -> str:
    """Part a number from the one before it; a sign does that by itself."""
    return number if number.startswith("-") else f" {number}"


def _short(number: str) -> str:
    text = f"{float(number):.1f}".removesuffix(".0")
    return "0" if text == "-0" else re.sub(r"^(-?)0\.", r"\1.", text)


def _style(value: str) -> str:
    pairs = (pair.split(":", 1) for pair in value.split(";") if ":" in pair)
    kept = {name.strip(): rest.strip() for name, rest in pairs if name.strip() in _KEPT}
    named = ((name, _COLOUR.sub(_named, rest)) for name, rest in kept.items())
    return ";".join(f"{name}:{rest.replace(', ', ',')}" for name, rest in named)


def _named(found: re.Match[str]) -> str:
    name = NAMES.get(found[0])
    return f"var({name})" if name else found[0]
