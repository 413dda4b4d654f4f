"""The linear recurrence h[t] = W h[t-1], taken apart by its eigenvectors."""

# --8<-- [start:parts]
import matplotlib.pyplot as plt
import numpy as np

import unvanish

turn = 0.3
rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
matrices = {
    "turns, shrinks by 0.9": 0.9 * rotation,
    "stretches by 1.1": np.array([[1.1, 0.0], [0.3, 0.6]]),
    "shrinks, but grows before": np.array([[0.9, 4.0], [0.0, 0.7]]),
}
for name, W in matrices.items():
    print(f"{name:26}", unvanish.flow.linear(W, 60))
# --8<-- [end:parts]


# --8<-- [start:figure]
for name, W in matrices.items():
    found = unvanish.flow.linear(W, 60)
    (line,) = plt.semilogy(found.send_forward([1, 1]).norms, label=name)
    plt.semilogy(found.send_back([1, 1]).norms, ":", color=line.get_color())
plt.xlabel("k, steps")
plt.ylabel("‖Wᵏ h‖; dotted: ‖(Wᵏ)ᵀ v‖")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:closed]
W = matrices["turns, shrinks by 0.9"]
found = unvanish.flow.linear(W, 60)
differ = np.abs(np.linalg.matrix_power(W, 30) - found.power(30)).max()
print(f"W³⁰ by 30 products, and as Σ λᵢ³⁰ rᵢ lᵢ, differ by {differ:.0e}")
print("rate", round(found.rate, 4), "= log of the spectral radius", round(np.log(0.9), 4))
# --8<-- [end:closed]


# --8<-- [start:asserts]
assert abs(found.rate - np.log(0.9)) < 1e-12
assert unvanish.flow.linear(matrices["shrinks, but grows before"], 60).growth > 5
# --8<-- [end:asserts]
