"""A plain PyTorch loop with a layer of this package, on sequences of different lengths.

The first number of a sequence decides the answer after its last one. The layer is watched while it is trained, and
how far its gradient reaches is measured before and after.
"""

import torch
from torch import nn

import unvanish

LONGEST = 40
torch.manual_seed(0)


class Reader(nn.Module):
    """An LSTM whose gates hold for as long as a sequence may be, read after the last step of each."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = unvanish.LSTM(1, 32, init=f"chrono:{LONGEST}")
        self.out = nn.Linear(32, 1)

    def forward(self, x_TBI: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        _, (last, _) = self.rnn(x_TBI, lengths=lengths_B)
        return self.out(last[-1]).squeeze(-1)


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sequences, their lengths, and whether their first number is over 0."""
    x = torch.randn(LONGEST, rows, 1)
    return x, torch.randint(LONGEST // 2, LONGEST + 1, (rows,)), (x[0, :, 0] > 0).float()


def reach(model: Reader) -> int:
    """How many steps back 1 % of the gradient's norm comes."""
    return unvanish.flow.profile(model.rnn, torch.randn(100, 8, 1)).reach


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), 5e-3)
before = reach(model)
with unvanish.watch(model, optimizer, need=LONGEST - 1, alert=print) as watcher:  # without alert= it warns
    for _ in range(400):
        x, lengths, y = batch(64)
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(x, lengths), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
x, lengths, y = batch(1000)
right = ((model(x, lengths) > 0) == (y > 0)).float().mean().item()
after = reach(model)
print(f"{right:.1%} right; the gradient reaches {before} steps before, {after} after")

assert right > 0.9
assert min(before, after) >= LONGEST - 1
assert all(alert.kind != "vanishing" for alert in watcher.alerts)
