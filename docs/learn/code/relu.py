"""ReLU, identity and normalisation: straight units, and what keeps them in bounds."""

# --8<-- [start:networks]
import matplotlib.pyplot as plt
import torch

import unvanish

torch.manual_seed(0)
x = torch.randn(151, 8, 4)
networks = {
    "tanh": unvanish.RNN(4, 64),
    "ReLU from the identity": unvanish.RNN(4, 64, nonlinearity="relu", init="identity"),
    "ReLU, orthogonal": unvanish.RNN(4, 64, nonlinearity="relu", init="orthogonal"),
    "ReLU, normalised": unvanish.RNN(4, 64, nonlinearity="relu", init="orthogonal", layer_norm=True),
}
profiles = {}
for name, layer in networks.items():
    profiles[name] = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1), draws=4)
    size = float(layer(x)[0][-1].detach().square().mean().sqrt())
    print(f"{name:24} size of the state {size:8.3f}, {profiles[name]}")
# --8<-- [end:networks]


# --8<-- [start:figure]
for name, profile in profiles.items():
    plt.semilogy(profile.norms, label=name)
plt.axhline(0.01, color="0.6", linestyle=":")
plt.ylim(1e-6, 1e2)
plt.xlabel("steps back")
plt.ylabel("gradient left")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:dead]
layer = unvanish.RNN(4, 64, nonlinearity="relu")
with torch.no_grad():
    layer["b_h"].fill_(-2.0)  # a step of descent that was too long
print(unvanish.flow.saturation(layer, x).activations[0])
# --8<-- [end:dead]


# --8<-- [start:asserts]
assert profiles["ReLU from the identity"].reach > 5 * profiles["tanh"].reach
# --8<-- [end:asserts]
