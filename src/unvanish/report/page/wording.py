"""Numbers, durations and names in words, the same everywhere on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

MISSING = "—"
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
CENSORED = "the gradient was still above 1 % at the far end of the probe, so the true reach is longer"


def count(value: float | None) -> str:
    """Write a whole number with separators."""
    return MISSING if value is None else f"{round(value):,}"


def prose(words: str) -> str:
    """Keep a number and its per cent sign on one line."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


def steps(value: float | None) -> str:
    """Choose between *step* and *steps*."""
    return "step" if value == 1 else "steps"


def decimal(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits.

    >>> decimal(1.41999), decimal(0.0000123), decimal(12345.0)
    ('1.42', '1.23 × 10⁻⁵', '12,345')
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent > 9:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{minus(mantissa)} × 10{superscript(int(power))}"
    return minus(f"{value:,.{max(0, digits - 1 - exponent)}f}")


def rough(value: float) -> str:
    """Write the size of a number that may be very large.

    >>> rough(152.4), rough(3_269_017)
    ('152', '3.3 × 10⁶')
    """
    if abs(value) < 10_000:
        return decimal(value)
    mantissa, _, power = f"{value:.1e}".partition("e")
    return f"{minus(mantissa)} × 10{superscript(int(power))}"


def signed(value: float | None) -> str:
    """Write a number with its sign, also where it is positive."""
    return f"{'+' if value is not None and value > 0 else ''}{decimal(value)}"


def minus(text: str) -> str:
    """Write the sign as a minus, not as a hyphen."""
    return text.replace("-", "−")


def superscript(value: int) -> str:
    """Write a whole number raised."""
    return str(value).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def percent(share: float | None) -> str:
    """Write a share in per cent; a share that is not zero never reads as zero."""
    if share is None:
        return MISSING
    return "less than 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %".replace(".0 %", " %")


def percent_tick(exponent: int) -> str:
    """Label 10^exponent on an axis of shares.

    >>> percent_tick(0), percent_tick(-3), percent_tick(-12)
    ('100 %', '0.1 %', '10⁻¹⁰ %')
    """
    power = exponent + 2
    if -4 <= power <= 4:
        return f"{10.0**power:,.{max(0, -power)}f} %"
    return f"10{superscript(power)} %"


def duration(seconds: float | None) -> str:
    """Write a time span with its two largest units."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(value: Any) -> str:
    """Write the time of a clock as people write it; what is not such a time stays as it is.

    >>> moment("2025-11-21T09:14:03")
    '21 November 2025, 09:14'
    """
    try:
        taken = datetime.fromisoformat(str(value))
    except ValueError:
        return MISSING if value is None else str(value)
    return f"{taken.day} {_MONTHS[taken.month - 1]} {taken.year}, {taken:%H:%M}"


def layer_title(part: str) -> str:
    """Name a part as a reader counts layers: `l0` is layer 1."""
    found = re.fullmatch(r"l(\d{1,4})(_reverse)?", part)
    if found is None:
        return part
    return f"Layer {int(found[1]) + 1}" + (", reverse" if found[2] else "")


def inside(part: str) -> str:
    """Name a part in the middle of a sentence."""
    title = layer_title(part)
    return title if title == part else title.lower().replace(", reverse", " (reverse)")


def part_order(part: str) -> tuple[Any, ...]:
    """Sort parts by the numbers in their names: `l2` before `l10`."""
    pieces = re.split(r"(\d{1,9})", part)
    return tuple((int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces)


def state_title(state: str) -> str:
    """Name a state for a reader."""
    return "full state" if state == "all" else state


def halving(rate: float | None) -> str:
    """Say what a rate in nats per step means; it was fitted over the further half of the lags."""
    if rate is None:
        return "no rate could be fitted"
    if abs(rate) < 1e-6:
        return "the gradient neither fades nor grows"
    verb = "halves" if rate < 0 else "doubles"
    return f"far back the gradient {verb} every {decimal(math.log(2) / abs(rate))} time steps"


def enumeration(words: Sequence[str]) -> str:
    """Join words with commas and a last *and*."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plain(value: Any) -> str:
    """Write any configured value in one cell of a table."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(inner)}" for key, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_sentence(words: str, name: str = "") -> str:
    """Write a remark as a sentence; a name that it begins with keeps its small letter, as it stands in code."""
    said = words.strip()
    ended = said if said.endswith((".", "!", "?", "…")) or not said else f"{said}."
    first = said.partition(" ")[0].rstrip(",:")
    return ended if first == name or any(sign in first for sign in "._0123456789") else capital(ended)


def capital(words: str) -> str:
    """Begin with a capital letter."""
    return words[:1].upper() + words[1:]
