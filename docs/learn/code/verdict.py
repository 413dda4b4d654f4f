"""Is there no dependency, or did the gradient vanish? From data to verdict."""

# --8<-- [start:data]
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

import unvanish

STEPS = 80


def signals(rows, depends, seed):
    """Noise of 80 steps with a yes or no: whether its first numbers are high, or, without dependency, a coin."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, rows, 1, generator=generator)
    coin = torch.randint(2, (rows,), generator=generator).float()
    if depends:
        x[:3] += 2 * coin[:, None] - 1
    return x, coin


for depends in (True, False):
    x, y = signals(2000, depends, seed=0)
    found = unvanish.flow.dependency(x.transpose(0, 1), y.long())
    print("depends:" if depends else "coin:   ", found)
# --8<-- [end:data]


# --8<-- [start:train]
class Reader(torch.nn.Module):
    def __init__(self, **remedy):
        super().__init__()
        self.lstm, self.out = unvanish.LSTM(1, 32, **remedy), torch.nn.Linear(32, 1)

    def forward(self, x):
        return self.out(self.lstm(x)[0][-1])[:, 0]


def trained(depends, updates=200, **remedy):
    torch.manual_seed(0)
    model, losses = Reader(**remedy), []
    optimizer, clip = torch.optim.Adam(model.parameters(), 1e-2), unvanish.clip.ByNorm(1.0)
    for update in range(updates):
        x, y = signals(64, depends, seed=update)
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        clip(optimizer)
        optimizer.step()
        losses.append(float(loss.detach()))
    return model, sum(losses[-50:]) / 50


for depends in (True, False):
    print("depends:" if depends else "coin:   ", f"loss {trained(depends)[1]:.3f}; guessing has 0.693")
# --8<-- [end:train]


# --8<-- [start:verdict]
torch.manual_seed(0)
x, y = signals(64, True, seed=0)
found = unvanish.diagnose(Reader(), x, lambda answer: cross_entropy(answer, y), need=STEPS - 1)
print(found)
# --8<-- [end:verdict]


# --8<-- [start:mended]
_, loss = trained(True, init=f"chrono:{STEPS}")
_, coin = trained(False, init=f"chrono:{STEPS}")
print(f"with gates that hold {STEPS} steps: loss {loss:.3f}; on the coin {coin:.3f}")
# --8<-- [end:mended]


# --8<-- [start:asserts]
assert found.verdict == "vanishing"
assert loss < 0.45 < 0.65 < coin
# --8<-- [end:asserts]
