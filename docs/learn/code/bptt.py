"""Backpropagation through time as the double sum that it is."""

# --8<-- [start:sum]
import matplotlib.pyplot as plt
import numpy as np
import torch

import unvanish

torch.manual_seed(0)
layer = torch.nn.RNN(2, 8).double()
x = torch.randn(40, 4, 2, dtype=torch.float64)
found = unvanish.flow.decompose(layer, x, lambda h: h.square().mean((1, 2)))
terms = found.terms["weight_hh_l0"]  # [t, k]: the loss of step t, by way of the weight's use at step k
print("terms:", terms.shape, " largest difference from autograd:", f"{found.audit():.0e}")
# --8<-- [end:sum]


# --8<-- [start:figure]
norms = found.norms["weight_hh_l0"]
shown = np.where(norms > 0, norms, np.nan)
plt.figure(figsize=(4.6, 3.6))
plt.imshow(np.log10(shown / np.nanmax(shown)), origin="lower", vmin=-8, vmax=0)
plt.colorbar(label="log₁₀ of the term's norm")
plt.xlabel("k, the step whose weight is meant")
plt.ylabel("t, the step whose loss it is")
plt.show()
# --8<-- [end:figure]


# --8<-- [start:share]
share = found.share(t=39)  # of the terms of the last loss
for back in (5, 10, 20):
    print(f"{back:2} steps back or more: {share[: 40 - back].sum():.4%} of the gradient of the last loss")
# --8<-- [end:share]


# --8<-- [start:asserts]
assert found.audit() < 1e-10
np.testing.assert_allclose(terms.sum((0, 1)), found.gradient("weight_hh_l0"), rtol=1e-9)
assert share[:20].sum() < 0.01
# --8<-- [end:asserts]
