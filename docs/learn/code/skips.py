"""Connections that skip steps, and connections that are deleted: τ/d factors instead of τ."""

# --8<-- [start:count]
import matplotlib.pyplot as plt
import torch

import unvanish

x = torch.randn(241, 8, 4, generator=torch.Generator().manual_seed(0))
networks = {
    "plain": {"cell": "rnn"},
    "a skip of 10 beside it": {"cell": "skip_rnn", "d": 10},
    "only the skip of 10": {"cell": "delayed_rnn", "d": 10},
}
profiles = {}
for name, keywords in networks.items():
    torch.manual_seed(0)
    layer = unvanish.Recurrent(keywords.pop("cell"), 4, 64, **keywords)
    profiles[name] = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1), draws=4)
    print(f"{name:24}", profiles[name])
# --8<-- [end:count]


# --8<-- [start:figure]
for name, profile in profiles.items():
    plt.semilogy(profile.norms, label=name)
plt.axhline(0.01, color="0.6", linestyle=":")
plt.ylim(1e-6, 3)
plt.xlabel("steps back")
plt.ylabel("gradient left")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:any]
torch.manual_seed(0)
layer = unvanish.LSTM(4, 64, skips=(10, 50))  # the same for any cell
print(unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1)))
# --8<-- [end:any]


# --8<-- [start:asserts]
assert profiles["only the skip of 10"].reach >= 5 * profiles["plain"].reach
# --8<-- [end:asserts]
