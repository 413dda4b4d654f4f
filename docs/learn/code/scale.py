"""The scale of the first weights, seen from both ends."""

# --8<-- [start:scales]
import matplotlib.pyplot as plt
import torch

import unvanish

x = torch.randn(121, 8, 16, generator=torch.Generator().manual_seed(0))
scales = [0.5, 1.0, 1.5, 2.0, 3.0, 5.0]
found = {}
for scale in scales:
    torch.manual_seed(1)
    layer = unvanish.RNN(16, 128, init="xavier_normal")  # entries of variance 1 / columns …
    with torch.no_grad():
        layer["U_h"].mul_(scale)  # … times a scale
    profile = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(1))
    flat = unvanish.flow.saturation(layer, x).activations[0].saturated
    found[scale] = profile
    print(f"scale {scale}: {profile.rate:+.3f} nats per step, reach {profile.reach:3}, {flat:.0%} of the tanh flat")
# --8<-- [end:scales]


# --8<-- [start:figure]
for scale, profile in found.items():
    plt.semilogy(profile.norms, label=f"{scale}")
plt.axhline(0.01, color="0.6", linestyle=":")
plt.ylim(1e-6, 1e3)
plt.xlabel("steps back")
plt.ylabel("gradient left")
plt.legend(title="scale")
plt.show()
# --8<-- [end:figure]


# --8<-- [start:asserts]
assert found[0.5].rate < found[1.0].rate < 0
# --8<-- [end:asserts]
