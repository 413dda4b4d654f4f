"""A cell's LaTeX as MathML, rebuilt from a white list.

latex2mathml writes the content of `\\text` unescaped and passes `\\href` and `\\style` on as attributes, and
the LaTeX comes from a record; so its answer is parsed, and what is known to be harmless is written again.
"""

from __future__ import annotations

from xml.etree import ElementTree

from unvanish.errors import MissingExtraError
from unvanish.report.page.markup import Html, element

_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
# fmt: off
_ELEMENTS = frozenset(
    {
        "math", "mrow", "mi", "mo", "mn", "mtext",
        "mspace", "msub", "msup", "msubsup", "mover", "munder",
        "munderover", "mfrac", "msqrt", "mroot", "mtable", "mtr",
        "mtd", "mstyle", "mpadded", "mphantom",
    }
)
_ATTRIBUTES = frozenset(
    {
        "stretchy", "fence", "form", "separator", "lspace", "rspace",
        "accent", "accentunder", "mathvariant", "width", "height", "depth",
        "linethickness", "displaystyle", "scriptlevel", "columnalign", "symmetric", "largeop",
        "movablelimits",
    }
)
# fmt: on


def equation(latex: str) -> Html | None:
    """Convert one line of LaTeX to MathML; None where it cannot be done, and the text must stand instead."""
    try:
        from latex2mathml.converter import convert
    except ImportError as fault:
        raise MissingExtraError(
            'the report sets equations with latex2mathml: pip install "unvanish[app]"'
        ) from fault
    try:
        tree = ElementTree.fromstring(convert(latex))
        return _rebuild(tree) if _known(tree) else None
    except Exception:  # a fault of any kind in a foreign converter must cost an equation, never the report
        return None


def _local(node: ElementTree.Element) -> str:
    return node.tag.removeprefix(_NAMESPACE)


def _known(tree: ElementTree.Element) -> bool:
    return all(_local(node) in _ELEMENTS for node in tree.iter())


def _rebuild(node: ElementTree.Element) -> Html:
    kept = {name: value for name, value in node.attrib.items() if name in _ATTRIBUTES}
    if _local(node) == "math":
        kept["display"] = "block"
    children = [piece for child in node for piece in (_rebuild(child), child.tail)]
    return element(_local(node), node.text, *children, **kept)
