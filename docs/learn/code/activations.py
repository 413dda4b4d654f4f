"""Activation functions, and the slopes that a gradient meets on its way back."""

# --8<-- [start:slopes]
import matplotlib.pyplot as plt
import torch

x = torch.linspace(-6, 6, 601, dtype=torch.float64, requires_grad=True)
functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
slopes = {name: torch.autograd.grad(f(x).sum(), x)[0] for name, f in functions.items()}
for name, slope in slopes.items():
    print(f"{name:8} steepest slope {slope.max():.2f}")
# --8<-- [end:slopes]


# --8<-- [start:figure]
at = x.detach()
for name, slope in slopes.items():
    plt.plot(at, slope, label=f"{name}′")
plt.xlabel("what the unit adds up, x")
plt.ylabel("slope")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:twenty]
for name in ("sigmoid", "tanh"):
    usual = float((slopes[name] * torch.exp(-(at**2) / 2)).sum() / torch.exp(-(at**2) / 2).sum())
    print(f"{name}: mean slope {usual:.2f} for x ~ N(0, 1); after twenty in a row {usual**20:.0e} is left")
# --8<-- [end:twenty]


# --8<-- [start:asserts]
assert float(slopes["sigmoid"].max()) == 0.25
assert float(slopes["tanh"].max()) == 1
assert 0.25**20 < 1e-12
# --8<-- [end:asserts]
