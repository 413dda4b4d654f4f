"""Watch a plain training loop: a tanh RNN that cannot remember what it has to, and an LSTM that can.

The task: the first number of a sequence decides the answer after its last one. Beside the RNN's vanishing gradient
a clip that stands after the optimiser's step is told, which cuts nothing.
"""

import torch
from torch import nn

import unvanish

LENGTH = 60


class Reader(nn.Module):
    """A recurrence, read after its last step."""

    def __init__(self, recurrence: nn.Module) -> None:
        super().__init__()
        self.recurrence, self.out = recurrence, nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.recurrence(x)[0][-1]).squeeze(-1)


def train(model: nn.Module, clip_late: bool) -> tuple[list[tuple[str, str]], float]:
    """Train for 150 steps under watch; return what was told, and the last loss."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with unvanish.watch(model, optimizer, need=LENGTH - 1, alert=lambda alert: print(f"  {alert.text}")) as watcher:
        for _ in range(150):
            x = torch.randn(LENGTH, 32, 1)
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(x), (x[0, :, 0] > 0).float())
            loss.backward()
            if not clip_late:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if clip_late:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return [(alert.kind, alert.where) for alert in watcher.alerts], float(loss.detach())


torch.manual_seed(0)
print("RNN:")
rnn = train(Reader(nn.RNN(1, 32)), clip_late=True)
lstm = nn.LSTM(1, 32)
with torch.no_grad():
    lstm.bias_ih_l0[32:64] = 5.0  # forget gates that begin open
print("LSTM whose forget gates begin open:")
remembers = train(Reader(lstm), clip_late=False)
print(f"last loss: {rnn[1]:.2f} and {remembers[1]:.2f} nats, chance is 0.69")

assert rnn[0] == [("vanishing", "recurrence.l0"), ("idle clip", "")], rnn
assert remembers[0] == [], remembers
