"""Backpropagation through time, term by term: which pairs (t, k) carry the gradient, in an RNN and in an LSTM."""

import numpy as np
import torch
from drawing import folder, write
from torch import nn

from unvanish.flow import decompose

STEPS, WIDTH = 40, 8
torch.manual_seed(0)
x = torch.randn(STEPS, 4, 2, dtype=torch.float64)
rnn, lstm = nn.RNN(2, WIDTH).double(), nn.LSTM(2, WIDTH).double()
lstm.bias_ih_l0.data[WIDTH : 2 * WIDTH] = 4.0  # a forget gate that begins open (Gers et al. 2000)
found = {
    name: decompose(layer, x, lambda h_TBW: h_TBW.square().mean((1, 2)), norms_only=True)
    for name, layer in (("RNN", rnn), ("LSTM", lstm))
}
far = {}
for name, one in found.items():
    assert one.audit() < 1e-10  # the terms add up to the gradient that autograd gives
    assert not np.triu(one.norms["weight_hh_l0"], 1).any()  # no loss looks ahead
    far[name] = float(one.share(STEPS - 1)[: STEPS - 20].sum())  # twenty steps back or more
assert far["RNN"] < 0.01 < 0.1 < far["LSTM"], far
said = [f"{name}: {share:.2%}" for name, share in far.items()]
print("; ".join(said), "of the terms of the last loss lie 20 steps back or more")

out = folder()
if out is not None:
    from plotly.graph_objects import Heatmap
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=list(found), shared_yaxes=True)
    for column, one in enumerate(found.values(), 1):
        norms = one.norms["weight_hh_l0"]
        with np.errstate(divide="ignore"):
            decades = np.where(norms > 0, np.log10(norms / norms.max()), np.nan)
        shades = {"zmin": -8, "zmax": 0, "colorscale": "Viridis", "colorbar": {"title": "log₁₀ of<br>the norm"}}
        figure.add_trace(Heatmap(z=decades, **shades), 1, column)
        figure.update_xaxes(title="k, where the weight is used", col=column)
    figure.update_yaxes(title="t, whose loss it is", col=1)
    write(figure, out, "terms", "Which terms carry the gradient of the recurrent weights")
