"""A state that stays bounded says nothing of the gradient."""

# --8<-- [start:networks]
import matplotlib.pyplot as plt
import torch

import unvanish

torch.manual_seed(0)
U = torch.rand(16, 16, dtype=torch.float64)  # positive, so that no unit of the ReLU dies
U *= 1.2 / torch.linalg.eigvals(U).abs().max()
x = torch.rand(80, 4, 1, dtype=torch.float64)
forward, back = {}, {}
for name in ("tanh", "relu"):
    layer = unvanish.RNN(1, 16, nonlinearity=name, dtype=torch.float64, bias=False)
    with torch.no_grad():
        layer["U_h"].copy_(U)
        layer["W_h"].fill_(0.5)
        forward[name] = layer(x)[0].square().mean((1, 2)).sqrt()
    back[name] = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1))
    print(f"{name}: state at the end {forward[name][-1]:9.2f}, gradient {back[name].rate:+.2f} nats per step back")
# --8<-- [end:networks]


# --8<-- [start:figure]
for name, colour in (("tanh", "C0"), ("relu", "C1")):
    plt.semilogy(forward[name], color=colour, label=f"{name}: state, forwards")
    plt.semilogy(back[name].norms, ":", color=colour, label=f"{name}: gradient, backwards")
plt.xlabel("steps")
plt.ylabel("size")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:split]
layer = unvanish.RNN(1, 16, dtype=torch.float64, bias=False)
with torch.no_grad():
    layer["U_h"].copy_(U)
    layer["W_h"].fill_(0.5)
print(unvanish.flow.split(layer, x))
# --8<-- [end:split]


# --8<-- [start:asserts]
assert forward["tanh"].max() < 1
assert back["tanh"].rate < -0.5
assert back["relu"].rate > 0.15
# --8<-- [end:asserts]
