"""Gates: why the gradient survives, and when it does not."""

# --8<-- [start:path]
import matplotlib.pyplot as plt
import torch

import unvanish

x = torch.randn(301, 8, 4, generator=torch.Generator().manual_seed(0))


def measured(cell, **keywords):
    torch.manual_seed(0)
    layer = unvanish.Recurrent(cell, 4, 64, **keywords)
    return layer, unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1), draws=4)


layer, _ = measured("lstm", init="chrono:300")
block = unvanish.flow.jacobian(layer, x).block("c", "c")  # ∂c[t]/∂c[t-1], (B, H, H)
gates = unvanish.flow.saturation(layer, x)
kept = block.diagonal(0, 1, 2).mean()
print(f"mean of the forget gate {gates['f'].mean:.3f}; mean of the diagonal of ∂c/∂c {kept:.3f}")
print(gates)
# --8<-- [end:path]


# --8<-- [start:cells]
for cell in ("simple_gru", "gru_reset_before", "lstm", "peephole_lstm"):
    plain, begun = measured(cell)[1], measured(cell, init="chrono:300")[1]
    at_least = "≥ " if begun.censored else ""
    print(f"{cell:18} reach {plain.reach:3}; with gates begun for 300 steps {at_least}{begun.reach}")
# --8<-- [end:cells]


# --8<-- [start:figure]
for bias in (0.0, 1.0, 2.0, 4.0):
    _, profile = measured("lstm", init=f"forget:{bias:g}")
    plt.semilogy(profile.norms, label=f"forget bias {bias:g}")
plt.axhline(0.01, color="0.6", linestyle=":")
plt.ylim(1e-6, 3)
plt.xlabel("steps back")
plt.ylabel("gradient left")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:asserts]
assert abs(gates["f"].mean - kept) < 0.05
assert measured("lstm", init="chrono:300")[1].reach > 20 * measured("lstm")[1].reach
# --8<-- [end:asserts]
