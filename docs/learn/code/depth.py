"""The gradient along depth: plain, residual and dense networks."""

# --8<-- [start:networks]
import matplotlib.pyplot as plt
import torch

import unvanish

torch.manual_seed(0)
x = torch.randn(16, 32)
networks = {
    "plain": unvanish.MLP(32, 32, 32, num_layers=20, activation="sigmoid"),
    "residual": unvanish.ResidualMLP(32, 32, 32, num_layers=20, activation="sigmoid"),
    "dense": unvanish.DenseMLP(32, 32, 32, num_layers=20, activation="sigmoid"),
    "highway": unvanish.HighwayMLP(32, 32, 32, num_layers=20, activation="sigmoid"),
}
found = {name: unvanish.flow.depth(network, x) for name, network in networks.items()}
for name, one in found.items():
    print(f"{name:9}", one)
# --8<-- [end:networks]


# --8<-- [start:figure]
for name, one in found.items():
    plt.semilogy(one.norms, label=name)
plt.axhline(0.01, color="0.6", linestyle=":")
plt.xlabel("layers below the last")
plt.ylabel("gradient left")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:both]
x = torch.randn(100, 8, 16)
for connect in ("plain", "residual", "dense"):
    torch.manual_seed(0)
    layer = unvanish.LSTM(16, 16, num_layers=8, connect=connect)
    print(f"8 LSTM layers, {connect}:", unvanish.flow.depth(layer, x))
# --8<-- [end:both]


# --8<-- [start:asserts]
assert found["plain"].reach < 4 < found["residual"].reach
# --8<-- [end:asserts]
