"""The Jacobian of a step, its eigenvalues, and the product of many."""

# --8<-- [start:one]
import matplotlib.pyplot as plt
import numpy as np
import torch

import unvanish

torch.manual_seed(0)
x = torch.randn(101, 8, 4)


def network(gain):
    layer = unvanish.RNN(4, 64, init="orthogonal")
    with torch.no_grad():
        layer["U_h"].mul_(gain)  # the radius of its recurrent matrix is now this
    return layer


for gain in (0.8, 1.0, 1.3):
    found = unvanish.flow.jacobian(network(gain), x)
    print(f"matrix {gain}: spectral radius of ∂h[t]/∂h[t-1] {found.radius:.2f}, norm {found.norm:.2f}")
# --8<-- [end:one]


# --8<-- [start:figure]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
left.plot(circle.real, circle.imag, color="0.7")
for gain in (0.8, 1.0, 1.3):
    layer = network(gain)
    eigenvalues = unvanish.flow.jacobian(layer, x).eigenvalues[0]
    profile = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1), draws=8)
    left.plot(eigenvalues.real, eigenvalues.imag, ".")
    right.semilogy(profile.norms, label=f"matrix {gain}")
left.set_aspect("equal")
left.set_title("eigenvalues of one step", fontsize=10)
right.set_xlabel("steps back")
right.set_ylabel("gradient left")
right.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:product]
layer = network(1.3)
for span in (1, 10, 50):
    found = unvanish.flow.jacobian(layer, x, span=span)
    print(f"product of {span:2}: largest singular value {found.norm:.2e}")
exponents = unvanish.flow.lyapunov(layer, x)
print(f"largest Lyapunov exponent {exponents.largest:+.3f} nats per step")
# --8<-- [end:product]


# --8<-- [start:asserts]
assert all(unvanish.flow.jacobian(network(gain), x).radius < gain for gain in (0.8, 1.0, 1.3))
assert unvanish.flow.jacobian(network(0.8), x, span=50).norm < 0.8**50 * 1.01
# --8<-- [end:asserts]
