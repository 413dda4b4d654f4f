"""The cliff in the error of one recurrent unit, and what each way of clipping makes of it."""

# --8<-- [start:surface]
import matplotlib.pyplot as plt
import torch

import unvanish


def error(w, b):
    x = torch.full_like(w, 0.5)
    for _ in range(50):
        x = w * torch.sigmoid(x) + b
    return (torch.sigmoid(x) - 0.7) ** 2


def descend(clip, steps=120, rate=0.5):
    at = torch.tensor([4.8, -2.3], dtype=torch.float64, requires_grad=True)  # w, b
    path = [at.detach().clone()]
    for _ in range(steps):
        (at.grad,) = torch.autograd.grad(error(*at), at)
        if clip is not None:
            clip([at])
        with torch.no_grad():
            at -= rate * at.grad
        path.append(at.detach().clone())
    return torch.stack(path)


paths = {
    "no clip": descend(None),
    "by norm": descend(unvanish.clip.ByNorm(0.05)),
    "by value": descend(unvanish.clip.ByValue(0.05)),
    "random step": descend(unvanish.clip.RandomStep(0.05)),
}
for name, path in paths.items():
    jump = path.diff(dim=0).norm(dim=1).max()
    print(f"{name:12} longest step {jump:6.3f}, median error at the end {error(*path[-40:].T).median():.4f}")
# --8<-- [end:surface]


# --8<-- [start:figure]
w, b = torch.linspace(3.8, 5.8, 301).double(), torch.linspace(-3.2, -1.5, 301).double()
plt.figure(figsize=(5.4, 3.8))
surface = error(*torch.meshgrid(w, b, indexing="xy"))
plt.imshow(surface, origin="lower", extent=(3.8, 5.8, -3.2, -1.5), aspect="auto")
plt.colorbar(label="error")
for name, colour in (("no clip", "tab:red"), ("by norm", "white")):
    plt.plot(*paths[name].T, "o-", color=colour, markersize=3, linewidth=1, label=name)
plt.xlim(3.8, 5.8)
plt.ylim(-3.2, -1.5)
plt.xlabel("w")
plt.ylabel("b")
plt.legend(facecolor="0.5")
plt.show()
# --8<-- [end:figure]


# --8<-- [start:value]
at = torch.zeros(2, requires_grad=True)
for clip in (unvanish.clip.ByNorm(1.0), unvanish.clip.ByValue(1.0)):
    at.grad = torch.tensor([100.0, 2.0])
    clip([at])
    print(f"{type(clip).__name__}: (100, 2) becomes", [round(value, 3) for value in at.grad.tolist()])
# --8<-- [end:value]


# --8<-- [start:batches]
torch.manual_seed(0)
x = torch.randn(50, 64, 2)
target = torch.where(torch.arange(64) % 16 == 0, 40.0, -1.0)  # a few rows err by far the most


class Reader(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = torch.nn.RNN(2, 16), torch.nn.Linear(16, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1]).squeeze(-1)


def squared(y, t):
    return (y - t).square().mean()


model = Reader()
clip = unvanish.clip.ByNorm(1.0)
for parts in (2, 8, 64):
    found = unvanish.clip.bias(model, x, squared, clip, parts=parts, targets=target)
    print(f"batches of {64 // parts:2} rows: the mean of the clipped steps is turned by {found.angle:.0f}°")
# --8<-- [end:batches]


# --8<-- [start:asserts]
assert paths["no clip"].diff(dim=0).norm(dim=1).max() > 10
assert error(*paths["by norm"][-40:].T).median() < 0.01
# --8<-- [end:asserts]
