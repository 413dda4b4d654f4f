"""Bounded forward is not safe backward: tanh stays under 1 and loses the gradient, ReLU explodes both ways."""

import math

import torch
from drawing import COLOURS, folder, write

import unvanish

STEPS, WIDTH = 80, 16
torch.manual_seed(0)
U_HH = torch.rand(WIDTH, WIDTH, dtype=torch.float64)
U_HH *= 1.2 / torch.linalg.eigvals(U_HH).abs().max()  # positive, so that no unit of the ReLU dies
x = torch.rand(STEPS, 4, 1, dtype=torch.float64)
forward, back = {}, {}
for name in ("tanh", "relu"):
    layer = unvanish.RNN(1, WIDTH, nonlinearity=name, dtype=torch.float64, bias=False, engine="reference")
    with torch.no_grad():
        layer["U_h"].copy_(U_HH)
        layer["W_h"].fill_(0.5)
        forward[name] = layer(x)[0].square().mean((1, 2)).sqrt()
    back[name] = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1))

growth = {name: float((h[-1] / h[STEPS // 2]).log() / (STEPS - 1 - STEPS // 2)) for name, h in forward.items()}
assert forward["tanh"].max() < 1
assert abs(growth["tanh"]) < 0.01
assert back["tanh"].rate < -0.5  # saturated: the matrix alone would give log 1.2 = +0.18
assert back["tanh"].reach < 10
assert abs(growth["relu"] - math.log(1.2)) < 0.02
assert abs(back["relu"].rate - math.log(1.2)) < 0.02
said = [f"{name}: forward {growth[name]:+.2f}, back {back[name].rate:+.2f}" for name in forward]
print("; ".join(said), "nats per step")

out = folder()
if out is not None:
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for (name, h), colour in zip(forward.items(), COLOURS, strict=False):
        solid, dotted = {"color": colour}, {"color": colour, "dash": "dot"}
        figure.add_trace(Scatter(y=h.numpy(), name=f"{name}, state", line=solid))
        figure.add_trace(Scatter(y=back[name].norms, name=f"{name}, gradient", line=dotted))
    figure.update_xaxes(title="steps: forward from the first (state), back from the last (gradient)")
    figure.update_yaxes(title="size of h; share of the gradient's norm", type="log", exponentformat="power")
    write(figure, out, "bounded", "tanh and ReLU with a recurrent matrix of spectral radius 1.2")
