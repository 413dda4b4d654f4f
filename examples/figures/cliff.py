"""The error surface of one recurrent unit has a cliff: a plain step of descent flies off it, a clipped one stays.

The network of Pascanu, Mikolov, Bengio (2013), figure 6: x[t] = w σ(x[t-1]) + b from x[0] = ½, fifty steps,
E = (σ(x[50]) − 0.7)².
"""

import torch
from drawing import folder, write
from torch import Tensor

STEPS, RATE, CLIP = 120, 0.5, 0.05
start = torch.tensor([4.8, -2.3], dtype=torch.float64)  # w, b


def error(w: Tensor, b: Tensor) -> Tensor:
    x = torch.full_like(w, 0.5)
    for _ in range(50):
        x = w * torch.sigmoid(x) + b
    return (torch.sigmoid(x) - 0.7) ** 2


def descend(largest: float) -> tuple[Tensor, Tensor]:
    """Where descent goes with gradients of at most this norm, and the norms that it met."""
    path, norms = [start], []
    for _ in range(STEPS):
        at = path[-1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(error(*at), at)
        norms.append(gradient.norm())
        path.append(path[-1] - RATE * gradient * min(1.0, largest / float(norms[-1])))
    return torch.stack(path), torch.stack(norms)


plain, norms = descend(float("inf"))
clipped, norms_seen = descend(CLIP)
jump, largest = float(plain.diff(dim=0).norm(dim=1).max()), float(clipped.diff(dim=0).norm(dim=1).max())
assert norms[0] < 0.2 < 20 < norms.max()  # a gentle slope, then a wall:
assert abs(jump - RATE * float(norms.max())) < 1e-9 < 10 < jump  # a step of the rate times the norm, far away,
assert abs(float(error(*plain[-1])) - 0.09) < 0.001  # to where the unit is stuck at σ = 1: (1 − 0.7)² = 0.09
assert norms_seen.max() > 10  # the clipped descent meets the wall as well,
assert largest < RATE * CLIP + 1e-12  # but no step is longer than the rate times the limit,
assert float((clipped - start).norm(dim=1).max()) < 1  # so it stays
assert float(error(*clipped[-40:].T).median()) < 0.01  # on the floor beside the wall
print(f"a plain step of {jump:.1f} leaves the surface with error {error(*plain[-1]):.3f}; ", end="")
print(f"clipped to {CLIP}, steps of {largest:.2f} end with {error(*clipped[-1]):.4f}")

out = folder()
if out is not None:
    from plotly.graph_objects import Contour, Figure, Scatter

    w, b = torch.linspace(3.8, 5.8, 401).double(), torch.linspace(-3.2, -1.5, 401).double()
    surface = error(*torch.meshgrid(w, b, indexing="xy")).numpy()
    shades = {"colorscale": "Viridis", "ncontours": 40, "line_width": 0, "colorbar_title": "error"}
    figure = Figure(Contour(x=w.numpy(), y=b.numpy(), z=surface, **shades))
    for name, path, colour in (("plain", plain, "#ff7f50"), ("clipped", clipped, "#ffffff")):
        x, y = path.T.numpy()
        figure.add_trace(Scatter(x=x, y=y, name=name, mode="lines+markers", line_color=colour, marker_size=5))
    figure.update_xaxes(title="w", range=[3.8, 5.8])
    figure.update_yaxes(title="b", range=[-3.2, -1.5])
    figure.update_layout(legend={"x": 0.02, "y": 0.98, "bgcolor": "rgba(110,110,110,0.6)", "font_color": "#ffffff"})
    write(figure, out, "cliff", "The cliff of a recurrent unit: a plain step flies off, a clipped one stays")
