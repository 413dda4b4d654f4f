"""Does a gradient come as far back as the data need, and if not, what holds it back: one word for each."""

from __future__ import annotations

ENOUGH, CUT, LOST, UNSEEN = "far enough", "cut by the window", "lost on the way", "not measured as far"


def held_back(reach: int | None, window: int | None, need: int | None, *, censored: bool = False) -> str:
    """Say which of the four it is; empty where that is not known.

    Args:
        reach: how many steps back the gradient comes where nothing cuts it.
        window: how many steps the network learns from at a time: in training a gradient comes one step less far.
        need: how many steps back the data need.
        censored: whether the reach is a lower bound, since it was measured no further.

    >>> held_back(40, 200, 9), held_back(40, 200, 90), held_back(199, 50, 90)
    ('far enough', 'lost on the way', 'cut by the window')
    >>> held_back(40, 200, 90, censored=True)
    'not measured as far'
    """
    if reach is None or need is None:
        return ""
    if window is not None and window - 1 < min(need, reach + 1):
        return CUT
    return ENOUGH if reach >= need else UNSEEN if censored else LOST
