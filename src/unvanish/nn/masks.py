"""What a layer draws anew for every pass in training: recurrent dropout, zoneout, dropped weights.

Shapes: T time, B batch, W width of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish import checks
from unvanish.equations import System
from unvanish.equations.rewrites.masks import with_recurrent_dropout, with_zoneout, zoneout_mask
from unvanish.equations.rewrites.parameters import PROJECTION
from unvanish.errors import OptionError, nearest

Zoneout = float | Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Noise:
    """What is drawn for the passes of a layer, and the systems that it leads to.

    Attributes:
        recurrent_dropout, zoneout, weight_drop: as the layer was given them.
        training, evaluation: the system in either mode; the plain one where nothing is drawn.
        matrices: what weight drop thins out: the recurrent matrices.
        shares: how often zoneout keeps a unit, by the name of its mask.
    """

    recurrent_dropout: float
    zoneout: Zoneout
    weight_drop: float
    training: System
    evaluation: System
    matrices: frozenset[str]
    shares: Mapping[str, float]

    def draw(self, steps: int, batch: int, sizes: Mapping[str, int], like: Tensor) -> dict[str, Tensor]:
        """Draw the masks of a pass from torch's generator: (B, W) for one per row, (T, B, W) for one per step."""
        drawn = {}
        for mask in self.training.masks:
            if mask.of == "row":
                left = 1.0 - self.recurrent_dropout
                drawn[mask.name] = torch.bernoulli(like.new_full((batch, sizes[mask.width]), left)) / left
            else:
                share_TBW = like.new_full((steps, batch, sizes[mask.width]), self.shares[mask.name])
                drawn[mask.name] = torch.bernoulli(share_TBW)
        return drawn

    def thinned(self, weight: Tensor) -> Tensor:
        """Drop entries of a recurrent matrix, for one pass."""
        return F.dropout(weight, self.weight_drop)


def make_noise(name: str, system: System, recurrent_dropout: float, zoneout: Zoneout, weight_drop: float) -> Noise:
    """Check what a layer of the cell `name` is to draw; what would do nothing there is refused."""
    dropout = checks.share(recurrent_dropout, "recurrent_dropout")
    weight_drop = checks.share(weight_drop, "weight_drop")
    shares = _shares(name, system, zoneout)
    dropped = with_recurrent_dropout(system) if dropout else system
    if dropout and not dropped.masks:
        raise OptionError(f"{name} multiplies no past state with a matrix: recurrent_dropout has nothing to drop")
    matrices = frozenset(p.name for p in system.parameters if p.role == "recurrent" and p.rows != PROJECTION)
    if weight_drop and not matrices:
        raise OptionError(f"{name} has no recurrent matrix: weight_drop has nothing to drop")
    return Noise(
        dropout,
        dict(zoneout) if isinstance(zoneout, Mapping) else zoneout,
        weight_drop,
        training=with_zoneout(dropped, shares, drawn=True) if shares else dropped,
        evaluation=with_zoneout(system, shares, drawn=False) if shares else system,
        matrices=matrices if weight_drop else frozenset(),
        shares={zoneout_mask(state): share for state, share in shares.items()},
    )


def _shares(name: str, system: System, zoneout: Zoneout) -> dict[str, float]:
    """The probability with which each state is kept, of those for which it is not zero."""
    states = [state.name for state in system.states]
    if not isinstance(zoneout, Mapping):
        zoneout = checks.share(zoneout, "zoneout")
        if zoneout and not states:
            raise OptionError(f"{name} carries no state: zoneout has nothing to keep")
        zoneout = dict.fromkeys(states, zoneout)
    for state in zoneout:
        if state not in states:
            raise OptionError(
                f"zoneout names {state!r}, which is not a state of {name}: {nearest(str(state), states)}"
            )
    shares = {state: checks.share(share, f"zoneout of {state}") for state, share in zoneout.items()}
    return {state: share for state, share in shares.items() if share}
