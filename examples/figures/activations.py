"""Sigmoid and tanh with their slopes: what a gradient meets on its way back is at most ¼, or at most 1."""

import torch
from drawing import folder, write

x = torch.linspace(-6, 6, 1201, dtype=torch.float64, requires_grad=True)
curves = {}
for name, function in (("sigmoid", torch.sigmoid), ("tanh", torch.tanh)):
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    curves[name], curves[f"{name}′"] = y.detach(), slope

at = x.detach()
assert float(curves["sigmoid′"].max()) == 0.25
assert float(curves["tanh′"].max()) == 1.0
assert all(abs(float(at[curves[f"{name}′"].argmax()])) < 1e-12 for name in ("sigmoid", "tanh"))
# Past |x| = 3.64 a sigmoid is flatter than a tenth of its best, past |x| = 1.82 a tanh is.
flat = {name: float(at[curves[f"{name}′"] >= 0.1 * curves[f"{name}′"].max()].max()) for name in ("sigmoid", "tanh")}
assert abs(flat["sigmoid"] - 3.64) < 0.02, flat
assert abs(flat["tanh"] - 1.82) < 0.02, flat
print(f"σ′ ≤ 1/4 and tanh′ ≤ 1, both at 0: twenty sigmoids in a row leave at most {0.25**20:.1e} of a gradient")

out = folder()
if out is not None:
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for name, y in curves.items():
        dash = "dot" if name.endswith("′") else "solid"
        figure.add_trace(Scatter(x=at.numpy(), y=y.numpy(), name=name, line_dash=dash))
    figure.update_xaxes(title="x")
    figure.update_yaxes(title="value; slope (dotted)")
    write(figure, out, "activations", "Sigmoid and tanh, and their slopes: at most 1/4, at most 1")
