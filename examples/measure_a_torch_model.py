"""Look along time into a model that knows nothing of this package: a tanh RNN beside an LSTM of torch.nn."""

import torch
from torch import nn

from unvanish import flow

torch.manual_seed(0)
x = torch.randn(100, 16, 8)  # time, batch, input
reach = {}
for layer in (nn.RNN(8, 64), nn.LSTM(8, 64)):
    # A forget gate that begins open: the remedy of Gers et al. (2000), seen in the reach.
    if isinstance(layer, nn.LSTM):
        layer.bias_ih_l0.data[64:128] = 4.0
    with flow.record(layer) as recording:
        layer(x)[0][-1].square().sum().backward()
    norms = recording["l0"].norms  # (time, states): the gradient of this very loss at every step
    found = flow.profile(layer, x)
    name = type(layer).__name__
    reach[name] = found.reach
    print(f"{name}: ‖∂L/∂h‖ at the first and last step {norms[0, 0]:.1e}, {norms[-1, 0]:.1e}; ", end="")
    print(f"rate {found.rate:+.3f} nats per step, reach {found.reach} steps")

assert reach["RNN"] < 20 < reach["LSTM"], reach
