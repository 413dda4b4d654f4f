"""YAML read as plain data: mappings, lists, texts, numbers, yes or no; anything else is refused with its place.

A configuration may come from anybody. PyYAML's safe loader executes nothing, but aliases let a kilobyte stand for
gigabytes, a nest of brackets ends the interpreter's stack, and a date, a set or a binary is none of what a run's
configuration holds.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

MAX_DEPTH = 24
MAX_BYTES = 32_000_000  # a vocabulary of all of Unicode, escaped, has 11 million
MAX_DIGITS = 1000  # Python refuses to write numbers of more than 4300 digits
_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float"))


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, tags, dates, merge keys and duplicate keys, and with bounds."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Make a node; refuse what a plain text never needs before anything is made of it."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("an alias", event)
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refusal("a tag", event)
        if self.depth >= MAX_DEPTH:
            raise _refusal(f"more than {MAX_DEPTH} nested levels", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Make a mapping whose keys are texts, each there once."""
        seen = set[str]()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refusal("a key that is not a text", key)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Refuse a number with more digits than Python writes."""
        if node.tag != "tag:yaml.org,2002:str" and len(node.value) > MAX_DIGITS:
            raise _refusal(f"a number of {len(node.value):,} digits", node)
        return super().construct_scalar(node)


def _refusal(what: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=f"{what}, which no configuration has", problem_mark=place.start_mark)


def read_plain(content: bytes) -> Any:
    """Read YAML, raising ValueError with the place and the reason, in one line."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, a configuration has at most {MAX_BYTES:,}")
    try:
        return yaml.load(content.decode(), PlainLoader)
    except UnicodeDecodeError as fault:
        raise ValueError(f"it is not UTF-8 text (byte {fault.start})") from fault
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ValueError(f"{place}{fault.problem}") from fault
    except (yaml.YAMLError, OverflowError) as fault:
        raise ValueError(" ".join(str(fault).split())) from fault
