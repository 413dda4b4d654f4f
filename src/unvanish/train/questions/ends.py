"""Where series end: with their last value, whatever rows come after it.

Rows without a value at the end hold what is known beforehand of the steps to forecast, or are not filled in yet.
Nothing is known there to compare a forecast with, so nothing is trained, validated or tested on them.

Shapes: N steps of all series, S series.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from unvanish.data.sequences import Sequences
from unvanish.errors import printable
from unvanish.train.questions.units import some


def last_known(data: Sequences) -> NDArray[np.int64]:
    """Return the last step of each series at which a target is known; -1 where none is."""
    assert data.target is not None
    known_N = np.isfinite(data.target.values).any(1)
    found: NDArray[np.int64] = np.maximum.reduceat(np.where(known_N, data.place_N, -1), data.starts_B)
    return found


def ends_told(data: Sequences, known: tuple[str, ...], horizon: int) -> Iterator[str]:
    """Say which series end before their last row, and which have no value at all.

    Args:
        known: the columns that are known beforehand: with them `horizon` rows without a value are asked for.
        horizon: how many steps are forecast.
    """
    assert data.target is not None
    last_S = last_known(data)
    empty_S = data.lengths_B - 1 - last_S
    early, none = np.flatnonzero((empty_S > (horizon if known else 0)) & (last_S >= 0)), np.flatnonzero(last_S < 0)
    value = " or ".join(map(printable, data.target.names))
    if len(early):
        least, most = int(empty_S[early].min()), int(empty_S[early].max())
        rows = f"{'' if least == most else f'{least:,} to '}{most:,} {'row' if most == 1 else 'rows'}"
        beside = ", ".join(map(printable, _filled(data, known, last_S)))
        hint = f"; {beside} has values there, which a run with --known reads" if beside else ""
        yield f"{some(data, early)}: {rows} at the end without {value}, taken to end before them{hint}"
    if len(none):
        yield f"{some(data, none)}: no value of {value} at all, so no forecast"


def _filled(data: Sequences, known: tuple[str, ...], last_S: NDArray[np.int64]) -> list[str]:
    """The columns that hold values in all rows after the last value, and are not said to be known beforehand."""
    assert data.target is not None
    after_N = data.place_N > np.repeat(last_S, data.lengths_B)
    beside = [place for place, name in enumerate(data.names) if name not in (*data.target.names, *known)]
    return [data.names[place] for place in beside if np.isfinite(data.numbers_NF[after_N, place]).all()]
