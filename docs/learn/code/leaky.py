"""Leaky units: a time scale for each unit."""

# --8<-- [start:one]
import matplotlib.pyplot as plt
import torch

import unvanish

x = torch.randn(401, 8, 4, generator=torch.Generator().manual_seed(0))


def measured(**keywords):
    torch.manual_seed(0)
    layer = unvanish.LeakyRNN(4, 64, **keywords)
    return unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1), draws=4)


profiles = {f"alpha = {share}": measured(alpha=share) for share in (0.0, 0.9, 0.99)}
profiles["alpha from 0 to 0.99"] = measured(alpha=unvanish.Drawn(0.0, 0.99))
for name, profile in profiles.items():
    print(f"{name:22}", profile)
# --8<-- [end:one]


# --8<-- [start:figure]
for name, profile in profiles.items():
    plt.loglog(range(1, len(profile.norms)), profile.norms[1:], label=name)
plt.axhline(0.01, color="0.6", linestyle=":")
plt.ylim(1e-4, 2)
plt.xlabel("steps back")
plt.ylabel("gradient left")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:asserts]
reaches = [profiles[f"alpha = {share}"].reach for share in (0.0, 0.9, 0.99)]
assert reaches == sorted(reaches)
assert reaches[2] > 10 * reaches[0]
# --8<-- [end:asserts]
