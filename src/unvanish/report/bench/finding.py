"""What a benchmark comes to, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unvanish.report.page.wording import decimal, enumeration

PASS = "training step"  # of which the first sentence speaks
NOISY = 1.5  # times from the least to the most of the middle half of the rounds


def bench_finding(found: Mapping[str, Any]) -> str:
    """Say how many times as fast a training step is, beside each peer, and what is not as it should be."""
    cells: Sequence[Mapping[str, Any]] = found["cells"]
    said = [_speed(cells), *map(_engine, cells), *map(_numbers, cells), _noise(cells)]
    return " ".join(filter(None, said))


def headline(found: Mapping[str, Any]) -> str:
    """Say it in one line."""
    return _speed(found["cells"]).removesuffix(".")


def names_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """Name the cells; of many say how many they are."""
    return enumeration([cell["cell"] for cell in cells]) if len(cells) <= 3 else f"{len(cells)} cells"


def peers_of(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name all peers, those of all cells first."""
    named = [peer for cell in cells for peer in cell["ratios"][PASS]]
    return sorted(dict.fromkeys(named), key=lambda peer: -named.count(peer))


def times(ratio: float) -> str:
    """Write a ratio.

    >>> times(14.31), times(0.998), times(0.82)
    ('14 ×', '1.0 ×', '0.82 ×')
    """
    return f"{_times(ratio)} ×"


def _times(ratio: float) -> str:
    return f"{ratio:.{0 if ratio >= 10 else 1 if ratio >= 0.95 else 2}f}"


def _speed(cells: Sequence[Mapping[str, Any]]) -> str:
    peers = [peer for peer in peers_of(cells) if all(peer in cell["ratios"][PASS] for cell in cells)]
    told = []
    for peer in peers:
        spans = [cell["ratios"][PASS][peer] for cell in cells]
        found = sorted(span["median"] for span in spans)
        low, high = _times(found[0]), _times(found[-1])
        many = f"{low if low == high else f'{low} to {high}'} times as fast"
        about = all(span["low"] <= 1 <= span["high"] for span in spans)
        told.append(f"{'about as fast' if about else many} as {_in(peer)}")
    return f"A training step of {names_of(cells)} is {enumeration(told)}."


def _in(peer: str) -> str:
    return f"the same in {peer}" if peer.startswith("plain") else peer


def _engine(cell: Mapping[str, Any]) -> str:
    return "" if cell["engine"] == "native" else f"{cell['cell']} has no kernel here: {cell['why']}."


def _numbers(cell: Mapping[str, Any]) -> str:
    if cell["is_same"]:
        return ""
    far = decimal(cell["difference"], 2)
    return f"The numbers of {cell['cell']} differ from those in plain PyTorch, by {far} of the largest."


def _noise(cells: Sequence[Mapping[str, Any]]) -> str:
    spans = [span for cell in cells for span in cell["ratios"][PASS].values()]
    if all(span["high"] <= NOISY * span["low"] for span in spans):
        return ""
    return "The rounds differ much: something else kept this machine busy, so measure again."
