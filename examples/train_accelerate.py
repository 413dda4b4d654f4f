"""A loop with Accelerate, of a cell of one's own, watched while it is trained.

Accelerate moves model and data to the device and sums gradients over two batches; the watch is given the model and
the optimiser as they are before that, and counts the steps that the optimiser makes.
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unvanish

LENGTH = 40
CELL = unvanish.Cell(
    "leaky",
    """
    g    = sigmoid(W_g @ x[t] + U_g @ h[t-1] + b_g)
    h[t] = g * h[t-1] + (1 - g) * tanh(W_h @ x[t] + b_h)
""",
    initial={"b_g": 3.0},
)


class Reader(nn.Module):
    """Tells from the last output which sign the first number had."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = unvanish.Recurrent(CELL, 1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a logit for each row."""
        return self.out(self.rnn(x)[0][:, -1]).squeeze(-1)


torch.manual_seed(0)
x = torch.randn(3200, LENGTH, 1)
data = DataLoader(TensorDataset(x, (x[:, 0, 0] > 0).float()), batch_size=16, shuffle=True)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
bare = Reader()
optimizer = torch.optim.Adam(bare.parameters(), 1e-2)
with unvanish.watch(bare, optimizer, need=LENGTH - 1) as watcher:
    model, adam, batches = accelerator.prepare(bare, optimizer, data)
    for _ in range(2):
        for rows, y in batches:
            with accelerator.accumulate(model):
                loss = nn.functional.binary_cross_entropy_with_logits(model(rows), y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                adam.step()
                adam.zero_grad()
print(f"last loss {loss.item():.3f} nats, chance is 0.69; {watcher.step} steps; told: {watcher.alerts}")

assert loss.item() < 0.3
assert watcher.step == 200
assert not watcher.alerts
