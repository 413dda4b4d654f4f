"""The gradient along depth: a plain network of sigmoids loses it, a residual and a dense one do not."""

import math

import torch
from drawing import COLOURS, folder, write
from torch import Tensor, nn

from unvanish.flow import depth

DEPTH, WIDTH = 20, 32


class Layers(nn.Module):
    """Sigmoid layers: plain, residual (He et al. 2016) or densely connected (Huang et al. 2017)."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.dense = way == "dense"
        seen = [WIDTH * (index + 1 if self.dense else 1) for index in range(DEPTH)]
        self.blocks = nn.ModuleList(Block(width, way == "residual") for width in seen)

    def forward(self, x_BW: Tensor) -> Tensor:
        outputs = [x_BW]
        for block in self.blocks:
            outputs.append(block(torch.cat(outputs, -1) if self.dense else outputs[-1]))
        return outputs[-1]


class Block(nn.Sequential):
    """y = f(x), or y = x + f(x)."""

    def __init__(self, width: int, adds: bool) -> None:
        super().__init__(nn.Linear(width, WIDTH), nn.Sigmoid())
        self.adds = adds

    def forward(self, x_BW: Tensor) -> Tensor:
        return super().forward(x_BW) + x_BW if self.adds else super().forward(x_BW)


torch.manual_seed(0)
x = torch.randn(16, WIDTH)
found = {way: depth(Layers(way), x) for way in ("plain", "residual", "dense")}

assert found["plain"].rate < math.log(0.25)  # σ′ ≤ ¼, and the matrices shrink as well
assert found["plain"].reach < 4 < DEPTH - 1 == found["residual"].reach == found["dense"].reach
assert abs(found["residual"].rate) < 0.1
assert found["plain"].weight_norms[0] < 1e-10 < 1e-2 < found["dense"].weight_norms[0]
print("; ".join(f"{name}: {one.rate:+.2f} nats per layer, reach {one.reach}" for name, one in found.items()))

out = folder()
if out is not None:
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for (name, one), colour in zip(found.items(), COLOURS, strict=False):
        figure.add_trace(Scatter(y=one.norms, name=name, line_color=colour))
    figure.update_xaxes(title="d, layers below the last")
    figure.update_yaxes(title="share of the gradient's norm", type="log", exponentformat="power")
    write(figure, out, "depth", "The gradient d layers below the last of twenty")
