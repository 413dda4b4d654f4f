"""How the layers of a stack hand on: what a layer gives, with what it was given.

Shapes: T time, B batch, I input of a layer, W width of the outputs of all its directions, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import OptionError, nearest

CONNECTIONS = ("plain", "residual", "dense", "highway")
# A gate that begins nearly shut hands on what was given (Srivastava et al. 2015, section 2.3: -1 to -3).
SHUT = -1.0


def check_connection(connect: object) -> str:
    """Refuse what is not the name of a connection."""
    if not isinstance(connect, str) or connect not in CONNECTIONS:
        raise OptionError(f"connect={connect!r}: {nearest(str(connect), CONNECTIONS)}")
    return connect


@dataclass(frozen=True)
class Connection:
    """What joins a stack of layers, of which each gives W numbers.

    With x the input of a layer above the first and y its output, it hands on

    | plain | y |
    | residual | x + y (He et al. 2016; Wu et al. 2016, section 3.1) |
    | dense | x and y side by side, so that each layer reads the input and all layers below (Huang et al. 2017) |
    | highway | g * y + (1 - g) * x,  g = sigmoid(M x + b) with b beginning at -1 (Srivastava et al. 2015) |

    The first layer hands on y, beside the input where that is dense; the last of a dense stack gives its y alone.
    """

    kind: str
    input_size: int
    width: int
    layers: int

    def __post_init__(self) -> None:
        if self.kind != "plain" and self.layers < 2:
            raise OptionError(
                f"connect='{self.kind}' joins layers, and this stack has one: use num_layers=2 or more"
            )

    def wide(self, layer: int) -> int:
        """How wide the input of a layer is."""
        if layer == 0:
            return self.input_size
        return self.input_size + layer * self.width if self.kind == "dense" else self.width

    def gates(self, device: Any, dtype: torch.dtype) -> nn.ModuleList:
        """Return the gates of a highway, one for each layer above the first, not filled."""
        return nn.ModuleList(
            nn.Linear(self.width, self.width, device=device, dtype=dtype) for _ in range(self.layers - 1)
        )

    def handed_on(self, layer: int, x_TBI: Tensor, y_TBW: Tensor, gates: nn.ModuleList | None) -> Tensor:
        """What the layer above reads; of the last layer, what the stack gives."""
        if self.kind == "dense":
            return torch.cat([x_TBI, y_TBW], -1) if layer < self.layers - 1 else y_TBW
        if layer == 0 or self.kind == "plain":
            return y_TBW
        if gates is None:
            return x_TBI + y_TBW
        return torch.lerp(x_TBI, y_TBW, torch.sigmoid(gates[layer - 1](x_TBI)))


def reset_gates(gates: nn.ModuleList) -> None:
    """Draw the gates of a highway anew."""
    for gate in gates:
        assert isinstance(gate, nn.Linear)
        gate.reset_parameters()
        nn.init.constant_(gate.bias, SHUT)
